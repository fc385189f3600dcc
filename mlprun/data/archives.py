"""Files of known data sets: downloaded, checked and unpacked."""

from __future__ import annotations

import gzip
import hashlib
import logging
import os
import tarfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from mlprun.data.download import check_fingerprints, download, replacing
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError, suggestion

log = logging.getLogger("mlprun")
Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")


class Content(NamedTuple):
    """A data file as read: its bytes are unpacked, its fingerprint is the `sha256:…` of the file."""

    path: Path
    data: Bytes
    fingerprint: str


def find_set(name: str, sets: Mapping[str, T]) -> T:
    if name not in sets:
        raise ConfigError("name", name, "no such data set", suggestion(name, sets))
    return sets[name]


def fetch(
    name: str, path: Path, mirrors: Sequence[str], md5: str, *, wanted: str, note: str = "", instead: str = "digits"
) -> None:
    """Download `path` from the first of the `mirrors` (base URLs) that has it.

    Args:
        name: of the data set.
        md5: the published checksum.
        wanted: what a user can put into the folder instead.
        note: another line for the message.
        instead: a data set that needs no download.

    Raises:
        DataError: no mirror has it.
    """
    try:
        download([f"{mirror.rstrip('/')}/{path.name}" for mirror in mirrors], path, md5)
    except DataError as error:
        raise DataError(
            f"{name}: {path.name} is not in {path.parent} and cannot be downloaded:\n{error}\n{note}"
            f"Put {wanted} into {path.parent},\n"
            f"or name another root with data.root=DIR or MLPRUN_DATA. data={instead} needs no download."
        ) from error


def image_source(
    train: Examples, test: Examples, class_names: Sequence[str], folder: Path, files: Collection[Content]
) -> Source:
    """The finished `Source`; compares the files, now known to be sound, with those of the first use."""
    check_fingerprints(folder, {file.path.name: file.fingerprint for file in files})
    return Source(
        train=train,
        test=test,
        value_range=(0, 255),
        class_names=tuple(class_names),
        fingerprints={str(file.path): file.fingerprint for file in files},
    )


def check_labels(path: Path, labels: Bytes, num_classes: int) -> None:
    if labels.max() >= num_classes:
        position = int(np.argmax(labels >= num_classes))
        raise damaged_file(path, f"labels from 0 to {num_classes - 1}", f"{labels[position]} at position {position}")


def read_content(path: Path) -> Content:
    """Read a data file; `.gz` is unpacked in memory."""
    try:
        data = np.fromfile(path, np.uint8)
        fingerprint = _fingerprint(data)
        if path.suffix == ".gz":
            # A bytearray, because torch needs writable memory.
            data = np.frombuffer(bytearray(gzip.decompress(data.tobytes())), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise damaged_file(path, "a readable file", error) from error
    return Content(path, data, fingerprint)


def unpack(archive: Path, folder: Path, wanted: Sequence[str]) -> dict[str, Content]:
    """Read the `wanted` files of `folder` out of the archive, by exact name, and write them to the folder.

    All but the first must be there.
    """
    files = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                directory, _, file = os.path.normpath(member.name).rpartition("/")
                if directory == folder.name and file in wanted and (stream := tar.extractfile(member)):
                    data = np.frombuffer(stream.read(), np.uint8)
                    files[file] = Content(folder / file, data, _fingerprint(data))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise damaged_file(archive, "a whole tar.gz archive", error) from error
    missing = [f"{folder.name}/{file}" for file in wanted[1:] if file not in files]
    if missing:
        raise damaged_file(archive, f"{', '.join(missing)} in it", f"only {sorted(files)}")
    for file in wanted:
        if file in files:
            write_unpacked(folder / file, files[file].data)
    return files


def write_unpacked(path: Path, data: Bytes) -> None:
    """Keep `data` unpacked for the next start, if the folder can be written."""
    try:
        with replacing(path) as file:
            file.write(data.data)
    except OSError as error:
        log.info("%s is not kept unpacked: %s", path, error)


def _fingerprint(data: Any) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def damaged_file(path: Path, expected: str, found: object) -> DataError:
    return DataError(
        f"{path}: damaged, or not the file its name says: expected {expected}, found {found}\n"
        "  Delete it, and the next run fetches it again."
    )
