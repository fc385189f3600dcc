"""Columns of the leaderboard, and how many digits their numbers have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from mlprun.analysis.configurations import SCORES, Configuration
from mlprun.text_table import render

WIDTH = 120  # of a line of the leaderboard; paths and lines to paste may be longer


@dataclass
class Column:
    title: str
    cells: list[str]
    right: bool = True
    flexible: bool = False  # may be cut


def test_metric(entries: Iterable[Configuration]) -> str | None:
    """The test metric to show."""
    names = {name for c in entries for name in SCORES if c.metric(name)}
    return next((name for name in SCORES if name in names), None)


def exponent_of(values: Iterable[float | None]) -> int:
    """Of the power of ten of the first of the values that is not 0."""
    return math.floor(math.log10(next((abs(value) for value in values if value), 1.0)))


def decimal_places(values: Sequence[float | None]) -> int:
    """Decimals that show four digits of the first value, and four decimals at least of one below 10."""
    exponent = exponent_of(values)
    return min(8, max(3 - exponent, 4 if exponent < 1 else 0))


def format_numbers(values: Sequence[float | None], places: int) -> list[str]:
    """With so many decimals, but no other number than 0 as 0, nor in more than a dozen characters."""
    return [
        ""
        if value is None
        else f"{value:.3g}"
        if abs(value) >= 1e7 or 0 < abs(value) < 0.5 * 10**-places
        else f"{value:.{places}f}"
        for value in values
    ]


def render_columns(columns: Sequence[Column], num_rows: int) -> list[str]:
    """The first rows of the columns below their titles, at most `WIDTH` wide."""
    rows = zip_longest(*([column.title, *column.cells[:num_rows]] for column in columns), fillvalue="")
    align = "".join("<>"[column.right] for column in columns)
    flexible = [i for i, column in enumerate(columns) if column.flexible]
    return render(rows, align, max_width=WIDTH, flexible=flexible)
