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

from mlprun.data.archives import damaged_file, fetch
from mlprun.data.folders import class_files
from mlprun.data.source import Source
from mlprun.data.text.documents import text_folder
from mlprun.data.text.files import Text
from mlprun.data.text.language_model import masked_documents
from mlprun.errors import DataError
from mlprun.files import expand_home, rename

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

    Unpacked if needed from `root/aclImdb_v1.tar.gz`, which is downloaded first (80 MiB) if it is missing too. Source:
    Maas et al., 2011, Learning Word Vectors for Sentiment Analysis.

    Args:
        text, hold: as for `text_folder`.
        mirrors: base URLs instead of the published one; the checksum stays.

    Raises:
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    return text_folder(_imdb_folder(root, mirrors), text, hold, IMDB_CLASSES)


def imdb_masked(root: str | os.PathLike[str], text: Text, mirrors: Sequence[str] | None = None) -> Source:
    """The 75,000 training reviews of IMDB, two thirds of which have no class, with masked words to predict.

    Each review is an example, as for `masked` with `documents`; the test part, arguments and errors are as for `imdb`.
    """
    folder = _imdb_folder(root, mirrors)
    unlabelled = folder / "train" / "unsup"
    train = [path for name in IMDB_CLASSES for path in class_files(folder / "train" / name, "texts")]
    train += class_files(unlabelled, "texts") if unlabelled.is_dir() else []
    test = [path for name in IMDB_CLASSES for path in class_files(folder / "test" / name, "texts")]
    return masked_documents(train, test, text, str(folder))


def _imdb_folder(root: str | os.PathLike[str], mirrors: Sequence[str] | None) -> Path:
    """`root/aclImdb`, downloaded and unpacked if needed."""
    base = expand_home(root)
    folder, archive = base / IMDB, base / IMDB_ARCHIVE
    class_folders = [folder / part / name for part in ("train", "test") for name in IMDB_CLASSES]
    if not all(each.is_dir() for each in class_folders):
        if not archive.is_file():
            wanted = f"{archive.name}, or the folder {IMDB} that it unpacks to,"
            fetch("imdb", archive, mirrors or IMDB_MIRRORS, IMDB_MD5, wanted=wanted, instead="reviews")
        _unpack_imdb(archive, folder)
    for each in class_folders:
        if (count := len(class_files(each, "texts"))) != 12_500:
            log.warning("%s holds %d reviews, the published one 12,500: a selection, or unpacked in part", each, count)
    return folder


def _unpack_imdb(archive: Path, folder: Path) -> None:
    """Unpack the reviews, by the form of their names, to a temporary name, and rename it to `folder`."""
    log.info("unpacking %s, once", archive)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.part")
    made = set()
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                match = _IMDB_MEMBER.fullmatch(member.name)
                stream = tar.extractfile(member) if match and member.isfile() else None
                if match is None or stream is None:
                    continue
                class_folder = temporary / match[1] / match[2]
                if class_folder not in made:
                    class_folder.mkdir(parents=True)
                    made.add(class_folder)
                (class_folder / match[3]).write_bytes(stream.read())
        if not made >= {temporary / part / name for part in ("train", "test") for name in IMDB_CLASSES}:
            raise tarfile.TarError(f"no {IMDB}/train/neg, train/pos, test/neg and test/pos in it")
        try:
            os.sync()  # 50,000 small files: faster than to flush each
            rename(temporary, folder)
        except OSError:
            if not (folder / "test" / "pos").is_dir():  # else another run was faster
                raise
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise damaged_file(archive, "a whole tar.gz archive", error) from error
    except OSError as error:
        raise DataError(f"{archive}: cannot be unpacked to {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
