"""Rows to predict, from a file with the columns of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlprun.data.table.columns import CATEGORY, LARGEST, NUMERIC, Column, to_numbers
from mlprun.data.table.inputs import Rows
from mlprun.data.table.read import read_frame
from mlprun.data.table.table import class_indices, encode, is_missing
from mlprun.errors import DataError, close_matches, did_you_mean
from mlprun.formatting import first_few, pluralize, printable

if TYPE_CHECKING:
    import pandas

Known = int | list[float] | None  # a class, a value, or unknown


@dataclass(frozen=True)
class RawRows:
    """The inputs of rows, (N, D), what is known of each, and notes about each and about the file."""

    inputs: npt.NDArray[np.float32]
    targets: list[Known]
    notes: list[tuple[str, ...]]
    about: list[str]


def read_rows(file: str, rows: Rows, is_known: npt.NDArray[np.bool_], cells: pandas.DataFrame | None = None) -> RawRows:
    """Read the columns of a run by their names, as in training.

    Args:
        cells: of a table in memory (`read.cells_of`); `file` is then what messages call it.
        is_known: (D,), False for a category that no training row has.

    Raises:
        DataError: a column is missing, or a value that the run needs, or is not of the kind of its column.
    """
    if cells is None:
        cells = _cells(file, rows)
    names = list(map(str, cells.columns))
    _refuse_missing_columns(file, rows, names)
    notes: list[list[str]] = [[] for _ in range(len(cells))]
    blocks, filled = [], dict[int, list[str]]()
    for column, span in rows.spans():
        block, empty = _encode(file, column, cells[column.name]), is_missing(column, cells[column.name])
        for row in np.flatnonzero(empty).tolist():
            filled.setdefault(row, []).append(column.name)
        if column.kind == CATEGORY:
            for row in np.flatnonzero(~empty & (block[:, is_known[span]].sum(1) == 0)).tolist():
                text = f"{column.name} '{printable(str(cells[column.name].iloc[row]), keep='')}'"
                notes[row].append(f"note: row {row + 1}: {text} is no category of the training rows: encoded as zeros")
        blocks.append(block)
    if filled and rows.impute is None:
        row, columns = next(iter(filled.items()))
        problem = f"row {row + 1} has no value of {first_few(columns, 6)} ({len(filled):,} of {len(cells):,} rows)"
        raise DataError(f"{file}: {problem}\n  fill it in; a run trained with data.impute=… does so itself")
    for row, columns in filled.items():
        notes[row].append(f"note: row {row + 1}: {first_few(columns, 6)} filled by data.impute={rows.impute}")
    inputs, targets = np.concatenate(blocks, 1), _targets(rows.target, cells)
    return RawRows(inputs, targets, [tuple(each) for each in notes], _about(file, rows, names))


def _cells(file: str, rows: Rows) -> pandas.DataFrame:
    if not Path(file).is_file() and not Path(file).is_dir() and not Path(file).suffix:
        listed = first_few([column.name for column in rows.columns], 6)
        raise DataError(f"{printable(file)}: is no file\n  name a .csv or .parquet with the columns {listed}")
    return read_frame(file).cells


def _refuse_missing_columns(file: str, rows: Rows, names: list[str]) -> None:
    used = {*(column.name for column in rows.columns), rows.target.name}
    missing = [column.name for column in rows.columns if column.name not in names]
    if not missing:
        return
    unused = [name for name in names if name not in used]
    close = [f"{name}: {did_you_mean(found)}" for name in missing if (found := close_matches(name, unused, 1))]
    remedy = "; ".join(printable(line, keep="") for line in close[:3]) or f"it has {first_few(names, 12)}"
    problem = f"lacks {pluralize(len(missing), 'column')} of the run: {first_few(missing, 12)}"
    raise DataError(f"{file}: {problem}\n  {remedy}")


def _encode(file: str, column: Column, cells: pandas.Series) -> npt.NDArray[np.float32]:
    try:
        block = encode(column, cells)
    except ValueError as error:
        row = int(error.args[0])
        kind = "number" if column.kind == NUMERIC else "truth value, such as true or no"
        kind += " (the run's have a decimal comma)" * (column.decimal == ",")
        text = printable(str(cells.iloc[row]), keep="")
        raise DataError(f"{file}: row {row + 1}: {column.name} '{text}' is no {kind}") from error
    if column.kind == NUMERIC and not bool((np.isnan(block) | (np.abs(block) <= LARGEST)).all()):
        raise DataError(f"{file}: {column.name} has a number that is infinite or beyond float32")
    return block


def _targets(target: Column, cells: pandas.DataFrame) -> list[Known]:
    """What the file says of the target, if it has that column; a class that is none of the run's is unknown."""
    if target.name not in cells.columns:
        return [None] * len(cells)
    given = cells[target.name]
    try:
        if target.categories:
            return [index if index >= 0 else None for index in class_indices(target, given).tolist()]
        return [None if value != value else [value] for value in to_numbers(target, given).tolist()]
    except ValueError:  # texts in the place of numbers
        return [None] * len(cells)


def _about(file: str, rows: Rows, names: Sequence[str]) -> list[str]:
    used = {column.name for column in rows.columns} | {rows.target.name}
    unused = [name for name in names if name not in used]
    return [f"note: {Path(file).name}: not used: {first_few(unused, 8)}"] if unused else []
