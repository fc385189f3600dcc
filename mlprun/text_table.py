"""Text tables with aligned columns, two spaces apart."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from mlprun.formatting import printable, truncate, truncate_middle

ROOMY, NARROWEST = 16, 8  # widths of a truncated column: the least while there are spare columns, and without


def render(
    rows: Iterable[Sequence[str]],
    align: str,
    indent: str = "",
    max_width: int = sys.maxsize,
    flexible: Sequence[int] = (),
    spare: Sequence[int] = (),
) -> list[str]:
    """The rows as lines, each column as wide as its longest cell.

    Args:
        rows: equally many cells each; the first may be a header.
        align: `<` (left) or `>` (right) for each column.
        max_width: of a line, without its indent.
        flexible: columns that are truncated in the middle, widest first, until the lines fit. If that is not enough,
            the last of them are hidden, and a line at the end names the headers of hidden columns.
        spare: columns that are hidden, in this order, before any is truncated much.
    """
    rows = [[printable(cell, keep="") for cell in row] for row in rows]
    widths = dict(enumerate(column_widths(rows)))

    def is_wide() -> bool:
        return sum(widths.values()) + 2 * (len(widths) - 1) > max_width

    def shrink(least: int) -> None:
        while is_wide() and (wider := [i for i in flexible if widths[i] > least]):
            widths[max(wider, key=lambda i: widths[i])] -= 1

    shrink(ROOMY)
    for i in spare:
        if is_wide():
            del widths[i]
    shrink(NARROWEST)
    for i in reversed(flexible):
        if is_wide() and i in widths:
            del widths[i]
    sides, lengths = [align[i] for i in widths], list(widths.values())
    lines = [indent + format_row([row[i] for i in widths], sides, lengths) for row in rows]
    if omitted := [title for i, title in enumerate(rows[0]) if i not in widths] if rows else []:
        lines.append(indent + truncate(f"hidden columns: {', '.join(omitted)}", max_width))
    return lines


def column_widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """Length of the longest cell of each column; rows may differ in length."""
    return [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]


def format_row(cells: Sequence[str], align: Sequence[str], widths: Sequence[int]) -> str:
    """One line of a table that is printed while its rows are computed."""
    columns = zip(cells, align, widths, strict=True)
    return "  ".join(f"{truncate_middle(cell, width):{side}{width}}" for cell, side, width in columns).rstrip()
