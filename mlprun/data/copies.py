"""Files with the same content in two splits: a model would be scored on what it has learnt. Imports no torch."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from mlprun.errors import DataError
from mlprun.files import open_to_read
from mlprun.formatting import first_few, pluralize

log = logging.getLogger("mlprun")

PARTS = ("train", "val", "test")
MOST_READ = 10_000  # files, a second on an SSD
HEAD_BYTES = 4096  # which tell most files of the same size apart
NUM_NAMED = 3  # pairs that a message names


def warn_of_copies(folder: Path, parts: Mapping[str, Mapping[str, int]], *, inside: bool) -> None:
    """Warn of copies in two parts and, if `inside`, in a training part that others are held out of.

    Files of the same size are compared; if these are more than `MOST_READ`, those of the same name.

    Args:
        folder: that the names in messages are relative to.
        parts: `train` and others -> path -> bytes.
    """
    sizes = {path: size for part in PARTS for path, size in parts.get(part, {}).items()}
    part_of = {path: part for part, of_part in parts.items() for path in of_part}
    held_out = [part for part in PARTS if part not in parts] if inside else []

    def matters(paths: list[str]) -> bool:
        among = {part_of[path] for path in paths}
        return len(among) > 1 or (among == {"train"} and bool(held_out))

    across: list[str] = []
    repeated: list[str] = []
    for first, *others in _copies(sizes, matters):
        for other in others:
            pair = f"{os.path.relpath(first, folder)} = {os.path.relpath(other, folder)}"
            (repeated if part_of[other] == part_of[first] else across).append(pair)
    if across:
        count, shown = pluralize(len(across), "file"), first_few(across, NUM_NAMED)
        log.warning("%s: %s also in another split: %s; scores on copies are too good", folder, count, shown)
    if repeated and held_out:
        count, shown = pluralize(len(repeated), "repeated file"), first_few(repeated, NUM_NAMED)
        problem = f"{' and '.join(held_out)} held out of them may have copies of what was trained on"
        log.warning("%s: %s: %s; %s", folder, count, shown, problem)


def _copies(sizes: Mapping[str, int], matters: Callable[[list[str]], bool]) -> Iterator[list[str]]:
    """Groups of files with the same content, in their order."""
    groups = [*filter(matters, _alike((path for path, size in sizes.items() if size), lambda path: sizes[path]))]
    if sum(map(len, groups)) > MOST_READ:
        groups = [named for group in groups for named in _alike(group, os.path.basename) if matters(named)]
    num_read = 0
    for group in groups:
        num_read += len(group)
        if num_read > MOST_READ:
            return
        for similar in _alike(group, _head):
            yield from filter(matters, _alike(similar, _digest) if sizes[similar[0]] > HEAD_BYTES else [similar])


def _alike(paths: Iterable[str], key: Callable[[str], object]) -> list[list[str]]:
    """The files that share their key with another."""
    groups: dict[object, list[str]] = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _head(path: str) -> bytes:
    try:
        with open_to_read(Path(path)) as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
