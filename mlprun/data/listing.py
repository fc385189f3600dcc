"""Lists files and folders, without what systems leave behind; imports no torch."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from mlprun.errors import DataError
from mlprun.formatting import first_few

log = logging.getLogger("mlprun")

# By kind of file; messages show the first.
EXTENSIONS = {
    "images": (
        *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"),
        *(".jfif", ".jpe", ".pjpeg", ".pjp", ".apng", ".avif", ".dib", ".pbm", ".pnm", ".pfm", ".tga", ".mpo"),
    ),
    "texts": (".txt",),
    "sounds": (".wav",),
}
# What systems leave behind, besides hidden files: no examples, and not worth a word.
JUNK = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin", "lost+found")
NUM_NAMED = 3  # files or folders that a message names


def files_below(folder: Path, kind: str) -> list[str]:
    """Sorted paths of the files of a kind anywhere in `folder`; follows links and skips hidden files.

    Raises:
        DataError: a folder cannot be read.
    """
    return scan(folder, kind)[0]


def scan(folder: Path, kind: str) -> tuple[list[str], list[str]]:
    """`files_below`, and the other files, except for `JUNK`; both sorted."""
    endings = EXTENSIONS[kind]
    found: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    for parent, subfolders, files in os.walk(folder, followlinks=True, onerror=_refuse):
        real = os.path.realpath(parent)
        if real in seen:  # a link that leads back up
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(s for s in subfolders if not _is_junk(s))
        for name in files:
            if not _is_junk(name):
                (found if name.lower().endswith(endings) else others).append(os.path.join(parent, name))
    return sorted(found), sorted(others)


def _is_junk(name: str) -> bool:
    return name.startswith(".") or name.lower() in JUNK


def subfolder_names(folder: Path) -> list[str]:
    """The sorted names of the folders in `folder` that are not junk; none if it is no folder."""
    return _entries(folder, lambda entry: entry.is_dir())


def loose_files(folder: Path, kind: str) -> list[str]:
    """Files of a kind beside the class folders in `folder`, and links that lead nowhere, perhaps to such a folder."""
    endings = EXTENSIONS[kind]

    def is_wanted(entry: os.DirEntry[str]) -> bool:
        is_file = entry.name.lower().endswith(endings) and entry.is_file()
        return is_file or (entry.is_symlink() and not os.path.exists(entry))

    return [str(folder / name) for name in _entries(folder, is_wanted)]


def _entries(folder: Path, is_wanted: Callable[[os.DirEntry[str]], bool]) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not _is_junk(entry.name) and is_wanted(entry))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        _refuse(error)


def _refuse(error: OSError) -> NoReturn:
    raise DataError(f"{error.filename}: cannot be read: {error.strerror}") from error


def sizes_of(paths: Iterable[str]) -> dict[str, int]:
    """The size of each file in bytes; DataError if one cannot be read."""
    sizes: dict[str, int] = {}
    for path in paths:
        try:
            status = os.stat(path)
        except OSError as error:  # a broken link
            raise DataError(f"{path}: cannot be read: {error.strerror}") from error
        if not stat.S_ISREG(status.st_mode):  # a pipe or a device might never answer
            raise DataError(f"{path}: cannot be read: it is no regular file")
        sizes[path] = status.st_size
    return sizes


class Unused:
    """Files that are not used: those that say something about a used file, as `1.xml` about `1.jpg`, and others."""

    def __init__(self) -> None:
        self.beside: list[str] = []
        self.others: list[str] = []

    def add(self, unused: Sequence[str], used: Sequence[str] = ()) -> None:
        """Add files, which belong to those of the `used` ones whose name they have, but for the ending."""
        names = {Path(path).stem for path in used} if unused else ()
        for path in unused:
            (self.beside if Path(path).stem in names else self.others).append(path)

    def report(self, folder: Path, num_used: int, kind: str) -> None:
        """Warn of them; DataError if the others outnumber the files that are used."""
        unused = self.others + self.beside
        if not unused:
            return
        shown = first_few([os.path.relpath(path, folder) for path in unused], NUM_NAMED)
        problem = f"{len(unused):,} of {num_used + len(unused):,} files are not used: {shown}"
        if not all(path.lower().endswith(EXTENSIONS[kind]) for path in unused):
            problem += f"; {kind} end in {first_few(EXTENSIONS[kind], 6)}"
        if len(self.others) > num_used:
            remedy = "convert them, put them into class folders, or move them out of this folder"
            raise DataError(f"{folder}: {problem}\n  {remedy}")
        log.warning("%s: %s", folder, problem)
