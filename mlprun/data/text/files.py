"""Files of text, their pieces and their vocabulary."""

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

from mlprun.data.copies import warn_of_copies
from mlprun.data.folders import split_folders
from mlprun.data.listing import Unused, files_below, scan, sizes_of
from mlprun.data.text.tokenizer import SPECIAL, Tokenizer, make_tokenizer
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.files import expand_home, open_to_read
from mlprun.formatting import as_typed
from mlprun.runs import checkpoint

log = logging.getLogger("mlprun")
Text = Mapping[str, Any]


def list_files(root: str | os.PathLike[str] | None) -> tuple[list[str], list[str]]:
    """The files of the training part and of the test part, which may be empty."""
    if root is None:
        raise DataError("data.root has no value\n  add data.root=PATH, a .txt file or a folder of them")
    path = expand_home(root)
    if path.is_file():
        return [str(path)], []
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder\n  data.root must be a .txt file or a folder of them")
    parts = split_folders(path, lambda split: bool(files_below(split, "texts")))
    if "train" not in parts:
        parts = {"train": path}
    listed = {part: scan(folder, "texts") for part, folder in parts.items()}
    train, test = (listed.get(part, ([], []))[0] for part in ("train", "test"))
    if not train:
        raise DataError(f"{path}: no texts in this folder (looked for .txt)")
    if "val" in parts:
        log.warning("%s is not used: val is the end of the training text", parts["val"])
    warn_of_copies(path, {"train": sizes_of(train), "test": sizes_of(test)}, inside=False)
    unused = Unused()
    for part, (used, others) in listed.items():
        unused.add(others if part != "val" else (), used)
    unused.report(path, len(train) + len(test), "texts")
    return train, test


def cut_pieces(text: str, val_fraction: float, test_fraction: float) -> tuple[str, str, str]:
    """Train, val and test, consecutive; val is a share of the text before test. No word is cut in two."""

    def end(share: float, length: int) -> int:
        if share == 0.0:
            return length
        space = re.compile(r"\s").search(text, round((1 - share) * length), length)
        return space.start() if space else round((1 - share) * length)

    before_test = end(test_fraction, len(text))
    before_val = end(val_fraction, before_test)
    return text[:before_val], text[before_val:before_test], text[before_test:]


def rows_with_words(rows: Tensor) -> Tensor:
    """The rows with an ordinary token, which can be masked."""
    return rows[(rows >= len(SPECIAL)).any(1)]


def refuse_unknown(ids: Tensor, name: str) -> None:
    if not (ids >= len(SPECIAL)).any():
        raise DataError(
            f"no token of the {name} part is in the vocabulary\n"
            "  check data.text.vocabulary, data.text.min_frequency, and the language of the text"
        )


def refuse_ngrams(text: Text) -> None:
    """ConfigError for n-grams, if tokens are to be predicted."""
    if text["ngrams"] > 1:
        problem = "overlap, so that each gives the next away"
        raise ConfigError("data.text.ngrams", text["ngrams"], problem, "set data.text.ngrams=1")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 file, with `\\n` as the end of all lines; DataError if it cannot be read or is not UTF-8."""
    try:
        with open_to_read(Path(path)) as file:
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
    """The tokenizer of `data.text`: that of another run, or one made of the training `texts`; see `make_tokenizer`."""
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
    """The tokenizer of the run or checkpoint `data.text.vocabulary`, which the config must describe correctly."""
    key, source = "data.text.vocabulary", text["vocabulary"]
    path = checkpoint.best_checkpoint(expand_home(source).absolute())
    if not path.is_file():
        remedy = "name the directory of a run that has been evaluated, or a checkpoint"
        raise ConfigError(key, source, f"there is no file {path}", remedy)
    try:
        stored = checkpoint.load(path)
        if stored.tokenizer is None:
            problem = "was no run on text: its checkpoint has no tokens"
            raise ConfigError(key, source, problem, "name a run whose data is text")
        tokenizer = Tokenizer.from_plain(stored.tokenizer)
    except (RunError, DataError) as error:
        raise ConfigError(key, source, str(error)) from error
    # the record of the run shows these keys, so they must be true
    for name, actual in (("tokens", tokenizer.kind), ("lowercase", tokenizer.lowercase), ("ngrams", tokenizer.ngrams)):
        if text[name] != actual:
            problem = f"does not match the vocabulary of {source}"
            raise ConfigError(f"data.text.{name}", text[name], problem, f"set data.text.{name}={as_typed(actual)}")
    if len(tokenizer) > text["vocab_size"]:
        rows = stored.get("config", {}).get("data", {}).get("text", {}).get("vocab_size", len(tokenizer))
        problem = f"the vocabulary of {source} has {len(tokenizer):,} tokens"
        raise ConfigError("data.text.vocab_size", text["vocab_size"], problem, f"set data.text.vocab_size={rows}")
    return tokenizer


def sha256_of(text: str, test: str = "") -> str:
    """The fingerprint of a text, or of a training and a test part, which depends on where one ends."""
    digest = hashlib.sha256(text.encode())
    if test:
        digest.update(b"\0" + test.encode())
    return f"sha256:{digest.hexdigest()}"
