"""Folders of files, one per class. Reads names only and imports no torch, so that the config layer can use it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

from mlprun.errors import DataError

# By kind of file; messages show the first.
EXTENSIONS = {
    "images": (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
    "texts": (".txt",),
    "sounds": (".wav",),
}
PARTS = ("train", "test", "val")
NO_CLASS = "_background_noise_"  # Speech Commands: minutes of noise next to the folders of words


def num_class_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> int:
    """The number of classes of the training files under `root`, of a kind in `EXTENSIONS`; DataError below two."""
    folder, _ = part_folders(root, kind)
    names = class_folders(folder, kind)
    if len(names) == 1:
        raise DataError(f"{folder}: only one class folder, {names[0]}; a classification needs two")
    return len(names)


def part_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> tuple[Path, Path | None]:
    """The folders that hold the class folders of the training and of the test part.

    These are `root/train` and `root/test`, or else `root/val`; without `root/train`, `root` and None.
    A part needs class folders, so for ImageNet, whose `test` has no labels, `val` is the test part.

    Raises:
        DataError: `root` is missing, or its folders are parts (`val/`) rather than classes.
    """
    files = f"*{EXTENSIONS[kind][0]}"
    if root is None:
        raise DataError(f"data.root has no value\n  add data.root=FOLDER with train/CLASS/{files}, or CLASS/{files}")
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise DataError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}\n"
            f"  data.root must be a folder with train/CLASS/{files}, or CLASS/{files}"
        )
    train, test, val = (folder / part for part in PARTS)
    if _subfolders(train):
        return train, next((part for part in (test, val) if _subfolders(part)), None)
    names = set(_subfolders(folder))
    if names and names <= set(PARTS):
        raise DataError(f"{train}: no class folders in it; expected {train}/CLASS/{files}, one folder per class")
    return folder, None


def class_folders(folder: Path, kind: str = "images") -> list[str]:
    """The names of the class folders in `folder`, sorted; DataError if there are none."""
    names = _subfolders(folder)
    if not names:
        files = f"*{EXTENSIONS[kind][0]}"
        raise DataError(f"{folder}: no class folders in it; expected {folder}/CLASS/{files}, one folder per class")
    return names


class Files(NamedTuple):
    """Files and the index of their class."""

    paths: list[str]
    targets: list[int]

    def take(self, indices: Iterable[int]) -> Files:
        indices = list(indices)
        return Files([self.paths[i] for i in indices], [self.targets[i] for i in indices])


class ClassFolders(NamedTuple):
    """The files of a training part in `folder` and of a test part, with one fingerprint each, of names and sizes."""

    folder: Path
    classes: list[str]
    train: Files
    test: Files | None
    fingerprints: dict[str, str]


def list_parts(
    root: str | os.PathLike[str] | None, kind: str = "images", classes: Sequence[str] | None = None
) -> ClassFolders:
    """List the files under `root`, see `part_folders`.

    Args:
        classes: the class folders to use, in this order; None: those of the training part, sorted.

    Raises:
        DataError: `root` is missing, a class folder has no files, the test part has a class of its own, or a file
            cannot be read.
    """
    train_folder, test_folder = part_folders(root, kind)
    names = class_folders(train_folder, kind) if classes is None else list(classes)
    fingerprints: dict[str, str] = {}

    def list_files(folder: Path) -> Files:
        files = Files([], [])
        for name in class_folders(folder, kind):
            if name in names:
                paths = class_files(folder / name, kind)
                files.paths.extend(paths)
                files.targets.extend([names.index(name)] * len(paths))
            elif classes is None:
                raise DataError(f"{folder / name}: class '{name}' is not one of the {len(names)} of the training part")
        fingerprints[str(folder)] = _fingerprint(files.paths, folder)
        return files

    train = list_files(train_folder)
    return ClassFolders(train_folder, names, train, list_files(test_folder) if test_folder else None, fingerprints)


def _fingerprint(paths: Iterable[str], folder: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            size = os.path.getsize(path)
        except OSError as error:  # a broken link
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        digest.update(f"{path.removeprefix(str(folder))}\0{size}\0".encode(errors="surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def class_files(folder: Path, kind: str = "images") -> list[str]:
    """`files_below` a class folder; DataError if there are none."""
    found = files_below(folder, kind)
    if not found:
        raise DataError(f"{folder}: no {kind} in this class folder (looked for {' '.join(EXTENSIONS[kind])})")
    return found


def files_below(folder: Path, kind: str) -> list[str]:
    """Sorted paths of the files of a kind anywhere in `folder`; follows links and skips hidden files.

    Raises:
        DataError: a folder cannot be read.
    """
    endings = EXTENSIONS[kind]
    found: list[str] = []
    seen: set[str] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not s.startswith("."))
        found += [os.path.join(parent, f) for f in files if f.lower().endswith(endings) and not f.startswith(".")]
    return sorted(found)


def _subfolders(folder: Path) -> list[str]:
    """The sorted names of the folders in `folder` that are not hidden; none if it is no folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith(".") and e.name != NO_CLASS)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error
