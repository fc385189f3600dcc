"""Text to token ids and back: words, characters or byte pairs, with a vocabulary made of the training part."""

from __future__ import annotations

import hashlib
import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from itertools import repeat, zip_longest
from typing import TYPE_CHECKING, Any, TypeVar

from mlprun.data.text.scripts import warn_of_clauses
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
_BYTES = 256  # the vocabulary that byte pairs start from
_PORTION = 100_000  # characters that are tokenized together
# Where tokens of every kind end: a space ends all words, and belongs to the byte pairs after it.
_SEAM = re.compile(r"(?<=\S)(?=[ \n])")


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens.

    Attributes:
        kind: `words`, `characters` or `bpe`.
        lowercase: lowercase all texts first.
        ngrams: up to so many neighbouring tokens are a token too.
        tokens: the vocabulary; a token's id is its index. The first three are `SPECIAL`.
        bpe: the JSON of the `tokenizers` library, for byte pairs.
    """

    kind: str
    lowercase: bool
    ngrams: int
    tokens: tuple[str, ...]
    bpe: str = ""

    def __len__(self) -> int:
        return len(self.tokens)

    def cut(self, text: str) -> list[str]:
        """The tokens of a text, also those outside the vocabulary.

        `[MASK]` is one token. N-grams follow their first token, joined by `_`: `not good at` gives
        `not not_good good good_at at`.
        """
        if self.kind == "bpe":
            return [token for encoded in self._byte_pairs(text) for token in encoded.tokens]
        pieces = self._pieces(text)
        return pieces if self.ngrams == 1 else _interleaved([pieces, *_ngrams(pieces, self.ngrams)])

    def encode(self, text: str) -> list[int]:
        """The ids of a text's tokens; for an empty text, one `UNKNOWN`.

        A token outside the vocabulary becomes `UNKNOWN`; an n-gram outside it is left out, its parts are not.
        """
        id_of = self._ids.get
        if self.kind == "bpe":
            ids: list[int] = [i for encoded in self._byte_pairs(text) for i in encoded.ids]
        elif self.ngrams == 1:
            ids = [id_of(piece, UNKNOWN) for portion in portions(text) for piece in self._pieces(portion)]
        else:
            pieces = self._pieces(text)
            single = map(id_of, pieces, repeat(UNKNOWN))
            ids = _interleaved([single, *(map(id_of, column) for column in _ngrams(pieces, self.ngrams))])
        return ids or [UNKNOWN]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids, without padding and n-grams: exact for characters and byte pairs, else words and spaces.

        Spaces before a `[MASK]` are part of that token in byte pairs, and lost.

        Raises:
            DataError: an id outside the vocabulary.
        """
        ids = [int(i) for i in ids if i != PADDING]
        if ids and not 0 <= min(ids) <= max(ids) < len(self):
            raise DataError(f"no token has the id {max(ids, key=abs)}: the vocabulary has {len(self)}")
        if self.kind == "bpe":
            text: str = self._bpe.decode(ids, skip_special_tokens=False)
            return text
        tokens = [self.tokens[i] for i in ids]
        if self.ngrams > 1:
            tokens = [token for token in tokens if not is_ngram(token)]
        if self.kind == "characters":
            return "".join(tokens)
        return _AFTER_OPENING.sub(r"\1", _BEFORE_CLOSING.sub("", " ".join(tokens)))

    def to_plain(self) -> dict[str, Any]:
        """The fields as plain values, for a checkpoint; the inverse of `from_plain`."""
        return asdict(self) | {"tokens": list(self.tokens)}

    def digest(self) -> str:
        """`sha256:…` of the fields: equal digests mean equal ids."""
        return f"sha256:{hashlib.sha256(json.dumps(self.to_plain()).encode()).hexdigest()}"

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> Tokenizer:
        """The inverse of `to_plain`; DataError for other values."""
        try:
            lowercase, ngrams = bool(plain["lowercase"]), int(plain["ngrams"])
            tokens = tuple(map(str, plain["tokens"]))
            tokenizer = cls(str(plain["kind"]), lowercase, ngrams, tokens, str(plain["bpe"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"is no tokenizer: {type(error).__name__}: {error}") from error
        if tokens[: len(SPECIAL)] != SPECIAL:
            raise DataError(f"is no tokenizer: its vocabulary does not begin with {' '.join(SPECIAL)}")
        return tokenizer

    def _pieces(self, text: str) -> list[str]:
        """The words or characters of a text, without n-grams."""
        text = self._plain(text)
        if self.kind == "words":
            return _words().findall(text)
        return _CHARACTERS.findall(text) if SPECIAL[MASK] in text else list(text)

    def _byte_pairs(self, text: str) -> Iterator[Any]:
        """The library's encodings of a text, portion by portion."""
        return (self._bpe.encode(self._plain(portion), add_special_tokens=False) for portion in portions(text))

    def _plain(self, text: str) -> str:
        """Lowercase `text` but for `[MASK]`; for words, combine letters and accents into one character each (NFC)."""
        text = text.lower().replace("[mask]", SPECIAL[MASK]) if self.lowercase else text
        return unicodedata.normalize("NFC", text) if self.kind == "words" else text

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {token: index for index, token in enumerate(self.tokens)}

    @cached_property
    def _bpe(self) -> Any:
        return _library().Tokenizer.from_str(self.bpe)


def make_tokenizer(
    texts: Iterable[str], *, kind: str, lowercase: bool, vocab_size: int, min_frequency: int, ngrams: int
) -> Tokenizer:
    """A tokenizer whose vocabulary is made of `texts`, in any order.

    The vocabulary is the three special tokens and the most frequent others, sorted by characters among equally
    frequent ones. Byte pairs begin with all 256 bytes, so that no text is unknown, and the most frequent pair becomes
    a token until there are enough (Sennrich et al., 2016, arXiv:1508.07909).

    Args:
        kind, lowercase, ngrams: see `Tokenizer`.
        vocab_size: largest number of tokens, including the special ones.
        min_frequency: leave out tokens (for byte pairs: do not join pairs) that occur less often.

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
        problem = "byte pairs are joined by frequency; they have no n-grams"
        raise ConfigError("data.text.ngrams", ngrams, problem, "set data.text.ngrams=1, or data.text.tokens=words")
    least = len(SPECIAL) + (_BYTES if kind == "bpe" else 1)
    if vocab_size < least:
        smallest = "the three special tokens and all 256 bytes" if kind == "bpe" else "three special tokens and another"
        remedy = f"{least} or more for {kind}"
        remedy += ", and one more per joined pair, for example 1000 in total" * (kind == "bpe")
        raise ConfigError("data.text.vocab_size", vocab_size, f"is too small for {smallest}", remedy)
    if kind == "bpe":
        return _learn_bpe(texts, lowercase, vocab_size, min_frequency)
    rule = Tokenizer(kind, lowercase, ngrams, SPECIAL)
    counts: Counter[str] = Counter()
    for text in texts:
        for portion in portions(text) if ngrams == 1 else (text,):
            counts.update(rule.cut(portion))
    counts.pop(SPECIAL[MASK], None)  # in the text, and in the vocabulary already
    if not counts:
        raise DataError(f"there are no {kind} in the training texts: they are empty")
    if kind == "words":
        warn_of_clauses([token for token in counts if not is_ngram(token)])
    ranked = sorted((-count, token) for token, count in counts.items() if count >= min_frequency)
    if not ranked:
        problem = f"leaves no token: the most frequent one occurs {max(counts.values())} times"
        remedy = "set data.text.min_frequency=1, or use more text"
        raise ConfigError("data.text.min_frequency", min_frequency, problem, remedy)
    return Tokenizer(kind, lowercase, ngrams, (*SPECIAL, *(token for _, token in ranked[: vocab_size - len(SPECIAL)])))


def encode_all(texts: Iterable[str], tokenizer: Tokenizer, max_length: int) -> Tensor:
    """The ids of all texts, int32 of shape (N, max_length), cut or padded at their end."""
    return encode_with_lengths(texts, tokenizer, max_length)[0]


def encode_with_lengths(texts: Iterable[str], tokenizer: Tokenizer, max_length: int) -> tuple[Tensor, Tensor]:
    """`encode_all`, and the lengths before texts are cut, int64 of shape (N,)."""
    import numpy as np
    import torch

    rows, lengths = [], []
    for text in texts:
        row = np.zeros(max_length, np.int32)
        ids = tokenizer.encode(text)
        lengths.append(len(ids))
        row[: len(ids)] = ids[:max_length]
        rows.append(row)
    all_ids = torch.from_numpy(np.stack(rows) if rows else np.zeros((0, max_length), np.int32))
    return all_ids, torch.tensor(lengths, dtype=torch.int64)


def portions(text: str) -> Iterator[str]:
    """Split a long text where no token is split.

    So a corpus in one file takes little more memory than its ids: byte pairs take a hundred bytes per character.
    """
    start = 0
    while len(text) - start > _PORTION and (seam := _SEAM.search(text, start + _PORTION)):
        yield text[start : seam.start()]
        start = seam.start()
    yield text[start:]


@cache
def _words() -> re.Pattern[str]:
    """`[MASK]`; a number with its points and commas; a word with its inner apostrophes; any other character by itself.

    Unicode's marks (accents, vowel signs, emoji variations) and joiners belong to the character before them, as in
    Unicode Standard Annex 29, rule WB4: `re` has no class for them, and `\\w` excludes them.
    """
    runs: list[list[int]] = []  # first and last of each; `re` is four times as fast with runs as with all characters
    for code in (*range(0x300, 0x20000), *range(0xE0100, 0xE01F0)):  # ranges of all marks
        if unicodedata.category(chr(code))[0] == "M" or chr(code) in _JOINERS:
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    marks = f"[{''.join(f'{chr(first)}-{chr(last)}' for first, last in runs)}]"
    word = rf"[^\W_]+(?:{marks}+[^\W_]*)*"
    return re.compile(rf"\[MASK\]|\d+(?:[.,]\d+)+|{word}(?:['’]{word})*|[^\s_]{marks}*|_")


def _ngrams(pieces: Sequence[str], longest: int) -> list[list[str]]:
    """For each length from 2 on, the n-grams that begin at each piece."""
    return [list(map("_".join, zip(*(pieces[i:] for i in range(n)), strict=False))) for n in range(2, longest + 1)]


def _interleaved(columns: Sequence[Iterable[T | None]]) -> list[T]:
    """The first of each column, the second of each …, without None; columns may have different lengths."""
    return [value for row in zip_longest(*columns) for value in row if value is not None]


def is_ngram(token: str) -> bool:
    """No single word or character contains `_`, except `_` itself."""
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
    # `[PAD]` in a text is five characters; only [MASK] may be typed
    (mask,) = (token for token in state["added_tokens"] if token["id"] == MASK)
    # A byte pair includes the space before its word, and so must the mask that replaces it.
    state["added_tokens"] = [mask | {"lstrip": True}]
    vocabulary: dict[str, int] = state["model"]["vocab"]
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return Tokenizer("bpe", lowercase, 1, tuple(tokens), json.dumps(state, sort_keys=True, ensure_ascii=False))


def _library() -> Any:
    """The `tokenizers` library, on one thread: several runs share the cores, and threads do not survive a fork."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import tokenizers
    except ImportError as error:
        problem = f"needs the tokenizers library ({error})"
        raise ConfigError("data.text.tokens", "bpe", problem, "pip install 'mlprun[text]'") from error
    return tokenizers
