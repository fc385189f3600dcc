"""metrics.jsonl: a flat JSON object for every logged step, in ascending order."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.files import LARGEST_JSON, naming_path, open_to_read, open_to_write
from mlprun.runs.record import parse_json

Row = dict[str, Any]  # `step` (int), `epoch` (float or None) and the logged values, None if not finite


class DamagedRowError(RunError):
    """A line that is not a row."""

    def __init__(self, path: Path, number: int, reason: str, remedy: str) -> None:
        super().__init__(f"{path}, line {number}: damaged, not an object with a `step`\n  {remedy}")
        self.number = number
        self.reason = reason  # `is not JSON (…)` or `is not an object with a step`


def format_row(step: int, epoch: float | None, values: Mapping[str, float]) -> str:
    """The line of a row; NaN and infinity become null."""
    finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
    return json.dumps({"step": step, "epoch": epoch, **finite}) + "\n"


def read_rows(path: Path, *, keep_torn: bool = False, remedy: str = "repair or remove the line") -> list[Row]:
    """All rows of a file; RunError if it cannot be read, or a row is damaged (DamagedRowError).

    Args:
        keep_torn: include a last line without a newline, which a run may be writing.
        remedy: for the error message.
    """
    return [row for row, _ in _rows(path, keep_torn, remedy)]


def count_rows(path: Path, until: int) -> int:
    """Number of rows up to the step `until`; 0 without a file. RunError if the file or one of the rows is damaged."""
    return sum(1 for _ in _rows_until(path, until)) if path.exists() else 0


def sum_of(path: Path) -> str:
    """SHA-256 of the file; RunError if it cannot be read."""
    with naming_path(path, "read"), open_to_read(path) as file:
        return hashlib.sha256(file.read()).hexdigest()


def cut_rows(path: Path, until: int) -> None:
    """Truncate the file after the step `until`, and before an incomplete last line.

    RunError if the file cannot be written, or a row before is damaged; then nothing is truncated.
    """
    length = sum(size for _, size in _rows_until(path, until))
    with naming_path(path), open_to_write(path, "r+b") as file:
        file.truncate(length)


def _rows_until(path: Path, until: int) -> Iterator[tuple[Row, int]]:
    for row, size in _rows(path, keep_torn=False, remedy="repair or remove the line, then resume"):
        if row["step"] > until:
            break
        yield row, size


def _rows(path: Path, keep_torn: bool, remedy: str) -> Iterator[tuple[Row, int]]:
    """Each row and the length of its line in bytes."""
    with naming_path(path, "read"), open_to_read(path) as file:
        for number, line in enumerate(iter(lambda: file.readline(LARGEST_JSON), b""), 1):
            if not line.endswith(b"\n") and not keep_torn:
                break
            try:
                row = parse_json(line)
            except ValueError as error:
                raise DamagedRowError(path, number, f"is not JSON ({error})", remedy) from error
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                raise DamagedRowError(path, number, "is not an object with a step", remedy)
            yield row, len(line)
