"""Files that are written whole or not at all, and are on the disk when that is said."""

from __future__ import annotations

import errno
import io
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from mlprun.errors import RunError

if TYPE_CHECKING:
    import numpy as np


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that takes the place of `path` when the block ends without an error.

    At every moment `path` holds either the old content or the new one; when the block has ended, the new one is on
    the disk, and so is its name. Processes that write the same file at the same time do not meet.

    Raises:
        OSError: the folder or the file cannot be written; `path` is as it was, and nothing is left beside it.
    """
    # Without the name of `path`: TensorBoard reads every file that has "tfevents" in its own.
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        with suppress(OSError):
            temporary.unlink()
    sync_folder(path.parent)


@contextmanager
def naming_path(path: Path, done: str = "written") -> Iterator[None]:
    """Tell the user which file the system refused, and why."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{path} cannot be {done}: {error.strerror}") from error


def fsync(descriptor: int) -> None:
    """Return when a file is on the disk; where the file system has no such wish, at once."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk."""
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
