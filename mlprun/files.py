"""Atomic, durable writes."""

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
    """Open a temporary file that replaces `path` when the block ends without an error; safe with concurrent writers.

    `path` holds either the old content or the new, which is on disk, with its name, when the block has ended. After
    an OSError, `path` is unchanged and no temporary file is left.
    """
    # Not named after `path`: TensorBoard reads every file with "tfevents" in its name.
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
