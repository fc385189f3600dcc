"""A table as lines of text, as wide as a terminal allows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mlprun.analysis.configurations import SCORES, Configuration

WIDTH = 120  # of a line of the leaderboard; paths and lines to paste may be longer
NARROWEST = 8  # a column that is cut keeps so many characters


@dataclass
class Column:
    title: str
    cells: list[str]
    right: bool = True
    flexible: bool = False  # may be cut


def test_metric(found: Iterable[Configuration]) -> str | None:
    """The test metric to show."""
    there = {name for c in found for name in SCORES if c.metric(name)}
    return next((name for name in SCORES if name in there), None)


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


def render(columns: list[Column], num_rows: int) -> list[str]:
    """The columns below their titles, cut until they fit, or left out where that does not help."""
    widths = [max(len(text) for text in (column.title, *column.cells[:num_rows])) for column in columns]
    hidden: list[str] = []
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and any(column.flexible for column in columns):
        flexible = [i for i, column in enumerate(columns) if column.flexible]
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] > NARROWEST:
            widths[widest] -= 1
        else:
            hidden.insert(0, columns.pop(flexible[-1]).title)
            widths.pop(flexible[-1])
    lines = []
    for row in range(-1, num_rows):
        cells = []
        for column, width in zip(columns, widths, strict=True):
            text = column.title if row < 0 else column.cells[row] if row < len(column.cells) else ""
            text = cut_middle(text, width)
            cells.append(text.rjust(width) if column.right else text.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return [*lines, *([cut_middle(f"no room for {', '.join(hidden)}", WIDTH)] if hidden else [])]


def cut_middle(text: str, width: int) -> str:
    """`text` without its middle, where it is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"
