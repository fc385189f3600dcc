"""A table whose columns are known: what each is, which is the target, and what the user should hear about them.

Imports no torch, so that the config layer can ask for the task and the number of inputs. Nothing here depends on how
the rows are split: kinds and categories are those of the whole file, and all statistics are taken elsewhere.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlprun.data.table.columns import (
    CATEGORY,
    NUMERIC,
    TRUTH,
    Column,
    Found,
    Values,
    as_texts,
    in_order,
    infer,
    is_numeric,
    missing_texts,
    to_numbers,
)
from mlprun.data.table.numerals import FALSE, TRUE
from mlprun.data.table.read import UNNAMED, Frame, read_frame
from mlprun.errors import ConfigError, DataError, suggestion
from mlprun.files import expand_home
from mlprun.formatting import first_few, pluralize, printable

if TYPE_CHECKING:
    import pandas

MOST_CLASSES = 20  # whole numbers with more different values are quantities
ROWS_OF_A_CLASS = 5  # on average; with fewer, too

TASKS = ("classification", "regression")
MISSING_TARGET = -1


@dataclass(frozen=True)
class Target:
    """The column to predict; its `categories` are the classes, empty if it is a quantity."""

    column: Column
    why: str  # it is what it is


@dataclass(frozen=True)
class Table:
    """The columns of a file.

    Attributes:
        columns: that are inputs, in the order of the file.
        left_out: by name, why.
        warnings: lines for the user.
        few: numbers that may be codes.
        fingerprint: `sha256:…` of the file.
    """

    path: str
    cells: pandas.DataFrame
    columns: tuple[Column, ...]
    target: Target
    left_out: Mapping[str, str]
    warnings: tuple[str, ...]
    few: tuple[str, ...]
    fingerprint: str

    @property
    def num_inputs(self) -> int:
        return sum(column.width for column in self.columns)

    @property
    def task(self) -> str:
        return "classification" if self.target.column.categories else "regression"

    @property
    def has_quantity(self) -> bool:
        return self.task == "regression"

    @property
    def num_outputs(self) -> int:
        """Classes, or one value."""
        return max(1, len(self.target.column.categories))

    @cached_property
    def missing(self) -> dict[str, int]:
        """The number of missing values of each column that has some."""
        counts = {column.name: int(is_missing(column, self.cells[column.name]).sum()) for column in self.columns}
        return {name: count for name, count in counts.items() if count}

    def missing_values(self) -> str:
        """How many values are missing, and in which columns."""
        counts = [f"{name} {count:,}" for name, count in self.missing.items()]
        return f"{sum(self.missing.values()):,} values in {len(self.cells):,} rows: {first_few(counts, 12)}"

    def refuse_missing(self, impute: str | None) -> None:
        """Raise DataError if values are missing that nothing will fill."""
        if impute is None and self.missing:
            fills = "data.impute=median, mean or most_frequent fills them by statistics of the training split"
            remedy = f"{fills}; or remove these rows, or columns: data.drop=[…]"
            raise DataError(f"{self.path}: missing are {self.missing_values()}\n  {remedy}")


def read_table(
    path: str | None,
    target: str | None,
    *,
    task: str | None = None,
    categorical: Sequence[str] = (),
    numeric: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> Table:
    """Read a file, and find out what its columns are.

    Args:
        task: `classification` or `regression`; None: found by the target, see `_target`.
        categorical, numeric, drop: columns that are categories, numbers, or left out, whatever they look like.

    Raises:
        ConfigError: a key names no column, or the wrong one.
        DataError: the file is no table, or has columns that cannot be used as they are.
    """
    if not path:
        raise ConfigError("data.path", path, "no file is named", "write data.path=FILE.csv data.target=COLUMN")
    try:
        status = os.stat(expand_home(path))
    except FileNotFoundError as error:
        raise DataError(f"data.path={path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise DataError(f"data.path={printable(path)}: cannot be read: {error}") from error
    version = (os.path.abspath(expand_home(path)), status.st_mtime_ns, status.st_size, status.st_ino)
    return _read(path, target, task, tuple(categorical), tuple(numeric), tuple(drop), version)


@lru_cache(maxsize=2)  # composed, built and inspected, a config asks for the same table again and again
def _read(
    path: str,
    target: str | None,
    task: str | None,
    categorical: tuple[str, ...],
    numeric: tuple[str, ...],
    drop: tuple[str, ...],
    version: tuple[object, ...],
) -> Table:
    frame, fingerprint = _frame(path, version)
    cells = frame.cells
    names = list(map(str, cells.columns))
    if target not in names:
        if target is None:
            raise ConfigError("data.target", None, "no column is named", f"choose from: {first_few(names, 20)}")
        raise ConfigError("data.target", target, f"{Path(path).name} has no such column", suggestion(target, names))
    said = _said({"categorical": categorical, "numeric": numeric, "drop": drop}, names, target, path)
    found = {name: infer(name, cells[name], said.get(name)) for name in names if name not in (target, *drop)}
    if UNNAMED in found and found[UNNAMED].warning.startswith("counts"):
        found[UNNAMED] = Found(left_out="row numbers")
    _refuse(path, found)
    columns = tuple(each.column for each in found.values() if each.column is not None)
    if not columns:
        raise DataError(f"{path}: no column is left to predict {target} from")
    wanted = _target(path, target, cells[target], task)
    left_out = {name: each.left_out for name, each in found.items() if each.left_out}
    warnings = [f"column {printable(name, keep='')}: {each.warning}" for name, each in found.items() if each.warning]
    if left_out:
        names = [f"{name} ({why})" for name, why in left_out.items()]
        warnings.append(f"{pluralize(len(left_out), 'column')} left out: {first_few(names, 8)}")
    warnings += _leaks(columns, wanted.column, cells)
    few = tuple(name for name, each in found.items() if each.has_few)
    return Table(path, cells, columns, wanted, left_out, tuple(warnings), few, fingerprint)


def _said(keys: Mapping[str, Sequence[str]], names: Sequence[str], target: str, path: str) -> dict[str, str]:
    """The kind that the user gives a column, by its name; ConfigError if a key names no column, or one twice."""
    kinds: dict[str, str] = {}
    for key, listed in keys.items():
        for name in listed:
            if name not in names:
                problem = f"{Path(path).name} has no column {printable(name, keep='')}"
                raise ConfigError(f"data.{key}", [*listed], problem, suggestion(name, names))
            if name == target or name in kinds:
                problem = f"{name} is the target" if name == target else f"{name} is listed twice"
                raise ConfigError(f"data.{key}", [*listed], problem, "leave it out")
            kinds[name] = {"categorical": CATEGORY, "numeric": NUMERIC}.get(key, "")
    return kinds


@lru_cache(maxsize=1)
def _frame(path: str, version: tuple[object, ...]) -> tuple[Frame, str]:
    frame = read_frame(path)
    with open(expand_home(path), "rb") as file:
        return frame, f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _refuse(path: str, found: Mapping[str, Found]) -> None:
    """Raise DataError for all columns that cannot be used as they are."""
    problems = {name: each.problem for name, each in found.items() if each.problem}
    if not problems:
        return
    lines = [f"  {printable(name, keep='')}: {problem}" for name, problem in list(problems.items())[:20]]
    lines += [f"  … and {len(problems) - 20:,} more columns"] * (len(problems) > 20)
    verb = "column cannot" if len(problems) == 1 else "columns cannot"
    lines.append(f"  {typed('data.drop', problems)} leaves them out; data.categorical=[…] takes texts as they are")
    raise DataError("\n".join([f"{path}: {len(problems)} {verb} be used as they are", *lines]))


def _target(path: str, name: str, cells: pandas.Series[Any], task: str | None) -> Target:
    """The target: texts and whole numbers of few values are classes, other numbers are quantities."""
    if task not in (None, *TASKS):
        raise ConfigError("data.task", task, "a table has one target", f"choose from: {', '.join(TASKS)}")
    found, texts = infer(name, cells), as_texts(cells)
    is_number = found.column is not None and found.column.kind == NUMERIC
    is_empty = missing_texts(texts, marks=is_number)
    if count := int(is_empty.sum()):
        rows = first_few([str(row + 1) for row in np.flatnonzero(is_empty)], 5)
        problem = f"the target {name} is missing in {count:,} of {len(texts):,} rows: {rows}"
        raise DataError(f"{path}: {problem}\n  remove these rows")
    if is_number:
        assert found.column is not None
        return _numeric_target(found.column, to_numbers(found.column, cells), task)
    if not found.has_words:
        reason = found.problem or f"is {found.left_out}"
        raise DataError(f"{path}: the target {name} cannot be predicted: {reason}")
    if task == "regression":
        problem = f"predicts numbers, and the target {name} has words, such as {printable(texts.iloc[0], keep='')}"
        raise ConfigError("data.task", task, problem, "write task=classification, or leave it out")
    classes = in_order(texts.unique())
    if len(classes) > MOST_CLASSES and len(classes) > len(texts) / 2:
        raise DataError(f"{path}: the target {name} has {len(classes):,} different texts in {len(texts):,} rows")
    is_truth = found.column is not None and found.column.kind == TRUTH
    return Target(Column(name, CATEGORY, classes), "truth values" if is_truth else "words")


def _numeric_target(column: Column, values: Values, task: str | None) -> Target:
    distinct, is_whole = np.unique(values), bool((values == np.round(values)).all())
    is_class = is_whole and len(distinct) <= min(MOST_CLASSES, len(values) / ROWS_OF_A_CLASS)
    why = f"{'whole numbers' if is_whole else 'numbers'}, {len(distinct):,} of them different"
    if task == "classification" and not is_whole:
        problem = f"has classes, and the target {column.name} has fractions, such as {distinct[0]:g}"
        raise ConfigError("data.task", task, problem, "write task=regression, or leave it out")
    if task == "regression" or (task is None and not is_class):
        return Target(column, why)
    return Target(replace(column, categories=tuple(f"{value:.0f}" for value in distinct)), why)


def class_indices(target: Column, cells: pandas.Series[Any]) -> npt.NDArray[np.int64]:
    """The index of each row's class, `MISSING_TARGET` where it is none of them."""
    import pandas

    texts = as_texts(cells)
    if target.kind == NUMERIC:
        numbers = pandas.Series(to_numbers(target, cells))
        texts = numbers.map(lambda value: "" if value != value else f"{value:.0f}")
    return np.asarray(pandas.Index(target.categories).get_indexer(texts), dtype=np.int64)


def is_missing(column: Column, cells: pandas.Series[Any]) -> npt.NDArray[np.bool_]:
    if is_numeric(cells):
        return np.asarray(cells.isna(), dtype=np.bool_)
    missing = missing_texts(cells, only_empty=column.only_empty, marks=column.kind == NUMERIC)
    return np.asarray(missing, dtype=np.bool_)


def encode(column: Column, cells: pandas.Series[Any]) -> npt.NDArray[np.float32]:
    """The inputs of a column, (rows, width): NaN where a value is missing, zeros for a category that is none of its.

    Raises:
        ValueError: a text is no number or truth value; the argument is the index of its row.
    """
    import pandas

    if column.kind == NUMERIC:
        try:
            with np.errstate(over="ignore"):  # infinity, which the callers refuse
                return to_numbers(column, cells).astype(np.float32)[:, None]
        except ValueError:
            for row in range(len(cells)):
                try:
                    to_numbers(column, cells.iloc[row : row + 1])
                except ValueError as error:
                    raise ValueError(row) from error
            raise
    texts, is_empty = as_texts(cells), is_missing(column, cells)
    if column.kind == TRUTH:
        words = texts.str.casefold()
        wrong = ~words.isin([*TRUE, *FALSE]).to_numpy(bool) & ~is_empty
        if wrong.any():
            raise ValueError(int(wrong.argmax()))
        return np.where(is_empty, np.nan, words.isin(TRUE).to_numpy(bool)).astype(np.float32)[:, None]
    codes = np.asarray(pandas.Index(column.categories).get_indexer(texts))
    inputs = (codes[:, None] == np.arange(column.width)).astype(np.float32)
    inputs[is_empty] = np.nan
    return np.asarray(inputs)


def _leaks(columns: Sequence[Column], target: Column, cells: pandas.DataFrame) -> list[str]:
    """A warning of columns that determine the target, and are determined by it."""
    import pandas

    goal = class_indices(target, cells[target.name]) if target.categories else to_numbers(target, cells[target.name])
    found = []
    for column in columns:
        values = cells[column.name]
        if target.categories:
            codes = pandas.factorize(values)[0]
            num_classes, is_same = len(target.categories), False
            if codes.max() + 1 == num_classes:
                is_same = len(np.unique(codes * num_classes + goal)) == num_classes
        else:
            is_same = column.kind == NUMERIC and _is_proportional(to_numbers(column, values), goal.astype(np.float64))
        if is_same:
            found.append(column.name)
    if not found:
        return []
    which = f"column{'s' * (len(found) > 1)} {first_few(found, 5)}"
    problem = f"{which} and the target {printable(target.name, keep='')} determine each other in all rows"
    return [f"{problem}; if that is the target under another name, {typed('data.drop', found)} leaves it out"]


def _is_proportional(values: Values, goal: Values) -> bool:
    """Whether one is the other but for a factor and a constant."""
    known = ~np.isnan(values)
    values, goal = values[known], goal[known]
    if len(values) < 3 or values.std() == 0 or goal.std() == 0:
        return False
    return bool(abs(np.corrcoef(values, goal)[0, 1]) > 1 - 1e-9)


def typed(key: str, names: Iterable[str]) -> str:
    """`'data.drop=["Date Egg",sex]'`, as typed in a shell."""
    items = [str(name) for name in names]
    if all(map(str.isidentifier, items)):
        return f"'{key}=[{','.join(items)}]'"
    quoted = [f'"{name}"'.replace("\\", "\\\\") if '"' not in name else f"\\'{name}\\'" for name in items]
    return f"'{key}=[{','.join(quoted)}]'"
