"""Means, intervals and Welch's test equal SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from mlprun.analysis.statistics import Paired, interval, paired, separable

SAMPLES = st.lists(st.floats(-1e3, 1e3).map(lambda x: round(x, 6)), min_size=2, max_size=9)


@given(SAMPLES)
def test_the_interval_is_that_of_students_t(values):
    assume(len(set(values)) > 1)
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert interval(values) == pytest.approx((low, high), rel=1e-9, abs=1e-9)


@pytest.mark.filterwarnings("ignore:Precision loss:RuntimeWarning")  # scipy's, where one sample does not vary
@given(SAMPLES, SAMPLES, st.floats(-5, 5))
def test_separable_is_welchs_t_test(first, second, shift):
    assume(np.std(first) + np.std(second) > 1e-4)  # else scipy's own answer is rounding
    second = [value + shift for value in second]
    p = stats.ttest_ind(first, second, equal_var=False).pvalue
    assume(abs(p - 0.05) > 1e-6)
    assert separable(first, second) == separable(second, first) == (p < 0.05)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([0.5], [0.25], None),
        ([0.5], [0.25, 0.26, 0.27, 0.28, 0.29], None),
        ([0.25, 0.26, 0.27, 0.28, 0.29], [0.5], None),
        ([0.1, 0.1, 0.1], [0.1, 0.1], False),  # neither varies
        ([0.1, 0.1, 0.1], [0.2, 0.2], True),
        ([0.5, 0.5], [0.5, 0.75], False),  # one varies
        ([0.5, 0.5, 0.5], [0.75, 0.7500001, 0.75], True),
        ([1e-200, 3e-200], [1e-200, 2e-200], False),  # squares would be 0
        ([1e-200, 1.001e-200], [9e-200, 9.001e-200], True),
        ([1e300, 1.001e300], [-9e300, -9.001e300], True),  # squares would be infinite
    ],
)
def test_separable_at_the_edges(first, second, expected):
    assert separable(first, second) is expected


@pytest.mark.parametrize("values", [[], [0.5]])
def test_one_value_has_no_interval(values):
    assert interval(values) is None


@pytest.mark.parametrize(("first", "second"), [([1.0, 2.0, 4.0], [1.5, 2.2, 5.0]), ([1.0, 2.0], [2.0, 1.0])])
def test_paired_is_the_paired_t_test(first, second):
    found = paired([b - a for a, b in zip(first, second, strict=True)])
    expected = stats.ttest_rel(second, first)
    low, high = expected.confidence_interval()
    assert (found.p, found.half) == pytest.approx((expected.pvalue, (high - low) / 2))
    assert found.difference == pytest.approx((low + high) / 2, abs=1e-12)


def test_paired_without_spread_has_no_p():
    assert paired([0.5]) == Paired(0.5, None, None)
    assert paired([0.5, 0.5]) == Paired(0.5, 0.0, None)
