"""Files of a run, which may be a stranger's: atomic, durable writes, and no way through a link or a device."""

from __future__ import annotations

import errno
import io
import os
import stat
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from mlprun.errors import RunError

if TYPE_CHECKING:
    import numpy as np


LARGEST_JSON = 64 * 2**20  # bytes of a record or a row


def open_to_write(path: Path, mode: str, encoding: str | None = None, **options: Any) -> IO[Any]:
    """`open` for a file of a run that is written or appended to.

    OSError unless it is new or a regular file with one name: a link would lead to another file, and a pipe or a device
    would block.
    """
    return open(path, mode, encoding=encoding, opener=own_file, **options)


def open_to_read(path: Path) -> io.BufferedReader:
    """`open` for a file of a run that is read; OSError for a pipe or a device, which might never answer."""
    return open(path, "rb", opener=_regular_file)


def own_file(path: str, flags: int) -> int:
    """The descriptor for `open_to_write`."""
    truncate = flags & os.O_TRUNC
    flags = (flags & ~os.O_TRUNC) | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a pipe
            raise OSError(errno.EPERM, _problem(os.lstat(path)) or error.strerror, path) from error
        raise
    try:
        if problem := _problem(os.fstat(descriptor)):
            raise OSError(errno.EPERM, problem, path)
        if truncate:
            os.ftruncate(descriptor, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _regular_file(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    mode = os.fstat(descriptor).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # Python's own `open` refuses a folder
        os.close(descriptor)
        raise OSError(errno.EPERM, "it is no regular file", path)
    return descriptor


def _problem(status: os.stat_result) -> str:
    """Why nothing is written to a file, or an empty string."""
    if not stat.S_ISREG(status.st_mode):
        return "it is a link" if stat.S_ISLNK(status.st_mode) else "it is no regular file"
    return "it has another name elsewhere (a hard link): copy it, and remove this one" if status.st_nlink > 1 else ""


def expand_home(path: str | os.PathLike[str]) -> Path:
    """`path` with the home folder for its `~`, which stays if the user has none (a container's without an entry)."""
    return Path(os.path.expanduser(path))


def make_folder(path: Path) -> None:
    """Make a folder of a run, unless it exists; OSError if its name is a link, which may lead anywhere."""
    path.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise OSError(errno.EPERM, "it is a link, and the run writes into no folder but its own", str(path))


def check_for_hydra(folder: Path, *, is_named: bool = True) -> None:
    """RunError unless what Hydra writes to the folder of a run or a sweep stays there: it follows links.

    `is_named`: the user has named the folder, which may be a link.
    """
    inside = (folder / "multirun.yaml", folder / ".hydra", *(folder / ".hydra").glob("*"))
    for path in inside if is_named else (folder, *inside):
        with suppress(FileNotFoundError):
            status = os.lstat(path)
            problem = "" if stat.S_ISDIR(status.st_mode) else _problem(status)
            if problem:
                raise RunError(f"{path} cannot be written: {problem}\n  remove it")


@contextmanager
def atomic_write(path: Path) -> Iterator[io.BufferedRandom]:
    """Open a temporary file that replaces `path` when the block ends without an error; safe with concurrent writers.

    `path` holds either the old content or the new, which is on disk, with its name, when the block has ended. After
    an OSError, `path` is unchanged and no temporary file is left.
    """
    # Not named after `path`: TensorBoard reads every file with "tfevents" in its name.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("x+b") as file:
            yield file
            file.flush()
            fsync(file.fileno())
        rename(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()


def rename(path: Path, target: Path) -> None:
    """Rename on disk, replacing a file of that name."""
    os.replace(path, target)
    sync_folder(target.parent)


@contextmanager
def naming_path(path: Path, done: str = "written") -> Iterator[None]:
    """Turn an OSError into a RunError that names the file."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be {done}: {error.strerror}") from error


def fsync(descriptor: int) -> None:
    """Flush a file to disk; does nothing on a file system without fsync."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fsync(descriptor)
    finally:
        os.close(descriptor)


def encode_png(pixels: np.ndarray[Any, Any]) -> bytes:
    from PIL import Image

    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, format="PNG")
    return encoded.getvalue()
