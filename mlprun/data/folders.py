"""Class-named folders of images, seen as names only: imports no torch, so the config layer may ask."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

from mlprun.errors import DataError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
PARTS = ("train", "test", "val")


def num_class_folders(root: str | os.PathLike[str] | None) -> int:
    """How many classes the training images under `root` have.

    Raises:
        DataError: `root` is missing or holds no class folders.
    """
    folder, _ = part_folders(root)
    names = class_folders(folder)
    if len(names) == 1:
        raise DataError(f"{folder}: one class folder alone, {names[0]}; there is nothing to tell apart")
    return len(names)


def part_folders(root: str | os.PathLike[str] | None) -> tuple[Path, Path | None]:
    """The folders that hold the class folders for training and for the test.

    `root/train` with `root/test`, or else `root/val`; `root` alone where there is no `root/train`.
    A part counts when it holds class folders, so ImageNet's unlabelled `test` leaves the place to `val`.

    Raises:
        DataError: `root` is missing, or its folders are parts (`val/`) rather than classes.
    """
    if root is None:
        raise DataError("data.root has no value\n  add data.root=FOLDER, which holds train/CLASS/*.jpg, or CLASS/*.jpg")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}\n"
            "  data.root names the folder that holds train/CLASS/*.jpg, or CLASS/*.jpg"
        )
    train, test, val = (folder / part for part in PARTS)
    if _subfolders(train):
        return train, next((part for part in (test, val) if _subfolders(part)), None)
    names = set(_subfolders(folder))
    if names and names <= set(PARTS):
        raise DataError(f"{train}: no class folders in it; expected {train}/CLASS/*.jpg, one folder a class")
    return folder, None


def class_folders(folder: Path) -> list[str]:
    """The names of the class folders in `folder`, sorted; raises `DataError` where there are none."""
    names = _subfolders(folder)
    if not names:
        raise DataError(f"{folder}: no class folders in it; expected {folder}/CLASS/*.jpg, one folder a class")
    return names


def image_files(folder: Path) -> list[str]:
    """The images anywhere under a class folder, sorted paths; links are followed, hidden files left out.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    found: list[str] = []
    seen: set[str] = set()
    for where, subfolders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        found += [os.path.join(where, f) for f in files if f.lower().endswith(EXTENSIONS) and not f.startswith(".")]
    if not found:
        raise DataError(f"{folder}: no images in this class folder (looked for {' '.join(EXTENSIONS)})")
    return sorted(found)


def _subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in `folder` that are not hidden; none where it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
