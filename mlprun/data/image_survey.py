"""What the image files of a data set are: looked at before a training, and for `mlprun inspect`."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from mlprun.data.image_file import Facts, is_blank, read_facts
from mlprun.data.listing import NUM_NAMED
from mlprun.errors import DataError
from mlprun.files import expand_home
from mlprun.formatting import first_few, pluralize

log = logging.getLogger("mlprun")
T = TypeVar("T")

NUM_OPENED = 1000  # files whose headers are read
NUM_DECODED = 16  # transparent ones among them whose pixels are read
JPEG = (".jpg", ".jpeg", ".jfif", ".jpe", ".pjpeg", ".pjp")


def has_deep_images(root: str | os.PathLike[str], paths: Sequence[str]) -> bool:
    """Whether some images have more than 8 bits per channel; warn of what is lost of other images.

    JPEG files are not opened: they have 8 bits, and neither transparency nor frames.
    """
    facts = _facts([path for path in paths if not path.lower().endswith(JPEG)])
    transparent = [path for path, fact in facts.items() if fact.is_transparent]
    blank = [path for path in _some(transparent, NUM_DECODED) if _unless_damaged(is_blank, path)]
    _warn(root, [path for path, fact in facts.items() if fact.has_frames], "only the first frame or page is used of")
    _warn(root, blank, "images are composited on white, which leaves nothing of white ones on transparent:")
    return any(fact.is_deep for fact in facts.values())


def describe(paths: Sequence[str]) -> list[str]:
    """Lines that say how many images have which mode, and what becomes of it."""
    facts = _facts(paths)
    modes = Counter(fact.decision() for fact in facts.values())
    parts = [f"{count:,} {decision}" for decision, count in modes.most_common()]
    if turned := sum(fact.is_turned for fact in facts.values()):
        parts.append(f"{turned:,} turned upright (EXIF)")
    if frames := sum(fact.has_frames for fact in facts.values()):
        parts.append(f"{frames:,} of several frames (the first is used)")
    if damaged := [path for path in _some(paths, NUM_OPENED) if path not in facts]:
        parts.append(f"{len(damaged):,} that cannot be read: {first_few(damaged, NUM_NAMED)}")
    of = pluralize(len(paths), "image") if len(paths) <= NUM_OPENED else f"{NUM_OPENED:,} of {len(paths):,} images"
    return [f"image files       {', '.join(parts)}  (of {of})"]


def _facts(paths: Sequence[str]) -> dict[str, Facts]:
    """The facts of some of the files, without damaged ones: reading them explains what is wrong."""
    read = {path: _unless_damaged(read_facts, path) for path in _some(paths, NUM_OPENED)}
    return {path: facts for path, facts in read.items() if facts is not None}


def _unless_damaged(function: Callable[[str], T], path: str) -> T | None:
    try:
        return function(path)
    except DataError:
        return None


def _some(paths: Sequence[str], count: int) -> Sequence[str]:
    """At most `count` of the paths, at even distances."""
    return [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else paths


def _warn(root: str | os.PathLike[str], paths: Sequence[str], problem: str) -> None:
    if paths:
        folder = expand_home(root)
        names = first_few([os.path.relpath(path, folder) for path in paths], NUM_NAMED)
        log.warning("%s: %s %s", folder, problem, names)
