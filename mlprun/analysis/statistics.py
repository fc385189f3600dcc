"""Means, confidence intervals and significance tests over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, stdev

LEVEL = 0.95  # of intervals and tests


def mean_or_none(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def sd_or_none(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % confidence interval of the mean; None for fewer than two values.

    mean ± t(0.975, n - 1) · s / √n: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2. It assumes independent
    values with about a normal distribution.
    """
    if len(values) < 2:
        return None
    half = _quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def separable(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Welch's t-test, two-sided at 95 %: whether two means differ; None if either has a single value.

    |mean1 - mean2| / √(v1 + v2) > t(0.975, df), where v = s² / n of each and
    df = (v1 + v2)² / (v1² / (n1 - 1) + v2² / (n2 - 1)): B. L. Welch, Biometrika 34 (1947) 28-35; NIST/SEMATECH
    e-Handbook, 1.3.5.3.

    If neither varies, any difference counts. There is no correction for multiple comparisons, nor for selecting the
    best by the same values: among many equal configurations, some are called different.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    difference = abs(mean(first) - mean(second))
    errors = stdev(first) / math.sqrt(len(first)), stdev(second) / math.sqrt(len(second))
    error = math.hypot(*errors)
    if error == 0:
        return difference > 0
    # df as above, divided by (v1 + v2)²: the squares of tiny numbers would be 0
    shares = [(e / error) ** 2 for e in errors]
    df = 1 / (shares[0] ** 2 / (len(first) - 1) + shares[1] ** 2 / (len(second) - 1))
    return difference / error > _quantile(df)


@dataclass(frozen=True)
class Paired:
    """A mean of differences on the same seeds; `half` of its 95 % interval, and p of the paired t-test, two-sided.

    Both are None for fewer than two; p also if all differences are equal, from which no spread can be told.
    """

    difference: float
    half: float | None
    p: float | None


def paired(differences: Sequence[float]) -> Paired:
    """Student's paired t-test: t = d / (s / √n) with n - 1 degrees of freedom; NIST/SEMATECH e-Handbook, 1.3.5.3."""
    from scipy.special import stdtr

    found, limits = mean(differences), interval(differences)
    if limits is None:
        return Paired(found, None, None)
    spread, df = stdev(differences), len(differences) - 1
    p = float(2 * stdtr(df, -abs(found) / spread * math.sqrt(df + 1))) if spread else None
    return Paired(found, (limits[1] - limits[0]) / 2, p)


def _quantile(df: float) -> float:
    """t(0.975, df)."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + LEVEL) / 2))
