"""Class-named folders of files, seen as names only: imports no torch, so the config layer may ask."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mlprun.errors import DataError

# What the files are -> how their names end; the first is what messages show.
EXTENSIONS = {
    "images": (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    "texts": (".txt",),
    "sounds": (".wav",),
}
PARTS = ("train", "test", "val")
NO_CLASS = "_background_noise_"  # Speech Commands: minutes of noise beside the folders of words


def num_class_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> int:
    """How many classes the training files under `root` have; `kind` is one of `EXTENSIONS`.

    Raises:
        DataError: `root` is missing or holds no class folders.
    """
    folder, _ = part_folders(root, kind)
    names = class_folders(folder, kind)
    if len(names) == 1:
        raise DataError(f"{folder}: one class folder alone, {names[0]}; there is nothing to tell apart")
    return len(names)


def part_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> tuple[Path, Path | None]:
    """The folders that hold the class folders for training and for the test.

    `root/train` with `root/test`, or else `root/val`; `root` alone where there is no `root/train`.
    A part counts when it holds class folders, so ImageNet's unlabelled `test` leaves the place to `val`.

    Raises:
        DataError: `root` is missing, or its folders are parts (`val/`) rather than classes.
    """
    files = f"*{EXTENSIONS[kind][0]}"
    if root is None:
        raise DataError(
            f"data.root has no value\n  add data.root=FOLDER, which holds train/CLASS/{files}, or CLASS/{files}"
        )
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}\n"
            f"  data.root names the folder that holds train/CLASS/{files}, or CLASS/{files}"
        )
    train, test, val = (folder / part for part in PARTS)
    if _subfolders(train):
        return train, next((part for part in (test, val) if _subfolders(part)), None)
    names = set(_subfolders(folder))
    if names and names <= set(PARTS):
        raise DataError(f"{train}: no class folders in it; expected {train}/CLASS/{files}, one folder a class")
    return folder, None


def class_folders(folder: Path, kind: str = "images") -> list[str]:
    """The names of the class folders in `folder`, sorted; raises `DataError` where there are none."""
    names = _subfolders(folder)
    if not names:
        files = f"*{EXTENSIONS[kind][0]}"
        raise DataError(f"{folder}: no class folders in it; expected {folder}/CLASS/{files}, one folder a class")
    return names


def listing(
    folder: Path, classes: Sequence[str], kind: str = "images", *, only: bool = False
) -> tuple[list[str], list[int], str]:
    """The files of a part, their class indices, and a fingerprint of their names and sizes.

    Args:
        folder: holds the class folders.
        classes: their names; a file's class is the place of its folder's name here.
        kind: one of `EXTENSIONS`.
        only: leave other folders out; else they are an error.

    Raises:
        DataError: a folder of another name, a class folder without files, or what cannot be read.
    """
    paths: list[str] = []
    targets: list[int] = []
    for name in class_folders(folder, kind):
        if name not in classes:
            if only:
                continue
            raise DataError(
                f"{folder / name}: class '{name}' is not one of the {len(classes)} that the training part has"
            )
        found = class_files(folder / name, kind)
        paths += found
        targets += [classes.index(name)] * len(found)
    digest = hashlib.sha256()
    for path in paths:
        try:
            size = os.path.getsize(path)
        except OSError as error:  # a link that leads nowhere
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        digest.update(f"{path.removeprefix(str(folder))}\0{size}\0".encode(errors="surrogateescape"))
    return paths, targets, f"sha256:{digest.hexdigest()}"


def class_files(folder: Path, kind: str = "images") -> list[str]:
    """The files of a kind anywhere under a class folder, sorted paths; links are followed, hidden files left out.

    Raises:
        DataError: there is none, or a folder cannot be read.
    """
    found = files_below(folder, kind)
    if not found:
        raise DataError(f"{folder}: no {kind} in this class folder (looked for {' '.join(EXTENSIONS[kind])})")
    return found


def files_below(folder: Path, kind: str) -> list[str]:
    """The same for any folder, which may have none; raises `DataError` where a folder cannot be read."""
    endings = EXTENSIONS[kind]
    found: list[str] = []
    seen: set[str] = set()
    for where, subfolders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(where)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        found += [os.path.join(where, f) for f in files if f.lower().endswith(endings) and not f.startswith(".")]
    return sorted(found)


def _subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in `folder` that are not hidden; none where it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name != NO_CLASS)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
