"""The IMDB reviews: downloaded, checked and unpacked."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tarfile
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path

from mlprun.data.download import download
from mlprun.data.folders import class_files
from mlprun.data.source import Source
from mlprun.data.text.documents import text_folder
from mlprun.data.text.files import Text
from mlprun.data.text.language_model import masked_documents
from mlprun.errors import DataError

log = logging.getLogger("mlprun")
IMDB = "aclImdb"  # what the archive unpacks to
IMDB_ARCHIVE = "aclImdb_v1.tar.gz"
IMDB_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"
IMDB_MIRRORS = ("http://ai.stanford.edu/~amaas/data/sentiment/",)
IMDB_CLASSES = ("neg", "pos")
_IMDB_MEMBER = re.compile(r"(?:\./)?aclImdb/(train|test)/(neg|pos|unsup)/(\w+\.txt)")


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
    return masked_documents(train, test, text, str(folder))
