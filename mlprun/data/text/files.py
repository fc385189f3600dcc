"""Files of text: read, cut into pieces, and with or without a vocabulary of their own."""

from __future__ import annotations

import codecs
import hashlib
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mlprun.data.folders import files_below
from mlprun.data.text.tokenizer import SPECIAL, UNKNOWN, Tokenizer, make_tokenizer
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.runs import checkpoint

log = logging.getLogger("mlprun")
MUCH_UNKNOWN = 0.1  # share of the training tokens above which a language model is warned
Text = Mapping[str, Any]


def list_files(root: str | os.PathLike[str] | None) -> tuple[list[str], list[str]]:
    """The files of the training part and of the test part, which may be none."""
    if root is None:
        raise DataError("data.root has no value\n  add data.root=PATH, a .txt file or a folder of them")
    path = Path(root).expanduser()
    if path.is_file():
        return [str(path)], []
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder\n  data.root names a .txt file or a folder of them")
    train, test = (files_below(p, "texts") if p.is_dir() else [] for p in (path / "train", path / "test"))
    if not train:
        train, test = files_below(path, "texts"), []
    if not train:
        raise DataError(f"{path}: no texts in this folder (looked for .txt)")
    return train, test


def cut_pieces(whole: str, val_fraction: float, test_fraction: float) -> tuple[str, str, str]:
    """Train, val and test in a row; val is a share of what test leaves. No word is cut in two."""

    def end(share: float, length: int) -> int:
        if share == 0.0:
            return length
        space = re.compile(r"\s").search(whole, round((1 - share) * length), length)
        return space.start() if space else round((1 - share) * length)

    before_test = end(test_fraction, len(whole))
    before_val = end(val_fraction, before_test)
    return whole[:before_val], whole[before_val:before_test], whole[before_test:]


def rows_with_words(rows: Tensor) -> Tensor:
    """The rows that have an ordinary token, which can be masked."""
    return rows[(rows >= len(SPECIAL)).any(1)]


def refuse_unknown(ids: Tensor, name: str) -> None:
    if not (ids >= len(SPECIAL)).any():
        raise DataError(
            f"no token of the {name} part is in the vocabulary\n"
            "  see data.text.vocabulary and data.text.min_frequency; is it text of the same language?"
        )


def warn_of_unknown(ids: Tensor, tokenizer: Tokenizer, text: Text) -> None:
    """Where much is unknown, accuracy and perplexity are those of telling `[UNK]`."""
    share = float((ids == UNKNOWN).double().mean())
    if share <= MUCH_UNKNOWN:
        return
    if text["vocabulary"] is not None:
        remedy = "data.text.vocabulary is of other text"
    elif len(tokenizer) == text["vocab_size"]:
        remedy = f"data.text.vocab_size={len(tokenizer)} leaves no room for them: raise it"
    else:
        remedy = f"data.text.min_frequency={text['min_frequency']} leaves them out"
    log.warning("%.0f %% of the training tokens are unknown, and count as one token, [UNK]; %s", 100 * share, remedy)


def refuse_ngrams(text: Text) -> None:
    """ConfigError where n-grams are asked for and tokens are to be told."""
    if text["ngrams"] > 1:
        raise ConfigError(
            "data.text.ngrams", text["ngrams"], "overlap, so one would tell the next", "set data.text.ngrams=1"
        )


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file of UTF-8, lines ended by `\\n` alone.

    Raises:
        DataError: it cannot be read, or is not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
        return content.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        likely = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "latin1"
        raise DataError(
            f"{path}: not UTF-8: byte 0x{content[error.start]:02x} at position {error.start:,}\n"
            f"  convert it, for example: iconv -f {likely} -t utf-8 OLD.txt > NEW.txt"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def tokenizer_of(texts: Iterable[str], text: Text) -> Tokenizer:
    """What `data.text` says of tokens: the tokenizer of another run, or one made of the training `texts`.

    Raises:
        ConfigError: a value that cannot work.
        DataError: no token is left for the vocabulary.
    """
    if text["vocabulary"] is not None:
        return _stored_tokenizer(text)
    return make_tokenizer(
        texts,
        kind=text["tokens"],
        lowercase=text["lowercase"],
        vocab_size=text["vocab_size"],
        min_frequency=text["min_frequency"],
        ngrams=text["ngrams"],
    )


def _stored_tokenizer(text: Text) -> Tokenizer:
    """That of the run or checkpoint `data.text.vocabulary`; the config must say of it what it is."""
    typed = text["vocabulary"]

    def refused(problem: str, remedy: str = "") -> ConfigError:
        return ConfigError("data.text.vocabulary", typed, problem, remedy)

    path = checkpoint.best_checkpoint(Path(typed).expanduser().absolute())
    if not path.is_file():
        raise refused(
            f"there is no file {path}", "name the directory of a run that has been evaluated, or a checkpoint"
        )
    try:
        stored = checkpoint.load(path)
    except RunError as error:
        raise refused(str(error)) from error
    if stored.tokenizer is None:
        raise refused("was no run on text: its checkpoint has no tokens", "name a run whose data is text")
    try:
        tokenizer = Tokenizer.from_plain(stored.tokenizer)
    except DataError as error:
        raise refused(str(error)) from error
    # a run's record says what its tokens are, so it must not say otherwise
    for key, own in (("tokens", tokenizer.kind), ("lowercase", tokenizer.lowercase), ("ngrams", tokenizer.ngrams)):
        if text[key] != own:
            shown = str(own).lower() if isinstance(own, bool) else own
            raise ConfigError(
                f"data.text.{key}", text[key], f"the vocabulary of {typed} is another", f"set data.text.{key}={shown}"
            )
    if len(tokenizer) > text["vocab_size"]:
        rows = stored.get("config", {}).get("data", {}).get("text", {}).get("vocab_size", len(tokenizer))
        raise ConfigError(
            "data.text.vocab_size",
            text["vocab_size"],
            f"the vocabulary of {typed} has {len(tokenizer):,} tokens",
            f"set data.text.vocab_size={rows}",
        )
    return tokenizer


def sha256_of(text: str, test: str = "") -> str:
    """Of the training part and the test part, or of all there is: what goes from one to the other changes it."""
    whole = hashlib.sha256(text.encode())
    if test:
        whole.update(b"\0" + test.encode())
    return f"sha256:{whole.hexdigest()}"
