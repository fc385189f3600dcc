"""Reads a table from a file by pandas, every cell of a CSV as text: what the texts mean is decided in `columns`.

Imports no torch, and pandas only where a file is read, so that the config layer can use it.
"""

from __future__ import annotations

import csv
import io
import os
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from mlprun.data.table.numerals import is_number
from mlprun.errors import ConfigError, DataError
from mlprun.files import expand_home, open_to_read
from mlprun.formatting import first_few, pluralize, printable

if TYPE_CHECKING:
    import pandas

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_PACKED = {b"\x1f\x8b": "gzip", b"PK": "a zip archive or an Excel workbook", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_PACKED |= {b"\xd0\xcf\x11\xe0": "an Excel workbook"}
UNNAMED = "(unnamed)"  # the column that has no name; pandas' `to_csv` writes its row numbers so


class Frame(NamedTuple):
    """The cells of a table: texts without spaces around them, and numbers where a Parquet file has them."""

    cells: pandas.DataFrame
    separator: str = ","  # of a Parquet file too


def import_pandas(path: str) -> Any:
    try:
        import pandas
    except ImportError as error:
        problem = "a table is read with pandas, which is not installed"
        raise ConfigError("data.path", path, problem, "pip install 'mlprun[tables]'") from error
    return pandas


def read_frame(path: str | os.PathLike[str]) -> Frame:
    """Read a CSV or Parquet file; DataError, which names the file, if it is no table with names of columns."""
    pandas = import_pandas(str(path))
    file = expand_home(path)
    try:
        with open_to_read(file) as opened:
            content = opened.read()
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder: name the file in it") from error
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if content[:4] == b"PAR1":
        return _parquet(pandas, path, content)
    if packing := next((name for magic, name in _PACKED.items() if content.startswith(magic)), None):
        raise DataError(f"{path}: is {packing}, not a table of text\n  unpack it, or save it as CSV")
    return _csv(pandas, path, _decoded(path, content))


def _decoded(path: str | os.PathLike[str], content: bytes) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise DataError(f"{path}: is UTF-16, not UTF-8\n  convert it: iconv -f utf-16 -t utf-8 OLD.csv > NEW.csv")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        where = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}: is not UTF-8: byte 0x{content[error.start]:02x} in line {where:,}, probably Latin-1"
            "\n  convert it: iconv -f latin1 -t utf-8 OLD.csv > NEW.csv"
        ) from error
    if "\0" in text:
        raise DataError(f"{path}: has a zero byte in line {text[: text.index(chr(0))].count(chr(10)) + 1:,}: no text")
    return text


def _csv(pandas: Any, path: str | os.PathLike[str], text: str) -> Frame:
    header = next((line for line in text.splitlines() if line.strip()), "")
    if not header:
        raise DataError(f"{path}: is empty\n  its first line must be the names of the columns")
    separator = _separator(header)
    try:
        # without a header, so that pandas renames no column that occurs twice
        how = {"sep": separator, "dtype": str, "header": None, "na_filter": False, "skipinitialspace": True}
        cells = pandas.read_csv(io.StringIO(text), **how)
    except pandas.errors.ParserError as error:
        problem = str(error).strip().removeprefix("Error tokenizing data. ").removeprefix("C error: ")
        remedy = f"columns are separated by {SEPARATORS[separator]}; quote a text that contains one, and close quotes"
        raise DataError(f"{path}: {problem[:1].lower()}{problem[1:]}\n  {remedy}") from error
    if (cells.iloc[:, -1] == "").any():  # pandas fills short rows up
        for line, row in enumerate(csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True), 1):
            if row and len(row) != cells.shape[1]:
                problem = f"record {line:,} has {pluralize(len(row), 'cell')}, and the first {cells.shape[1]}"
                remedy = "its values would be read into the wrong columns: repair or remove it"
                raise DataError(f"{path}: {problem}\n  {remedy}")
    cells = cells.apply(lambda column: column.str.strip())
    names = [str(name) or UNNAMED for name in cells.iloc[0]]
    if any(map(is_number, names)):
        numbers = first_few([name for name in names if is_number(name)], 3)
        remedy = "its first line must be the names of the columns, none of them a number"
        raise DataError(f"{path}: has no names of columns: its first line has {numbers}\n  {remedy}")
    cells = cells.iloc[1:].reset_index(drop=True)
    return Frame(_named(path, cells, names), separator)


def _separator(header: str) -> str:
    """The separator by which the first line has most cells."""
    return max(SEPARATORS, key=lambda each: len(next(csv.reader([header], delimiter=each, skipinitialspace=True))))


def _named(path: str | os.PathLike[str], cells: pandas.DataFrame, names: list[str]) -> pandas.DataFrame:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        what = "columns without a name" if twice == [UNNAMED] else f"several columns called {first_few(twice, 3)}"
        raise DataError(f"{path}: has {what}\n  give each column a name of its own in the first line")
    cells.columns = names
    if len(cells) == 0:
        raise DataError(f"{path}: has no rows below the names of its columns: {printable(', '.join(names), keep='')}")
    return cells


def _parquet(pandas: Any, path: str | os.PathLike[str], content: bytes) -> Frame:
    try:
        cells = pandas.read_parquet(io.BytesIO(content), engine="pyarrow")
    except ImportError as error:
        problem = "is Parquet, which pandas reads with pyarrow, and that is not installed"
        raise DataError(f"{path}: {problem}\n  pip install pyarrow, or save the table as CSV") from error
    except Exception as error:  # pyarrow raises errors of its own, OSError and ValueError
        raise DataError(f"{path}: is a damaged Parquet file: {str(error).splitlines()[0]}") from error
    return Frame(_typed(pandas, path, cells))


def cells_of(table: Any) -> pandas.DataFrame | None:
    """The cells of a DataFrame of pandas or polars, or of a list of dicts, as of a Parquet file; None for all else."""
    loaded = [getattr(sys.modules.get(name), "DataFrame", ()) for name in ("pandas", "polars")]
    is_rows = isinstance(table, list | tuple) and len(table) > 0 and all(isinstance(row, Mapping) for row in table)
    if not is_rows and not isinstance(table, tuple(kind for kind in loaded if kind)):
        return None
    pandas = import_pandas("a table")
    if is_rows:
        cells = pandas.DataFrame([dict(row) for row in table])
    elif isinstance(table, pandas.DataFrame):
        cells = table.reset_index(drop=True)
    else:
        cells = pandas.DataFrame(table.to_dict(as_series=False))  # its to_pandas needs pyarrow
    return _typed(pandas, "inputs", cells)


def _typed(pandas: Any, path: str | os.PathLike[str], cells: pandas.DataFrame) -> pandas.DataFrame:
    """Numbers stay what they are, and all else becomes texts."""
    types = pandas.api.types
    names = [str(name) for name in cells.columns]
    for place, name in enumerate(names):
        column = cells.iloc[:, place]
        if isinstance(column.dtype, pandas.CategoricalDtype):
            column = column.astype(object)
        column = column.infer_objects()
        if column.dtype.kind in "iuf":
            cells.isetitem(place, column.astype("float64") if column.isna().any() else column)  # no pandas.NA
            continue
        values = column.dropna()
        if not (types.is_bool_dtype(values.infer_objects()) or types.is_datetime64_any_dtype(column)):
            odd = next((value for value in values if not isinstance(value, str)), None)
            if odd is not None:
                problem = f"column {printable(name, keep='')} holds {type(odd).__name__}"
                raise DataError(f"{path}: {problem}, not numbers, texts or truth values\n  leave it out")
        texts = column.astype(object).map(str, na_action="ignore")
        cells.isetitem(place, texts.astype("str").fillna("").str.strip())
    return _named(path, cells, names)
