"""Values in words."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlprun.formatting import (
    as_typed,
    first_few,
    format_bytes,
    format_duration,
    format_metric,
    pluralize,
    truncate,
    truncate_middle,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"), (True, "true"), (False, "false"), (3, "3"), (1.0, "1.0"), (1e-5, "1e-05"), ("adam", "adam"),
        ("", ""), ("two\nlines", "two lines"), ([1, 28, 28], "[1,28,28]"), (("a", None), "[a,null]"), ([], "[]"),
        ({"width": 8, "of": {"x": [True]}}, "{width:8,of:{x:[true]}}"), (Path("a b"), "a b"), (math.inf, "inf"),
    ],
)  # fmt: skip
def test_a_value_as_one_would_type_it(value, text):
    assert as_typed(value) == text


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: pluralize(0, "run"), "0 runs"),
        (lambda: pluralize(1, "run"), "1 run"),
        (lambda: pluralize(1294, "example"), "1,294 examples"),
        (lambda: first_few([], 2), ""),
        (lambda: first_few(["a", "b"], 2), "a, b"),
        (lambda: first_few(list("abcd"), 2), "a, b and 2 more"),
        (lambda: format_metric(0.98765), "0.9877"),
        (lambda: format_metric(-12345.67891), "-12345.6789"),
        (lambda: format_metric(1234567.8), "1.235e+06"),
        (lambda: format_metric(math.nan), "nan"),
        (lambda: format_metric(-math.inf), "-inf"),
        (lambda: truncate("abcdef", 6), "abcdef"),
        (lambda: truncate("abcdef", 4), "abc…"),
        (lambda: truncate("ab cdef", 4), "ab…"),  # no space before the ellipsis
        (lambda: truncate("abcdef", 5, "..."), "ab..."),
        (
            lambda: [format_bytes(number) for number in (0, 1000, 2**20, 5.25 * 2**30)],
            ["0 KiB", "1 KiB", "1.0 MiB", "5.2 GiB"],
        ),
        (lambda: truncate_middle("abcdef", 6), "abcdef"),
        (lambda: truncate_middle("abcdef", 4), "ab…f"),
        (lambda: truncate_middle("abcdef", 1), "…"),
    ],
)
def test_numbers_names_and_long_texts(call, text):
    assert call() == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 us"), (0.00085, "850 us"), (0.0055, "5.5 ms"), (0.25, "250 ms"), (1, "1 s"), (3.14159, "3.14 s"),
        (89.4, "89.4 s"), (90, "1.5 min"), (720, "12 min"), (5399, "90 min"), (5400, "1.5 h"), (360_000, "100.0 h"),
        (432_000, "5 days"),
    ],
)  # fmt: skip
def test_a_duration_has_a_unit_of_its_size(seconds, text):
    assert format_duration(seconds) == text
