"""metrics.jsonl: a flat JSON object for every step whose values were logged, steps ascending."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.files import naming_path

Row = dict[str, Any]  # `step` (int), `epoch` (float or None), and the values that were logged, None if not finite


class DamagedRowError(RunError):
    """A line that is no row.

    Attributes:
        number: of the line, from 1.
        reason: `is no JSON (…)` or `is no object with a step`.
    """

    def __init__(self, path: Path, number: int, reason: str, remedy: str) -> None:
        super().__init__(f"{path}, line {number}: damaged, not an object with a `step`\n  {remedy}")
        self.number, self.reason = number, reason


def format_row(step: int, epoch: float | None, values: Mapping[str, float]) -> str:
    """The line of a row; JSON knows no NaN, so a value that is not finite becomes null."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps({"step": step, "epoch": epoch, **finite}) + "\n"


def read_rows(path: Path, *, keep_torn: bool = False, remedy: str = "mend the line or remove it") -> list[Row]:
    """All rows of a file.

    Args:
        path: of the file.
        keep_torn: count a last line without its end, which a run may be writing, as a row too.
        remedy: for the error's message.

    Raises:
        RunError: the file cannot be read, or is missing.
        DamagedRowError: a line is no row.
    """
    return [row for row, _ in _rows(path, keep_torn, remedy)]


def count_rows(path: Path, until: int) -> int:
    """How many rows there are up to the step `until`; 0 without a file. What follows them is not looked at.

    Raises:
        RunError: the file cannot be read, or one of the rows is damaged.
    """
    return sum(1 for _ in _rows_until(path, until)) if path.exists() else 0


def cut_rows(path: Path, until: int) -> None:
    """Cut off the rows after the step `until`, and a torn last one.

    Raises:
        RunError: the file cannot be written, or one of the rows to be kept is damaged; nothing is cut then.
    """
    length = sum(size for _, size in _rows_until(path, until))
    with naming_path(path):
        os.truncate(path, length)


def _rows_until(path: Path, until: int) -> Iterator[tuple[Row, int]]:
    for row, size in _rows(path, keep_torn=False, remedy="mend the line or remove it, then resume"):
        if row["step"] > until:
            break
        yield row, size


def _rows(path: Path, keep_torn: bool, remedy: str) -> Iterator[tuple[Row, int]]:
    """Each row, and the bytes that its line takes."""
    with naming_path(path, "read"), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n") and not keep_torn:
                break
            try:
                row = json.loads(line.decode())
            except ValueError as error:
                raise DamagedRowError(path, number, f"is no JSON ({error})", remedy) from error
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise DamagedRowError(path, number, "is no object with a step", remedy)
            yield row, len(line)
