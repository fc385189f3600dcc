"""Text to token ids and back: words, characters or byte pairs, with a vocabulary that is made of the training part."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import repeat, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from mlprun.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

PADDING, UNKNOWN, MASK = 0, 1, 2  # ids that every vocabulary has
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")

_CHARACTERS = re.compile(r"\[MASK\]|.", re.DOTALL)
_BEFORE_CLOSING = re.compile(r" (?=[.,;:!?%)\]}…”’](?: |$))")
_AFTER_OPENING = re.compile(r"(?<![^ ])([(\[{“‘]) ")
_JOINERS = "\u200c\u200d"  # inside words of Persian and Indian scripts, and between emoji that are drawn as one
_BYTES = 256  # what byte pairs begin with
_PORTION = 100_000  # characters that are cut together
# Where no token of any kind goes on: a space ends all words, and begins the byte pairs behind it.
_SEAM = re.compile(r"(?<=\S)(?=[ \n])")


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens.

    Attributes:
        kind: `words`, `characters` or `bpe`.
        lowercase: whether text is lowercased first.
        ngrams: up to so many neighbouring tokens are a token too.
        tokens: the vocabulary; a token's id is its place. The first three are `SPECIAL`.
        bpe: of byte pairs, what the `tokenizers` library writes as JSON; else empty.
    """

    kind: str
    lowercase: bool
    ngrams: int
    tokens: tuple[str, ...]
    bpe: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def cut(self, text: str) -> list[str]:
        """The tokens of a text, in its order, whether the vocabulary has them or not.

        `[MASK]` is one token. N-grams follow the token that they begin with, joined by `_`:
        `not good at` gives `not not_good good good_at at`.
        """
        if self.kind == "bpe":
            return [token for encoded in self._byte_pairs(text) for token in encoded.tokens]
        pieces = self._pieces(text)
        return pieces if self.ngrams == 1 else _interleaved([pieces, *_ngrams(pieces, self.ngrams)])

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens; of a text without any, one `UNKNOWN`.

        A token that the vocabulary does not have becomes `UNKNOWN`. An n-gram that it does not have is left out: its
        parts are there.
        """
        if self.kind == "bpe":
            found: list[int] = [i for encoded in self._byte_pairs(text) for i in encoded.ids]
        elif self.ngrams == 1:
            known = self._ids.get
            found = [known(piece, UNKNOWN) for portion in portions(text) for piece in self._pieces(portion)]
        else:
            pieces, id_of = self._pieces(text), self._ids.get
            single = map(id_of, pieces, repeat(UNKNOWN))
            found = _interleaved([single, *(map(id_of, column) for column in _ngrams(pieces, self.ngrams))])
        return found or [UNKNOWN]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without padding and n-grams: exact for characters and byte pairs, else words in a row.

        Spaces before a `[MASK]` are part of that token in byte pairs, and lost.

        Raises:
            DataError: an id that the vocabulary does not have.
        """
        kept = [int(i) for i in ids if i != PADDING]
        if kept and not 0 <= min(kept) <= max(kept) < len(self):
            raise DataError(f"no token has the id {max(kept, key=abs)}: the vocabulary has {len(self)}")
        if self.kind == "bpe":
            text: str = self._bpe.decode(kept, skip_special_tokens=False)
            return text
        tokens = [self.tokens[i] for i in kept]
        if self.ngrams > 1:
            tokens = [token for token in tokens if not is_ngram(token)]
        if self.kind == "characters":
            return "".join(tokens)
        return _AFTER_OPENING.sub(r"\1", _BEFORE_CLOSING.sub("", " ".join(tokens)))

    def to_plain(self) -> dict[str, Any]:
        """The whole as plain values, for a checkpoint; `from_plain` makes the same of them."""
        return {
            "kind": self.kind,
            "lowercase": self.lowercase,
            "ngrams": self.ngrams,
            "tokens": list(self.tokens),
            "bpe": self.bpe,
        }

    def digest(self) -> str:
        """`sha256:…` of the whole: two of the same give every text the same ids."""
        return f"sha256:{hashlib.sha256(json.dumps(self.to_plain()).encode()).hexdigest()}"

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Tokenizer:
        """What `to_plain` gave.

        Raises:
            DataError: it is something else.
        """
        try:
            made = cls(
                str(plain["kind"]),
                bool(plain["lowercase"]),
                int(plain["ngrams"]),
                tuple(map(str, plain["tokens"])),
                str(plain["bpe"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"is no tokenizer: {type(error).__name__}: {error}") from error
        if made.tokens[: len(SPECIAL)] != SPECIAL:
            raise DataError(f"is no tokenizer: its vocabulary does not begin with {' '.join(SPECIAL)}")
        return made

    def _pieces(self, text: str) -> list[str]:
        """The words or characters of a text, without n-grams."""
        text = self._plain(text)
        if self.kind == "words":
            return _words().findall(text)
        return _CHARACTERS.findall(text) if SPECIAL[MASK] in text else list(text)

    def _byte_pairs(self, text: str) -> Iterator[Any]:
        """What the library makes of a text, portion by portion."""
        return (self._bpe.encode(self._plain(portion), add_special_tokens=False) for portion in portions(text))

    def _plain(self, text: str) -> str:
        """`text` as the vocabulary has it; `[MASK]` stays a token.

        Of words, an accent is the same whether it is a character of its own or one with its letter (NFC).
        """
        text = text.lower().replace("[mask]", SPECIAL[MASK]) if self.lowercase else text
        return unicodedata.normalize("NFC", text) if self.kind == "words" else text

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: place for place, token in enumerate(self.tokens)}

    @cached_property
    def _bpe(self) -> Any:
        return _library().Tokenizer.from_str(self.bpe)


def make_tokenizer(
    texts: Iterable[str], *, kind: str, lowercase: bool, vocab_size: int, min_frequency: int, ngrams: int
) -> Tokenizer:
    """A tokenizer whose vocabulary is made of `texts`, whatever their order.

    The vocabulary is the three special tokens and the most frequent others; among equally frequent ones those that
    come first in the order of characters. Byte pairs begin with all 256 bytes, so that no text is unknown, and the
    most frequent pair becomes a token until there are enough (Sennrich et al., 2016, arXiv:1508.07909).

    Args:
        texts: read once; of the training part.
        kind: `words`, `characters` or `bpe`.
        lowercase: lowercase text first, here and whenever it is encoded.
        vocab_size: tokens at most, with the special ones.
        min_frequency: tokens that occur less often are left out (of byte pairs: are not joined).
        ngrams: up to so many neighbours are a token too.

    Raises:
        ConfigError: a value of `data.text` that cannot work, or byte pairs without the `tokenizers` library.
        DataError: no token is left for the vocabulary.
    """
    if kind not in ("words", "characters", "bpe"):
        raise ConfigError("data.text.tokens", kind, "not known", "choose from: words, characters, bpe")
    for key, value, least in (("min_frequency", min_frequency, 1), ("ngrams", ngrams, 1)):
        if value < least:
            raise ConfigError(f"data.text.{key}", value, f"must be {least} or more")
    if kind == "bpe" and ngrams > 1:
        raise ConfigError(
            "data.text.ngrams",
            ngrams,
            "byte pairs are joined by how often they occur; there are no n-grams of them",
            "set data.text.ngrams=1, or data.text.tokens=words",
        )
    least = len(SPECIAL) + (_BYTES if kind == "bpe" else 1)
    if vocab_size < least:
        what = "the three special tokens and all 256 bytes" if kind == "bpe" else "three special tokens and one other"
        enough = f"{least} or more for {kind}"
        enough += ", and as many more as pairs are to be joined, such as 1000 in all" * (kind == "bpe")
        raise ConfigError("data.text.vocab_size", vocab_size, f"is too small for {what}", enough)
    if kind == "bpe":
        return _learn_bpe(texts, lowercase, vocab_size, min_frequency)
    rule = Tokenizer(kind, lowercase, ngrams, SPECIAL)
    counts: Counter[str] = Counter()
    for text in texts:
        for portion in portions(text) if ngrams == 1 else (text,):
            counts.update(rule.cut(portion))
    counts.pop(SPECIAL[MASK], None)  # typed by a user, and there already
    if not counts:
        raise DataError(f"there are no {kind} in the training texts: they are empty")
    kept = [(-count, token) for token, count in counts.items() if count >= min_frequency]
    if not kept:
        raise ConfigError(
            "data.text.min_frequency",
            min_frequency,
            f"leaves no token: the most frequent one occurs {max(counts.values())} times",
            "set data.text.min_frequency=1, or use more text",
        )
    kept.sort()
    return Tokenizer(kind, lowercase, ngrams, (*SPECIAL, *(token for _, token in kept[: vocab_size - len(SPECIAL)])))


def encode_all(texts: Iterable[str], tokenizer: Tokenizer, max_length: int) -> Tensor:
    """The ids of all texts, int32 of shape (N, max_length): cut at their end, or padded there with `PADDING`."""
    import numpy as np
    import torch

    rows = []
    for text in texts:
        row = np.zeros(max_length, np.int32)
        ids = tokenizer.encode(text)[:max_length]
        row[: len(ids)] = ids
        rows.append(row)
    return torch.from_numpy(np.stack(rows) if rows else np.zeros((0, max_length), np.int32))


def portions(text: str) -> Iterator[str]:
    """A long text in parts that have the same tokens one after another as the whole, and together its characters.

    So a corpus in one file takes little more memory than its ids: byte pairs take a hundred bytes of it a character.
    """
    start = 0
    while len(text) - start > _PORTION and (seam := _SEAM.search(text, start + _PORTION)):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


@cache
def _words() -> re.Pattern[str]:
    """`[MASK]`; a number with its points and commas; a word with its inner apostrophes; any other mark by itself.

    What Unicode calls marks (accents, vowel signs, variations of an emoji) and joiners belong to the character before
    them, as in Unicode Standard Annex 29, rule WB4: `re` has no class of them, and a `\\w` leaves them out.
    """
    runs: list[list[int]] = []  # first and last of each; `re` is four times as fast with them as with all characters
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):  # all marks lie in these
        if unicodedata.category(chr(code))[0] == "M" or chr(code) in _JOINERS:
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    marks = f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in runs)}]"
    word = rf"[^\W_]+(?:{marks}+[^\W_]*)*"
    return re.compile(rf"\[MASK\]|\d+(?:[.,]\d+)+|{word}(?:['’]{word})*|[^\s_]{marks}*|_")


def _ngrams(pieces: Sequence[str], longest: int) -> list[list[str]]:
    """For each length from 2 on, what every piece and its next neighbours make together."""
    return [list(map("_".join, zip(*(pieces[i:] for i in range(n)), strict=False))) for n in range(2, longest + 1)]


def _interleaved(columns: Sequence[Iterable[T | None]]) -> list[T]:
    """The first of each column, the second of each …; None and what a column is too short for are left out."""
    return [value for row in zip_longest(*columns) for value in row if value is not None]


def is_ngram(token: str) -> bool:
    """No single word or character holds `_` besides `_` itself."""
    return len(token) > 1 and "_" in token


def _learn_bpe(texts: Iterable[str], lowercase: bool, vocab_size: int, min_frequency: int) -> Tokenizer:
    library = _library()
    rule = Tokenizer("bpe", lowercase, 1, SPECIAL)
    learner = library.Tokenizer(library.models.BPE())
    learner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(SPECIAL),
        initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    learner.train_from_iterator((rule._plain(portion) for text in texts for portion in portions(text)), trainer)
    state = json.loads(learner.to_str())
    # `[PAD]` in a text is five characters; of the special tokens only [MASK] may be typed
    (mask,) = (token for token in state["added_tokens"] if token["id"] == MASK)
    # A byte pair holds the space before its word, and so does the mask that hides it: no token stands between.
    state["added_tokens"] = [mask | {"lstrip": True}]
    vocabulary: dict[str, int] = state["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return Tokenizer("bpe", lowercase, 1, tuple(tokens), json.dumps(state, sort_keys=True, ensure_ascii=False))


def _library() -> Any:
    """The `tokenizers` library, on one thread: runs go side by side, and its threads do not survive a fork.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ImportError as error:
        raise ConfigError(
            "data.text.tokens", "bpe", f"needs the tokenizers library ({error})", "pip install 'mlprun[text]'"
        ) from error
    return tokenizers
