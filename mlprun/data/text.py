"""Text as examples: documents with a class, and running text for language models, from files of UTF-8.

Each function takes `text`, the values of `data.text`. The vocabulary is made of the training part (of which mlprun
carves val), never of the test part; where the files have no test part, one is carved here, before the vocabulary is
made.
"""

from __future__ import annotations

import codecs
import hashlib
import logging
import os
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset, IterableDataset

from mlprun import seeding
from mlprun.data.download import download
from mlprun.data.folders import class_files, class_folders, files_below, listing, part_folders
from mlprun.data.masking import mask_tokens
from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import carve
from mlprun.data.tokens import PADDING, SPECIAL, UNKNOWN, Tokenizer, encode_all, make_tokenizer
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.training import checkpoint

log = logging.getLogger("mlprun")

IMDB = "aclImdb"  # what the archive unpacks to
IMDB_ARCHIVE = "aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
IMDB_MIRRORS = ("http://ai.stanford.edu/~amaas/data/sentiment/",)
IMDB_CLASSES = ("neg", "pos")
_IMDB_MEMBER = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos|unsup)/(\w+\.txt)")

BETWEEN = "\n\n"  # documents of running text
MUCH_UNKNOWN = 0.1  # share of the training tokens above which a language model is warned
Text = Mapping[str, Any]


# ---------------------------------------------------------------------------------- documents with a class


class TextFiles(Dataset[tuple[Tensor, int]]):
    """Texts that are read and cut into tokens one by one, when asked for.

    An item is (int32 ids of shape (max_length,), int).

    Args:
        paths: the files.
        targets: class indices, int64 of shape (N,); readable without opening a file.
        tokenizer: its vocabulary is made already.
        max_length: tokens of an example.

    Raises:
        DataError: on reading an item, when the file is missing or is not UTF-8.
    """

    def __init__(self, paths: Sequence[str], targets: Tensor, tokenizer: Tokenizer, max_length: int) -> None:
        self.paths, self.targets, self.tokenizer, self.max_length = paths, targets, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ids = encode_all([read_text(self.paths[index])], self.tokenizer, self.max_length)
        return ids[0], int(self.targets[index])


class TextStream(IterableDataset[tuple[Tensor, int]]):
    """The same examples one after another, in an order that was shuffled once and is the same in every pass."""

    def __init__(self, files: TextFiles) -> None:
        self.files = files
        self.order = torch.randperm(len(files), generator=seeding.generator(0, "text stream")).tolist()

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return map(self.files.__getitem__, self.order)


def text_folder(
    root: str | os.PathLike[str] | None,
    text: Text,
    hold: str = "memory",
    classes: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Source:
    """The `.txt` files under `root`, one folder a class.

    `root/train/CLASS/*.txt` is the training part and `root/test/CLASS/*.txt` (else `root/val`) the test part. Without
    a `root/train`, `root/CLASS/*.txt` is all there is, and a share of each class becomes the test part.

    Args:
        root: the folder.
        text: `data.text`.
        hold: `memory` cuts all texts into tokens at the start; `files` reads and cuts a file each time it is needed,
            `stream` one after another. The ids are the same.
        classes: names of the class folders that are used, in this order; None: all, sorted.
        test_fraction: share that becomes the test part where there is none.
        split_seed: which texts those are.

    Returns:
        Examples of int32 ids (N, max_length) and int64 classes (N,), or a `TextFiles` or `TextStream` of the same.

    Raises:
        ConfigError: a value of `data.text` or `hold` that cannot work.
        DataError: `root` is missing, has no classes or an empty one, or a file is not UTF-8.
    """
    if hold not in ("memory", "files", "stream"):
        raise ConfigError("hold", hold, "not known", "choose from: memory, files, stream")
    train_folder, test_folder = part_folders(root, "texts")
    names = list(classes) if classes is not None else class_folders(train_folder, "texts")
    paths, labels, fingerprint = listing(train_folder, names, "texts", only=classes is not None)
    fingerprints = {str(train_folder): fingerprint}
    targets = torch.tensor(labels)
    if test_folder:
        found = listing(test_folder, names, "texts", only=classes is not None)
        test_paths, test_targets, fingerprints[str(test_folder)] = found[0], torch.tensor(found[1]), found[2]
    else:
        left, carved = _carved(len(paths), targets, test_fraction, split_seed)
        test_paths, test_targets = [paths[i] for i in carved], targets[carved]
        paths, targets = [paths[i] for i in left], targets[left]

    def part(paths: list[str], targets: Tensor, texts: Iterable[str] | None) -> Examples | Dataset[Any]:
        if texts is not None:
            return Examples(encode_all(texts, tokenizer, text["max_length"]), targets)
        return TextFiles(paths, targets, tokenizer, text["max_length"])

    train_texts = [read_text(path) for path in paths] if hold == "memory" else None
    tokenizer = tokenizer_of(train_texts if train_texts is not None else map(read_text, paths), text)
    train = part(paths, targets, train_texts)
    return Source(
        train=TextStream(train) if hold == "stream" and isinstance(train, TextFiles) else train,
        test=part(test_paths, test_targets, map(read_text, test_paths) if hold == "memory" else None),
        class_names=tuple(names),
        fingerprints=fingerprints,
        padding=PADDING,
        tokenizer=tokenizer,
    )


def imdb(
    root: str | os.PathLike[str], text: Text, hold: str = "memory", mirrors: Sequence[str] | None = None
) -> Source:
    """25,000 + 25,000 film reviews, negative (0) or positive (1), from `root/aclImdb`.

    Where that is missing, the archive `root/aclImdb_v1.tar.gz` is unpacked to it, and downloaded first (80 MiB) where
    it is missing too. Source: Maas et al., 2011, Learning Word Vectors for Sentiment Analysis.

    Args:
        root: the folder that holds the archive or what it unpacks to.
        text: `data.text`.
        hold: `memory`, `files` or `stream`, as for `text_folder`.
        mirrors: base URLs instead of the published one; the checksum stays.

    Raises:
        ConfigError: a value of `data.text` or `hold` that cannot work.
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    return text_folder(_imdb_folder(root, mirrors), text, hold, IMDB_CLASSES)


def _imdb_folder(root: str | os.PathLike[str], mirrors: Sequence[str] | None) -> Path:
    """`root/aclImdb`, with its reviews in it."""
    base = Path(root).expanduser()
    folder, archive = base / IMDB, base / IMDB_ARCHIVE
    wanted = [folder / part / name for part in ("train", "test") for name in IMDB_CLASSES]
    if not all(where.is_dir() for where in wanted):
        if not archive.is_file():
            try:
                download([f"{m.rstrip('/')}/{archive.name}" for m in mirrors or IMDB_MIRRORS], archive, IMDB_MD5)
            except DataError as error:
                raise DataError(
                    f"imdb: {archive.name} is not in {base} and cannot be downloaded:\n{error}\n"
                    f"  Put {archive.name}, or the folder {IMDB} that it unpacks to, there, "
                    "or name another root with data.root=DIR or MLPRUN_DATA. data=reviews needs no download."
                ) from error
        _unpack_imdb(archive, folder)
    for where in wanted:
        if (count := len(class_files(where, "texts"))) != 12_500:
            log.warning("%s holds %d reviews, the published one 12,500: a selection, or unpacked in part", where, count)
    return folder


def _unpack_imdb(archive: Path, folder: Path) -> None:
    """The reviews of the archive, by the form of their names, written under another name that becomes `folder`."""
    log.info("unpacking %s, once", archive)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    found = set()
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                named = _IMDB_MEMBER.fullmatch(member.name)
                stream = tar.extractfile(member) if named and member.isfile() else None
                if named is None or stream is None:
                    continue
                where = temporary / named[1] / named[2]
                if where not in found:
                    where.mkdir(parents=True)
                    found.add(where)
                (where / named[3]).write_bytes(stream.read())
        if len({where.name for where in found} & set(IMDB_CLASSES)) < len(IMDB_CLASSES) or len(found) < 4:
            raise tarfile.TarError(f"no {IMDB}/train/neg, train/pos, test/neg and test/pos in it")
        try:
            os.rename(temporary, folder)
        except OSError:
            if not (folder / "test" / "pos").is_dir():  # else another run was faster
                raise
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(
            f"{archive}: damaged, or not the file its name says: {error}\n"
            "  Delete it, and the next run fetches it again."
        ) from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


# -------------------------------------------------------------------------------------------- running text


def language_model(
    root: str | os.PathLike[str] | None, text: Text, val_fraction: float = 0.1, test_fraction: float = 0.1
) -> Source:
    """Running text in blocks, each token to be told from those before it in its block.

    `root` is a `.txt` file, or a folder of them (at any depth, one after another by path); `root/train` and
    `root/test` are the parts where they are there. Else the text's last `test_fraction` is the test part; and the
    last `val_fraction` of the training part is val: pieces in a row, so that no block of theirs lies among those that
    are learnt. The vocabulary is made of what is left.

    Args:
        root: the file or folder.
        text: `data.text`; `max_length` is the length of a block.
        val_fraction, test_fraction: shares, by characters, in (0, 1).

    Returns:
        inputs int32 (N, max_length), and targets of the same shape and dtype, which are one token ahead: every token
        but a part's first is a target once. The last block is filled up with `PADDING` and `IGNORED`.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: there is no text, too little of it, or none of it is known to the vocabulary.
    """
    return _blocks(*_corpus(root, val_fraction, test_fraction), text, masked=False)


def masked(
    root: str | os.PathLike[str] | None,
    text: Text,
    documents: bool = False,
    val_fraction: float = 0.1,
    test_fraction: float = 0.1,
    split_seed: int = 0,
) -> Source:
    """Texts in which masked words are to be told from both sides; masked anew in every batch (`mask_tokens`).

    Args:
        root: a `.txt` file or a folder of them, as for `language_model`.
        text: `data.text`.
        documents: each file is an example of its own, cut at `max_length`; else running text, in blocks.
        val_fraction: share of running text that is val; of documents mlprun carves it.
        test_fraction: share that becomes the test part where there is no `root/test`.
        split_seed: which documents those are.

    Returns:
        inputs and targets the same ids, int32 (N, max_length), and a `perturb`.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: there is no text, too little of it, or none of it is known to the vocabulary.
    """
    if not documents:
        return _blocks(*_corpus(root, val_fraction, test_fraction), text, masked=True)
    train, test = _files(root)
    if not test:
        left, carved = _carved(len(train), None, test_fraction, split_seed)
        train, test = [train[i] for i in left], [train[i] for i in carved]
    return _masked_documents(train, test, text, str(root))


def imdb_masked(root: str | os.PathLike[str], text: Text, mirrors: Sequence[str] | None = None) -> Source:
    """The 75,000 training reviews of IMDB, two thirds of which have no class, with masked words to be told.

    Args:
        root, mirrors: as for `imdb`.
        text: `data.text`.

    Returns:
        A review an example, as `masked` with `documents`; the test part is that of `imdb`.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    folder = _imdb_folder(root, mirrors)
    unlabelled = folder / "train" / "unsup"
    train = [path for name in IMDB_CLASSES for path in class_files(folder / "train" / name, "texts")]
    train += class_files(unlabelled, "texts") if unlabelled.is_dir() else []
    test = [path for name in IMDB_CLASSES for path in class_files(folder / "test" / name, "texts")]
    return _masked_documents(train, test, text, str(folder))


def python_docs(text: Text, masked: bool = False, val_fraction: float = 0.1, test_fraction: float = 0.1) -> Source:
    """The language reference that comes with Python (`pydoc_data`): half a million characters of English.

    What `help("while")` shows, topic after topic in the order of their names. The text differs a little between
    versions of Python; the fingerprint is of its content.

    Args:
        text: `data.text`.
        masked: tell masked words, as `masked`; else the next token, as `language_model`.
        val_fraction, test_fraction: shares in (0, 1), at the end.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: this Python came without its documentation.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            f"python_docs is the text of Python's own pydoc_data, which this Python came without: {error}\n"
            "  data=corpus data.root=FILE.txt reads any text"
        ) from error
    whole = BETWEEN.join(f"{name}\n{topics[name]}" for name in sorted(topics))
    parts = _pieces(whole, val_fraction, test_fraction)
    return _blocks(parts, {"pydoc_data/topics.py": _sha256(whole)}, text, masked=masked)


def _corpus(
    root: str | os.PathLike[str] | None, val_fraction: float, test_fraction: float
) -> tuple[tuple[str, str, str], dict[str, str]]:
    """The text of train, val and test, and its fingerprint."""
    train_files, test_files = _files(root)
    train, test = (BETWEEN.join(map(read_text, paths)) for paths in (train_files, test_files))
    fingerprints = {str(root): _sha256(train, test)}
    if not test_files:
        return _pieces(train, val_fraction, test_fraction), fingerprints
    train, val, _ = _pieces(train, val_fraction, 0.0)
    return (train, val, test), fingerprints


def _files(root: str | os.PathLike[str] | None) -> tuple[list[str], list[str]]:
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


def _pieces(whole: str, val_fraction: float, test_fraction: float) -> tuple[str, str, str]:
    """Train, val and test in a row; val is a share of what test leaves. No word is cut in two."""

    def end(share: float, length: int) -> int:
        if share == 0.0:
            return length
        space = re.compile(r"\s").search(whole, round((1 - share) * length), length)
        return space.start() if space else round((1 - share) * length)

    before_test = end(test_fraction, len(whole))
    before_val = end(val_fraction, before_test)
    return whole[:before_val], whole[before_val:before_test], whole[before_test:]


def _blocks(parts: tuple[str, str, str], fingerprints: dict[str, str], text: Text, *, masked: bool) -> Source:
    """Running text as examples."""
    refuse_ngrams(text)
    length = text["max_length"]
    tokenizer = tokenizer_of(parts[:1], text)
    examples = []
    for name, part in zip(("training", "val", "test"), parts, strict=True):
        ids = torch.tensor(tokenizer.encode(part), dtype=torch.int32)
        if len(ids) <= length:
            raise DataError(
                f"the {name} part has {len(ids)} tokens, which do not fill a block of data.text.max_length={length}\n"
                "  use more text, a smaller data.text.max_length, or a larger data.val_fraction and data.test_fraction"
            )
        _refuse_unknown(ids, name)
        if name == "training":
            _warn_of_unknown(ids, tokenizer, text)
        if masked:
            # the last block may hold nothing to tell, and then its batch has no loss
            blocks = _with_words(_filled(ids, length, PADDING))
            examples.append(Examples(blocks, blocks))
        else:
            examples.append(Examples(_filled(ids[:-1], length, PADDING), _filled(ids[1:], length, IGNORED)))
    return Source(
        train=examples[0],
        val=examples[1],
        test=examples[2],
        fingerprints=fingerprints,
        padding=PADDING,
        perturb=partial(mask_tokens, vocab_size=len(tokenizer)) if masked else None,
        tokenizer=tokenizer,
    )


def _masked_documents(train: Sequence[str], test: Sequence[str], text: Text, name: str) -> Source:
    """Files as examples with masked words."""
    refuse_ngrams(text)
    texts, test_texts = [read_text(path) for path in train], [read_text(path) for path in test]
    tokenizer = tokenizer_of(texts, text)
    parts = []
    for part, what in ((texts, "training"), (test_texts, "test")):
        ids = encode_all(part, tokenizer, text["max_length"])
        _refuse_unknown(ids, what)
        ids = _with_words(ids)
        parts.append(Examples(ids, ids))
    return Source(
        train=parts[0],
        test=parts[1],
        fingerprints={name: _sha256(BETWEEN.join(texts), BETWEEN.join(test_texts))},
        padding=PADDING,
        perturb=partial(mask_tokens, vocab_size=len(tokenizer)),
        tokenizer=tokenizer,
    )


def _filled(ids: Tensor, length: int, value: int) -> Tensor:
    """Ids of shape (T,) as rows (N, length), the last one filled up with `value`."""
    return functional.pad(ids, (0, -len(ids) % length), value=value).reshape(-1, length)


def _with_words(rows: Tensor) -> Tensor:
    """The rows that have an ordinary token, which can be masked."""
    return rows[(rows >= len(SPECIAL)).any(1)]


def _refuse_unknown(ids: Tensor, name: str) -> None:
    if not (ids >= len(SPECIAL)).any():
        raise DataError(
            f"no token of the {name} part is in the vocabulary\n"
            "  see data.text.vocabulary and data.text.min_frequency; is it text of the same language?"
        )


def _warn_of_unknown(ids: Tensor, tokenizer: Tokenizer, text: Text) -> None:
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


# ------------------------------------------------------------------------------------------ files and tokens


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

    path = Path(typed).expanduser().absolute()
    if path.is_dir():
        path = path / "best.pt" if path.name == "checkpoints" else path / "checkpoints" / "best.pt"
    if not path.is_file():
        raise refused(
            f"there is no file {path}", "name the directory of a run that has been evaluated, or a checkpoint"
        )
    try:
        stored = checkpoint.load(path)
    except RunError as error:
        raise refused(str(error)) from error
    if stored.get("tokenizer") is None:
        raise refused("was no run on text: its checkpoint has no tokens", "name a run whose data is text")
    try:
        tokenizer = Tokenizer.from_plain(stored["tokenizer"])
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


def _carved(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """The places of the texts that stay, and of those that become the test part; DataError if none stays."""
    left, chosen = carve(count, classes, fraction, seed)
    if len(left) == 0:
        raise DataError(f"data: {count} texts leave none to train on after a test part is carved\n  use more text")
    return left.tolist(), chosen.tolist()


def _sha256(text: str, test: str = "") -> str:
    """Of the training part and the test part, or of all there is: what goes from one to the other changes it."""
    whole = hashlib.sha256(text.encode())
    if test:
        whole.update(b"\0" + test.encode())
    return f"sha256:{whole.hexdigest()}"
