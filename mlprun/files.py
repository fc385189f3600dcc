"""Files that are written whole or not at all, and are on the disk when that is said."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from mlprun.errors import RunError


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
