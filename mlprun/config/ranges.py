"""What values an option may have, beyond its type: each a `Range`, which documents itself."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from mlprun.errors import suggestion


@dataclass(frozen=True)
class Range:
    """The values that an option may have.

    Attributes:
        text: what `docs/config.md` says of them.
        problem: what is wrong with a value, or None.
    """

    text: str
    problem: Callable[[Any], str | None]


def choice(*known: str) -> Range:
    """One of a few words."""
    return Range(
        ", ".join(f"`{name}`" for name in known),
        lambda v: None if v in known else f"not known; {suggestion(str(v), known)}",
    )


def at_least(low: float) -> Range:
    """A number that is not below `low`; null passes."""
    return Range(f"{low} or more", lambda v: None if v is None or v >= low else f"must be {low} or more")


def above(low: float) -> Range:
    """A number above `low`; null passes."""
    return Range(f"above {low}", lambda v: None if v is None or v > low else f"must be above {low}")


def finite_above(low: float) -> Range:
    """A finite number above `low`."""
    return Range(f"above {low}", lambda v: None if low < v < math.inf else f"must be above {low}, and finite")


def between(low: float, high: float) -> Range:
    """A number strictly between `low` and `high`."""
    return Range(
        f"above {low} and below {high}",
        lambda v: None if low < v < high else f"must be above {low} and below {high}",
    )


def _seed(value: int) -> str | None:
    return None if 0 <= value < 2**63 else "must be between 0 and 2^63 - 1"


def _batch_size(value: Any) -> str | None:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return None if whole or value == "all" else "must be a whole number of examples, 1 or more, or `all`"


def _device(value: str) -> str | None:
    if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
        return None
    known = ["auto", "cpu", "cuda", "cuda:0", "mps"]
    return f"not a device; {suggestion('cuda' if value == 'gpu' else value, known)}"


def _shape(value: list[int] | None) -> str | None:
    return None if value is None or all(n >= 1 for n in value) else "every size must be 1 or more"


def _folder_name(value: str | None) -> str | None:
    plain = value is None or re.fullmatch(r"\w[\w.+-]*", value) is not None
    return None if plain else "must be letters, digits, and - _ . + between them: it names a folder"


SEED = Range("0 to 2^63 - 1", _seed)
BATCH_SIZE = Range("1 or more, or `all`", _batch_size)
DEVICE = Range("`auto`, `cpu`, `cuda`, `cuda:N`, `mps`", _device)
SHAPE = Range("each 1 or more, or null", _shape)
FOLDER_NAME = Range("letters, digits, `-` `_` `.` `+`", _folder_name)


def names_or_paths(known: Iterable[str], kind: str) -> Range:
    """A list of short names, or of dotted paths to the user's own."""

    def problem(names: list[str]) -> str | None:
        unknown = [name for name in names if "." not in name and name not in known]
        return f"there is no {kind} '{unknown[0]}'; {suggestion(unknown[0], known)}" if unknown else None

    return Range(", ".join(f"`{name}`" for name in known) + ", or `module.function`", problem)
