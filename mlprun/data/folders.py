"""Folders of files, one per class. Reads names only and imports no torch, so that the config layer can use it."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from mlprun.data.copies import warn_of_copies
from mlprun.data.listing import (
    EXTENSIONS,
    NUM_NAMED,
    Unused,
    files_below,
    loose_files,
    scan,
    sizes_of,
    subfolder_names,
)
from mlprun.errors import DataError
from mlprun.files import expand_home
from mlprun.formatting import first_few, pluralize

log = logging.getLogger("mlprun")

# Names of the folders of splits, in any case.
SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing", "eval", "evaluation"),
    "val": ("val", "valid", "validation", "dev"),
}
_SPLIT_OF = {name: split for split, names in SPLITS.items() for name in names}
NO_CLASS = "_background_noise_"  # Speech Commands: minutes of noise next to the folders of words


def num_class_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> int:
    """The number of classes of the training files under `root`, of a kind in `EXTENSIONS`; DataError below two."""
    folder = part_folders(root, kind)["train"]
    names = _distinct(class_folders(folder, kind))
    if len(names) == 1:
        inner = _subfolders(folder / names[0])
        remedy = f"\n  is it data.root={folder / names[0]}, with {_few(inner)}?" if len(inner) > 1 else ""
        raise DataError(f"{folder}: only one class folder, {names[0]}; a classification needs two{remedy}")
    return len(names)


def part_folders(root: str | os.PathLike[str] | None, kind: str = "images") -> dict[str, Path]:
    """The folders that hold the class folders of `train` and, where they exist, of `test` and `val`.

    These are the folders of splits in `root`, see `SPLITS`; `val` is the test part if there is no other. Without a
    folder for training, `root` itself is `train`. A split needs class folders, so for ImageNet, whose `test` has no
    labels, `val` is the test part.

    Raises:
        DataError: `root` is missing, its folders are splits (`val/`) rather than classes, or two are the same split.
    """
    files = f"*{EXTENSIONS[kind][0]}"
    if root is None:
        raise DataError(f"data.root has no value\n  add data.root=FOLDER with train/CLASS/{files}, or CLASS/{files}")
    folder = expand_home(root)
    if not folder.is_dir():
        raise DataError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}\n"
            f"  data.root must be a folder with train/CLASS/{files}, or CLASS/{files}"
        )
    parts = split_folders(folder, lambda split: bool(_subfolders(split)))
    if "train" in parts:
        return parts
    _check_no_split_is_a_class(folder, kind)
    return {"train": folder}


def _check_no_split_is_a_class(folder: Path, kind: str) -> None:
    """Refuse folders of splits without one for training, or under names that only contain the usual ones."""
    names = _subfolders(folder)
    if names and all(split_of(name) for name in names):
        train = folder / next((name for name in names if split_of(name) == "train"), "train")
        raise DataError(
            f"{train}: no class folders in it; expected {train}/CLASS/*{EXTENSIONS[kind][0]}, one folder per class"
        )
    for name in names:
        if split_of(name) and (both := sorted(set(_subfolders(folder / name)).intersection(names))):
            problem = f"{name} holds folders that are also beside it ({_few(both)}), so it is a split and no class"
            raise DataError(f"{folder}: {problem}\n  move the classes beside it to {folder}/train")
    nested = [name for name in names if _subfolders(folder / name) and not loose_files(folder / name, kind)]
    similar = {split: name for name in nested if (split := _split_in(name))}
    if "train" in similar and len(similar) > 1:
        problem = f"{_few(list(similar.values()))} hold folders, so they seem to be splits and no classes"
        raise DataError(f"{folder}: {problem}\n  rename them: {', '.join(similar)}")


def _split_in(name: str) -> str | None:
    """The split that a word of the name is, as in `training_set`, `seg_test` or `TrainData`; or None."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()
    words = re.sub(r"(set|data|images|imgs)\b", " ", words.replace("_", " "))
    return next((split for word in re.findall(r"[a-z]+", words) if (split := split_of(word))), None)


def split_of(name: str) -> str | None:
    """The split that a folder of this name is, or None."""
    return _SPLIT_OF.get(name.lower())


def split_folders(folder: Path, is_used: Callable[[Path], bool]) -> dict[str, Path]:
    """The folders of splits in `folder` that are used, by split; with `train`, a lone `val` becomes `test`.

    Raises:
        DataError: two of them are the same split.
    """
    found: dict[str, Path] = {}
    for name in _subfolders(folder):
        split = split_of(name)
        if split is None or not is_used(folder / name):
            continue
        if split in found:
            problem = f"{found[split].name} and {name} are both names of the {split} split"
            raise DataError(f"{folder}: {problem}\n  keep one of them: merge, rename or move the other")
        found[split] = folder / name
    if "train" in found and "val" in found and "test" not in found:
        found["test"] = found.pop("val")
    return found


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
    """The files of each part, the training part's in `folder`; with one fingerprint per part, of names and sizes."""

    folder: Path
    classes: list[str]
    train: Files
    test: Files | None
    val: Files | None
    fingerprints: dict[str, str]


def list_parts(
    root: str | os.PathLike[str] | None, kind: str = "images", classes: Sequence[str] | None = None
) -> ClassFolders:
    """List the files under `root`, see `part_folders`; warn of files and folders that are not used.

    Names that differ only in their Unicode form (NFC, NFD) are one class.

    Args:
        classes: the class folders to use, in this order; None: those of the training part, sorted.

    Raises:
        DataError: `root` is missing, a class folder has no files, a part has a class that training has not, most files
            are not used, or a file cannot be read.
    """
    folders = part_folders(root, kind)
    names = _distinct(class_folders(folders["train"], kind) if classes is None else classes)
    indices = {_composed(name): index for index, name in enumerate(names)}
    parts: dict[str, Files] = {}
    fingerprints: dict[str, str] = {}
    sizes: dict[str, dict[str, int]] = {}
    unused = Unused()
    for part, folder in folders.items():
        files = parts[part] = Files([], [])
        unused.add(loose_files(folder, kind) if classes is None else ())
        for name in class_folders(folder, kind):
            index = indices.get(_composed(name))
            if index is not None:
                paths, others = _class_files(folder / name, kind)
                files.paths.extend(paths)
                files.targets.extend([index] * len(paths))
                unused.add(others, paths)
            elif classes is None:
                raise DataError(f"{folder / name}: class '{name}' is not one of the {len(names)} of the training part")
        _check_levels(folder, files, kind)
        sizes[part] = sizes_of(files.paths)
        fingerprints[str(folder)] = _fingerprint(sizes[part], folder)
        if missing := [names[i] for i in sorted(set(range(len(names))) - set(files.targets))]:
            log.warning("%s: no examples of %d of %d classes: %s", folder, len(missing), len(names), _few(missing))
    top = expand_home(root or "")
    if not _warn_of_same_folders(folders):
        warn_of_copies(top, sizes, inside=kind != "texts")  # short texts repeat by themselves
    _warn_of_similar_names(folders["train"], names)
    if folders["train"] != top:
        unused.add(_unused_beside(top, folders, kind))
    unused.report(top, sum(len(files.paths) for files in parts.values()), kind)
    return ClassFolders(folders["train"], names, parts["train"], parts.get("test"), parts.get("val"), fingerprints)


def _unused_beside(top: Path, folders: dict[str, Path], kind: str) -> list[str]:
    """Warn of folders beside those of the splits; the files beside and in them, except in splits without classes."""
    names = [name for name in _subfolders(top) if top / name not in folders.values()]
    if names:
        used = ", ".join(path.name for path in folders.values())
        log.warning("%s: %s not used: %s (splits: %s)", top, pluralize(len(names), "folder"), _few(names), used)
    below = [path for name in names if split_of(name) is None for path in files_below(top / name, kind)]
    return loose_files(top, kind) + below


def _warn_of_same_folders(folders: dict[str, Path]) -> bool:
    """Warn of class folders that links make the same, in two splits or in one; whether there are."""
    first: dict[str, Path] = {}
    for folder in folders.values():
        for name in _subfolders(folder):
            other = first.setdefault(os.path.realpath(folder / name), folder / name)
            if other != folder / name:
                log.warning("%s and %s are the same folder: their examples are in both", other, folder / name)
                return True
    return False


def _warn_of_similar_names(folder: Path, names: Sequence[str]) -> None:
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(unicodedata.normalize("NFKC", name).casefold().strip(), name)
        if other != name:
            log.warning("%s: '%s' and '%s' are two classes, whose names look the same", folder, other, name)


def _check_levels(folder: Path, files: Files, kind: str) -> None:
    """Refuse classes that consist of splits, and warn of classes that all have the same folders in them."""
    if max(files.targets, default=0) == 0:
        return
    inner: dict[str, set[str]] = {}
    for path in files.paths:
        name, *below = path[len(str(folder)) :].lstrip(os.sep).split(os.sep)
        inner.setdefault(name, set()).add(below[0] if len(below) > 1 else "")
    first, *others = inner.values()
    if first == {""} or any(each != first for each in others):
        return
    shared = sorted(first - {""})
    problem = f"its {len(inner)} class folders ({_few(sorted(inner))}) all have the same folders: {_few(shared)}"
    if all(split_of(name) for name in first):
        expected = f"{folder}/{shared[0]}/CLASS/*{EXTENSIONS[kind][0]}"
        raise DataError(f"{folder}: {problem}\n  a split is the upper level: expected {expected}")
    if len(first) > 1:
        log.warning("%s: %s; if those are the classes, data.root is another folder", folder, problem)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _distinct(names: Iterable[str]) -> list[str]:
    """The names without those that differ from an earlier one only in their Unicode form."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(_composed(name), name)
    return list(first.values())


def _fingerprint(sizes: Mapping[str, int], folder: Path) -> str:
    """The digest of names and sizes."""
    digest = hashlib.sha256()
    for path, size in sizes.items():
        digest.update(f"{path.removeprefix(str(folder))}\0{size}\0".encode(errors="surrogateescape"))
    return f"sha256:{digest.hexdigest()}"


def class_files(folder: Path, kind: str = "images") -> list[str]:
    """`files_below` a class folder; DataError if there are none."""
    return _class_files(folder, kind)[0]


def _class_files(folder: Path, kind: str) -> tuple[list[str], list[str]]:
    found, others = scan(folder, kind)
    if not found:
        holds = f"; it has {pluralize(len(others), 'other file')}: {_few([Path(p).name for p in others])}"
        looked = f"looked for {' '.join(EXTENSIONS[kind])}{holds if others else ''}"
        raise DataError(f"{folder}: no {kind} in this class folder ({looked})")
    return found, others


def _subfolders(folder: Path) -> list[str]:
    return [name for name in subfolder_names(folder) if name != NO_CLASS]


def _few(names: Sequence[str]) -> str:
    return first_few(names, NUM_NAMED)
