"""The ranges of options, beyond their types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mlprun.errors import suggestion


@dataclass(frozen=True)
class Range:
    """The valid values of an option: `text` describes them, `problem` says why a value is invalid, or returns None."""

    text: str
    problem: Callable[[Any], str | None]


def _valid_if(is_valid: Callable[[Any], bool], text: str, problem: str) -> Range:
    return Range(text, lambda value: None if is_valid(value) else problem)


def choice(*known: str, optional: bool = False) -> Range:
    """One of `known`; `optional`: or null."""
    text = ", ".join(f"`{name}`" for name in known)
    valid = (*known, None) if optional else known
    return Range(text, lambda v: None if v in valid else f"not known; {suggestion(str(v), known)}")


def at_least(low: float) -> Range:
    """At least `low`, or null."""
    return _valid_if(lambda v: v is None or v >= low, f"{low} or more", f"must be {low} or more")


def from_to(low: int, high: int) -> Range:
    """At least `low` and at most `high`, or null."""
    text = f"{low} to {high}"
    return _valid_if(lambda v: v is None or low <= v <= high, text, f"must be {text}")


def above(low: float) -> Range:
    """Above `low`, or null."""
    return _valid_if(lambda v: v is None or v > low, f"above {low}", f"must be above {low}")


def finite_above(low: float) -> Range:
    return _valid_if(lambda v: low < v < math.inf, f"above {low}", f"must be above {low}, and finite")


def between(low: float, high: float) -> Range:
    """Above `low` and below `high`."""
    text = f"above {low} and below {high}"
    return _valid_if(lambda v: low < v < high, text, f"must be {text}")


def from_below(low: float, high: float) -> Range:
    """At least `low` and below `high`, or null."""
    text = f"{low} or more, and below {high}"
    return _valid_if(lambda v: v is None or low <= v < high, text, f"must be {text}")


def names_or_paths(known: Iterable[str], kind: str) -> Range:
    """A list of known names or of dotted paths to the user's functions."""

    def problem(names: list[str]) -> str | None:
        unknown = [name for name in map(str, names) if "." not in name and name not in known]
        return f"there is no {kind} '{unknown[0]}'; {suggestion(unknown[0], known)}" if unknown else None

    return Range(", ".join(f"`{name}`" for name in known) + ", or `module.function`", problem)


def _device(value: str) -> str | None:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        return None
    known = ["auto", "cpu", "cuda", "cuda:0", "mps"]
    return f"not a device; {suggestion('cuda' if value == 'gpu' else value, known)}"


DEVICE = Range("`auto`, `cpu`, `cuda`, `cuda:N`, `mps`", _device)
SEED = _valid_if(lambda v: 0 <= v < 2**63, "0 to 2^63 - 1", "must be between 0 and 2^63 - 1")
BATCH_SIZE = _valid_if(
    lambda v: v == "all" or (isinstance(v, int) and not isinstance(v, bool) and v >= 1),
    "1 or more, or `all`",
    "must be a whole number of examples, 1 or more, or `all`",
)
SHAPE = _valid_if(
    lambda v: v is None or all(isinstance(n, int) and n >= 1 for n in v),
    "each 1 or more, or null",
    "every size must be 1 or more",
)
FOLDER_NAME = _valid_if(
    lambda v: v is None or re.fullmatch(r"\w[\w.+-]*", v) is not None,
    "letters, digits, `-` `_` `.` `+`",
    "must be letters, digits, and - _ . + between them: it names a folder",
)
