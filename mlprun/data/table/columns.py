"""What the columns of a table are: numbers, truth values, categories or nothing that a model could learn from."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlprun.data.table.numerals import (
    DATE,
    DECIMAL_COMMA,
    FALSE,
    LEADING_ZERO,
    MARKS,
    MISSING,
    NUMBER,
    THOUSANDS,
    TRUE,
    WHOLE,
    WITH_UNIT,
)
from mlprun.formatting import first_few, pluralize, printable

if TYPE_CHECKING:
    import pandas

NUMERIC, TRUTH, CATEGORY = "number", "boolean", "category"  # kinds of columns
MOST_CATEGORIES = 100  # of a column, unless `data.categorical` names it: each is an input
FEW_VALUES = 10  # whole numbers that may be codes
MANY_ROWS = 20  # from which a different word in each row, or a count of the rows, is no accident
LARGEST = float(np.finfo(np.float32).max)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Column:
    """A column that a model reads.

    Attributes:
        categories: the texts of a category, sorted; an input each.
        decimal: the decimal point of a number, or a comma.
        only_empty: an empty cell alone is missing, and `NA` a text as any other.
    """

    name: str
    kind: str
    categories: tuple[str, ...] = ()
    decimal: str = "."
    only_empty: bool = False

    @property
    def width(self) -> int:
        """The number of inputs."""
        return len(self.categories) if self.kind == CATEGORY else 1

    def to_plain(self) -> dict[str, Any]:
        return asdict(self) | {"categories": list(self.categories)}

    @staticmethod
    def from_plain(plain: dict[str, Any]) -> Column:
        return Column(**{**plain, "categories": tuple(plain["categories"])})


@dataclass(frozen=True)
class Found:
    """What a column is: used, left out, or a problem that the user must decide."""

    column: Column | None = None
    left_out: str = ""  # why
    problem: str = ""  # why it cannot be used as it is
    warning: str = ""
    has_few: bool = False  # whole numbers, few of which differ
    has_words: bool = False  # which may be classes, whatever speaks against them as categories


def infer(name: str, cells: pandas.Series[Any], said: str | None = None) -> Found:
    """What a column is; `said` is the kind that the user gives it, `NUMERIC` or `CATEGORY`."""
    if is_numeric(cells) and said != CATEGORY:
        column = Column(name, NUMERIC)
        return _number(column, to_numbers(column, cells), said)
    texts = as_texts(cells)
    counts = texts[~missing_texts(texts, only_empty=said == CATEGORY)].value_counts()
    distinct = [str(text) for text in counts.index]
    if not distinct:
        return Found(left_out="no values")
    if said == CATEGORY:
        return Found(Column(name, CATEGORY, in_order(distinct), only_empty=True))
    numbers = [text for text in distinct if NUMBER.fullmatch(text)]
    others = [text for text in distinct if not NUMBER.fullmatch(text) and not (numbers and text in MARKS)]
    if not others:
        if said != NUMERIC and any(map(LEADING_ZERO.fullmatch, numbers)) and all(map(WHOLE.fullmatch, numbers)):
            example = next(text for text in numbers if LEADING_ZERO.fullmatch(text))
            return Found(
                problem=f"digits with leading zeros, such as {example}, which a number would lose", has_words=True
            )
        column = Column(name, NUMERIC)
        return _number(column, to_numbers(column, texts), said)
    if _all(DECIMAL_COMMA, others) and not any("." in text for text in numbers):
        if not _all(THOUSANDS, others):
            column = Column(name, NUMERIC, decimal=",")
            return _number(column, to_numbers(column, texts), said)
        return Found(problem=f"numbers such as {others[0]}: a decimal comma, or thousands? Write them with a point")
    if _all(THOUSANDS, others):
        return Found(problem=f"numbers with separators of thousands, such as {others[0]}: write them without")
    if said == NUMERIC:
        return Found(problem=f"not numbers: {_examples(others)}")
    return _words(name, counts, numbers, others)


def _words(name: str, counts: pandas.Series[Any], numbers: list[str], others: list[str]) -> Found:
    """What a column is that does not hold numbers alone; `counts` of its texts."""
    distinct, num_values = numbers + others, int(counts.sum())
    if _all(DATE, distinct):
        remedy = "write what matters of them as numbers, such as the month or the days since a start"
        return Found(problem=f"dates or times, such as {_shown(others[0])}: {remedy}")
    if {text.casefold() for text in distinct} <= {*TRUE, *FALSE} and len(distinct) > 1:
        return Found(Column(name, TRUTH), has_words=True)
    units = {match.groups() for match in map(WITH_UNIT.fullmatch, others) if match}
    if len(units) == 1 and _all(WITH_UNIT, others) and len(distinct) > 2:
        return Found(problem=f"numbers with a unit, such as {_shown(others[0])}: write the number alone")
    if (num_numbers := int(counts[numbers].sum())) >= num_values / 2:
        rest = num_values - num_numbers
        return Found(problem=f"{num_numbers:,} numbers and {pluralize(rest, 'other value')}: {_examples(others)}")
    if len(distinct) == 1:
        return Found(left_out=f"always {_shown(others[0])}")
    if len(distinct) == num_values >= MANY_ROWS:
        return Found(left_out="another text in each row", has_words=True)
    if len(distinct) > MOST_CATEGORIES:
        problem = f"{len(distinct):,} different texts in {num_values:,} rows, and each would be an input"
        return Found(problem=problem, has_words=True)
    warning = ""
    if alike := [group for group in _alike(distinct) if len(group) > 1]:
        warning = f"{' and '.join(map(_shown, alike[0]))} are two categories"
    elif marks := [text for text in others if text in MARKS]:
        warning = f"{_shown(marks[0])} ({pluralize(int(counts[marks[0]]), 'row')}) is taken for a category"
        warning += "; leave the cells empty if it means that the value is missing"
    return Found(Column(name, CATEGORY, in_order(distinct)), warning=warning, has_words=True)


def _number(column: Column, values: Values, said: str | None) -> Found:
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return Found(left_out="no values")
    if not np.abs(known).max() <= LARGEST:
        return Found(problem=f"numbers that are infinite or beyond float32, such as {known[np.abs(known).argmax()]:g}")
    distinct = np.unique(known)
    if len(distinct) == 1:
        return Found(left_out=f"always {distinct[0]:g}")
    warning = ""
    is_whole = bool((distinct == np.round(distinct)).all())
    if len(np.unique(distinct.astype(np.float32))) <= len(distinct) / 2:
        warning = "most of its numbers differ only beyond the 7 digits of float32: subtract what they share"
    elif len(values) >= MANY_ROWS and bool((np.diff(values) == 1).all()):
        warning = f"counts the rows, from {values[0]:g} to {values[-1]:g}: it says nothing about new ones"
    return Found(column, warning=warning, has_few=said is None and is_whole and 2 < len(distinct) <= FEW_VALUES)


def is_numeric(cells: pandas.Series[Any]) -> bool:
    return cells.dtype.kind in "iuf"


def as_texts(cells: pandas.Series[Any]) -> pandas.Series[Any]:
    """The cells as texts, whole numbers of a Parquet file without a point; empty where a value is missing."""
    if not is_numeric(cells):
        return cells
    texts: pandas.Series[Any] = cells.map(lambda value: "" if value != value else f"{value:.17g}").astype("str")
    return texts


def missing_texts(texts: pandas.Series[Any], *, only_empty: bool = False, marks: bool = False) -> pandas.Series[Any]:
    """Which of the texts mean a missing value; `marks`: those of numbers too."""
    return texts.isin([""] if only_empty else [*MISSING, *MARKS] if marks else MISSING)


def to_numbers(column: Column, cells: pandas.Series[Any]) -> Values:
    """The numbers of a column, NaN where they are missing; ValueError for other texts."""
    if is_numeric(cells):
        return np.asarray(cells.to_numpy(np.float64, na_value=np.nan))
    texts = cells.mask(missing_texts(cells, marks=True), "nan").to_numpy(object)
    if column.decimal != ".":
        texts = np.array([text.replace(column.decimal, ".") for text in texts], dtype=object)
    return np.asarray(texts, dtype=np.float64)


def in_order(texts: Iterable[str]) -> tuple[str, ...]:
    """Sorted, numbers by their value."""
    texts = sorted(texts)
    return tuple(sorted(texts, key=float)) if all(map(NUMBER.fullmatch, texts)) else tuple(texts)


def _all(pattern: re.Pattern[str], texts: list[str]) -> bool:
    return all(map(pattern.fullmatch, texts))


def _alike(texts: list[str]) -> Iterable[list[str]]:
    groups: dict[str, list[str]] = {}
    for text in texts:
        groups.setdefault(" ".join(text.split()).casefold(), []).append(text)
    return groups.values()


def _shown(text: str) -> str:
    return f"'{printable(text, keep='')[:40]}'"


def _examples(texts: list[str]) -> str:
    return first_few([_shown(text) for text in texts], 3)
