"""What a column is taken for, and which texts a user is told about."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlprun.data.table.columns import CATEGORY, NUMERIC, TRUTH, Found, infer, to_numbers
from mlprun.data.table.numerals import MISSING

ROWS = [str(i) for i in range(40)]
CITIES = [f"{i} Main Street" for i in range(150)] * 2


def found(cells, said=None):
    return infer("x", pd.Series(cells, dtype=None if isinstance(cells[0], float) else "str"), said)


@pytest.mark.parametrize(
    ("cells", "kind", "categories"),
    [
        (["1", "2.5", "-3e2", ".5", "+7"], NUMERIC, ()),
        (["1", "NA", "2", "", "nan"], NUMERIC, ()),
        (["1", "?", "2", "-"], NUMERIC, ()),  # marks among numbers
        ([1.5, float("nan"), 2.5], NUMERIC, ()),  # of a Parquet file
        (["yes", "No", "YES", ""], TRUTH, ()),
        (["True", "False"], TRUTH, ()),
        (["b", "a", "NA", "b"], CATEGORY, ("a", "b")),
        (["1st", "2nd", "3rd"], CATEGORY, ("1st", "2nd", "3rd")),
        (["Straße", "rue"], CATEGORY, ("Straße", "rue")),
        (["yes", "no", "perhaps"], CATEGORY, ("no", "perhaps", "yes")),
    ],
)
def test_what_a_column_is(cells, kind, categories):
    column = found(cells).column
    assert (column.kind, column.categories) == (kind, categories)


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["01234", "98765", "00501"], "leading zeros, such as 01234"),
        (["1,234", "12,500"], "a decimal comma, or thousands?"),
        (["1,234,567.5", "2"], "separators of thousands, such as 1,234,567.5"),
        (["1 234 567", "2"], "separators of thousands"),
        (["12 kg", "7 kg", "8.5 kg"], "with a unit, such as '12 kg': write the number alone"),
        (["$12", "$7", "$9.99"], "with a unit, such as '$12'"),
        (["50%", "7%", "8%"], "with a unit"),
        (["1", "2", "3", "many"], "3 numbers and 1 other value: 'many'"),
        (["1", "2", "inf", "4"], "3 numbers and 1 other value: 'inf'"),
        (["1e39", "2"], "beyond float32, such as 1e+39"),
        ([1.0, float("inf")], "infinite"),
        (["2007-11-11", "2008-01-30"], "dates or times, such as '2007-11-11'"),
        (["2007-11-11T10:00:00Z", "2008-01-30T10:00:00Z"], "dates"),
        (["1.2.2007", "13.12.2008"], "dates"),
        (["3/14/25", "4/1/25"], "dates"),
        (["12 Nov 2026", "13 Nov 2026"], "dates"),
        (["10:15", "23:59"], "dates or times"),
        (CITIES, "150 different texts in 300 rows"),
    ],
)
def test_what_cannot_be_used_as_it_is(cells, problem):
    assert problem in found(cells).problem


@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["", "NA", "null"], "no values"),
        ([float("nan")] * 3, "no values"),
        (["7", "7", "7.0"], "always 7"),
        (["a", "a", ""], "always 'a'"),
        ([f"A{i}" for i in range(30)], "another text in each row"),
    ],
)
def test_what_is_left_out(cells, why):
    assert found(cells) == Found(left_out=why, has_words="text" in why)


@pytest.mark.parametrize(
    ("cells", "warning"),
    [
        (ROWS, "counts the rows, from 0 to 39"),
        (["male", "Male", "female"], "'male' and 'Male' are two categories"),
        (["a", "?", "b", "?"], "'?' (2 rows) is taken for a category"),
        ([str(1_700_000_000 + i) for i in range(90)][::-1], "only beyond the 7 digits of float32"),
        (["1", "2.5", "3"], ""),
    ],
)
def test_what_is_reported(cells, warning):
    got = found(cells)
    assert got.column is not None
    assert warning in got.warning
    assert bool(warning) == bool(got.warning)


def test_the_user_decides():
    assert found(["01234", "00501"], CATEGORY).column.categories == ("00501", "01234")
    assert found(["01", "10"], NUMERIC).column.kind == NUMERIC
    assert found(["10", "9", "NA", ""], CATEGORY).column.categories == ("10", "9", "NA")  # Namibia is no missing value
    assert found([3.0, float("nan"), 10.0], CATEGORY).column.categories == ("3", "10")
    assert len(found(CITIES, CATEGORY).column.categories) == 150
    assert found(["1", "x"], NUMERIC).problem == "not numbers: 'x'"


def test_few_whole_numbers_may_be_codes():
    assert [found(cells).has_few for cells in (["1", "2", "3"], ["1", "2"], ["1", "2.5", "3"], ROWS)] == [
        True, False, False, False,
    ]  # fmt: skip
    assert not found(["1", "2", "3"], NUMERIC).has_few


def test_a_decimal_comma():
    cells = pd.Series(["3,5", "NA", "-1,25", "4"], dtype="str")
    column = infer("x", cells).column
    assert column.decimal == ","
    np.testing.assert_array_equal(to_numbers(column, cells), [3.5, np.nan, -1.25, 4])
    assert found(["3,5", "2.5"]).column is None  # neither


def test_the_texts_of_missing_values_are_those_of_pandas():
    from pandas._libs.parsers import STR_NA_VALUES

    assert {*MISSING} == STR_NA_VALUES
