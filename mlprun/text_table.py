"""Tables in text: cells below each other, two spaces between columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

from mlprun.formatting import truncate, truncate_middle

NARROWEST = 8  # characters that a cell keeps when it is cut


def render(
    rows: Iterable[Sequence[str]],
    align: str,
    *,
    indent: str = "",
    max_width: int | None = None,
    flexible: Sequence[int] = (),
) -> list[str]:
    """The rows as lines, each column as wide as its longest cell.

    Args:
        rows: of cells, as many in each; the first may be a header.
        align: `<` (left) or `>` (right) for each column.
        indent: what each line begins with.
        max_width: of a line, without its indent; None for any.
        flexible: columns whose cells lose their middle, the widest first, until the lines fit. Where that is not
            enough, the last of them are left out, and a line at the end names their headers.
    """
    rows = list(rows)
    widths = dict(enumerate(column_widths(rows)))
    while max_width is not None and sum(widths.values()) + 2 * (len(widths) - 1) > max_width:
        remaining = [column for column in flexible if column in widths]
        if not remaining:
            break
        widest = max(remaining, key=lambda column: widths[column])
        if widths[widest] > NARROWEST:
            widths[widest] -= 1
        else:
            del widths[remaining[-1]]
    lines = [
        indent + format_row([row[i] for i in widths], [align[i] for i in widths], list(widths.values())) for row in rows
    ]
    if max_width is not None and len(widths) < len(align):
        omitted = ", ".join(rows[0][column] for column in flexible if column not in widths)
        lines.append(indent + truncate(f"no room for {omitted}", max_width))
    return lines


def column_widths(rows: Iterable[Sequence[str]]) -> list[int]:
    """Length of the longest cell of each column; rows may be short."""
    return [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]


def format_row(cells: Sequence[str], align: Sequence[str], widths: Sequence[int]) -> str:
    """One line, for a table that is printed while its rows are computed."""
    padded = (
        f"{truncate_middle(cell, width):{side}{width}}" for cell, side, width in zip(cells, align, widths, strict=True)
    )
    return "  ".join(padded).rstrip()
