"""`Rows`: a list of dicts that is also a table."""

from __future__ import annotations

import math
import sys

import pandas
import pytest

from mlprun import Rows, RunError

ROWS = Rows([{"step": 1, "train/loss": 2.0}, {"step": 2, "train/loss": 1.5, "val/loss": 1.25}])


def test_a_row_some_rows_and_a_column():
    assert ROWS[0] == {"step": 1, "train/loss": 2.0}
    assert isinstance(ROWS[1:], Rows)
    assert ROWS.columns == ["step", "train/loss", "val/loss"]
    assert ROWS["step"] == [1, 2]
    first, second = ROWS["val/loss"]
    assert math.isnan(first)
    assert second == 1.25
    with pytest.raises(KeyError, match=r"val/lose: no row has it; there are step, train/loss, val/loss"):
        ROWS["val/lose"]
    with pytest.raises(IndexError):
        ROWS[2]


def test_a_data_frame_where_pandas_is_installed(monkeypatch):
    frame = ROWS.to_pandas()
    pandas.testing.assert_frame_equal(frame, pandas.DataFrame(ROWS))
    assert frame["val/loss"].dropna().tolist() == [1.25]
    assert list(Rows().to_pandas().columns) == []
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(RunError, match="pandas is not installed"):
        ROWS.to_pandas()


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        (ROWS, ["step  train/loss  val/loss", "   1           2", "   2         1.5      1.25", "[2 rows]"]),
        (Rows(), ["[0 rows]"]),
    ],
)
def test_printed_it_is_a_table(rows, shown):
    assert repr(rows).splitlines() == shown


def test_of_many_rows_the_first_and_the_last_are_shown():
    lines = repr(Rows({"step": i, "note": "x" * 300} for i in range(100))).splitlines()
    assert [line.split()[0] for line in (lines[1], lines[10], lines[11], lines[12], lines[-2])] == [
        "0", "9", "…", "90", "99",
    ]  # fmt: skip
    assert lines[-1] == "[100 rows]"
    assert max(map(len, lines)) <= 160
