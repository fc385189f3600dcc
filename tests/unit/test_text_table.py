"""Tables in text: aligned, and cut where a line has no room."""

from __future__ import annotations

import pytest

from mlprun.text_table import format_row, render

ROWS = [("key", "first", "n"), ("optim.lr", "0.1", "12"), ("seed", "a longer value", "3")]


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({}, ["key       first            n", "optim.lr  0.1             12", "seed      a longer value   3"]),
        ({"indent": "  "}, ["  key       first            n", "  optim.lr  0.1             12",
                            "  seed      a longer value   3"]),
        ({"max_width": 28}, ["key       first            n", "optim.lr  0.1             12",
                             "seed      a longer value   3"]),  # nothing may be cut
        ({"max_width": 24, "flexible": [0, 1]}, ["key       first        n", "optim.lr  0.1         12",
                                                 "seed      a lon…alue   3"]),
        ({"max_width": 14, "flexible": [0, 1]}, ["key        n", "optim.lr  12", "seed       3",
                                                 "hidden column…"]),
        ({"max_width": 20, "flexible": [1], "spare": [2]}, ["key       first", "optim.lr  0.1", "seed      a lon…alue",
                                                            "hidden columns: n"]),
        ({"max_width": 28, "flexible": [1], "spare": [2, 0]}, ["key       first            n",
                                                               "optim.lr  0.1             12",
                                                               "seed      a longer value   3"]),
        ({"max_width": 3, "flexible": [0, 1]}, [" n", "12", " 3", "hi…"]),
    ],
)  # fmt: skip
def test_rows_stand_in_columns(options, lines):
    assert render(ROWS, "<<>", **options) == lines


def test_a_line_ends_without_spaces():
    assert render([("a", ""), ("b", "long")], "<<") == ["a", "b  long"]
    assert render([("a", ""), ("b", "")], "<<") == ["a", "b"]


def test_a_table_may_be_empty():
    assert render([], "<>") == []


def test_a_row_can_be_printed_before_the_others_are_known():
    assert format_row(("weight", "16"), "<>", [8, 7]) == "weight         16"
