"""Rows of a table: those of a run's history and of a leaderboard."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, SupportsIndex, overload

from mlprun.errors import RunError
from mlprun.formatting import as_typed
from mlprun.text_table import render

if TYPE_CHECKING:
    import pandas

SHOWN = 20  # rows at most, half of them from the end
WIDTH = 160  # characters of a printed row at most


class Rows(list[dict[str, Any]]):
    """A list of rows, each a dict from column to value; rows may lack columns.

    `rows[-1]["val/loss"]` is a value, `rows["val/loss"]` a column, a list as long as the table (NaN where a row lacks
    it), `rows.columns` the names, and `rows.to_pandas()` a DataFrame. Printed, and in a notebook, it is a table.
    """

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(name for row in self for name in row))

    @overload
    def __getitem__(self, key: SupportsIndex) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, key: slice) -> Rows: ...
    @overload
    def __getitem__(self, key: str) -> list[Any]: ...
    def __getitem__(self, key: SupportsIndex | slice | str) -> Any:
        """A row by number, several by slice, or a column by name.

        Raises:
            IndexError: there is no such row.
            KeyError: no row has such a column.
        """
        if isinstance(key, str):
            if key not in self.columns:
                raise KeyError(f"{key}: no row has it; there are {', '.join(self.columns) or 'no columns'}")
            return [row.get(key, math.nan) for row in self]
        return Rows(super().__getitem__(key)) if isinstance(key, slice) else super().__getitem__(key)

    def to_pandas(self) -> pandas.DataFrame:
        """A DataFrame with a row for each row; NaN where a row lacks a column.

        Raises:
            RunError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise RunError("pandas is not installed\n  pip install pandas; or use the rows as they are") from error
        return pandas.DataFrame(self, columns=self.columns)

    def __repr__(self) -> str:
        columns = self.columns
        cells = [[_cell(row[name]) if name in row else "" for name in columns] for row in self]
        if len(cells) > SHOWN:
            cells[SHOWN // 2 : -SHOWN // 2] = [["…"] * len(columns)]
        lines = render([columns, *cells], ">" * len(columns), "", WIDTH, range(len(columns))) if columns else []
        return "\n".join([*lines, f"[{len(self)} rows]"])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return ";".join(map(str, value)) if isinstance(value, list) else as_typed(value)
