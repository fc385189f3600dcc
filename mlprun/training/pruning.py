"""When a run of a sweep stops because others do better: the rules of `sweep.pruner`."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from statistics import median

from mlprun.runs.evaluations import Evaluations

KEEP = 3  # one run in three goes on
NUM_STARTED = 5  # runs that `median` compares with, at least


def prune_median(own: list[float], others: list[list[float]]) -> bool:
    """Whether a run is worse than the median of the others at the same evaluation, as Optuna's MedianPruner.

    Args:
        own: the values of its evaluations so far; smaller is better.
        others: of each other run that has done as many.
    """
    return len(others) >= NUM_STARTED and min(own) > median(values[len(own) - 1] for values in others)


def prune_asha(own: list[float], others: list[list[float]]) -> bool:
    """Whether a run is not among the best third of all at its rung: evaluations 1, 3, 9, … (Li et al., 2020)."""
    number = len(own)
    return KEEP ** round(math.log(number, KEEP)) == number and _is_below_best_third(own, others)


def prune_top(own: list[float], others: list[list[float]]) -> bool:
    """Whether a run is not among the best third after its first evaluation (Egele et al., arXiv 2307.15422)."""
    return len(own) == 1 and _is_below_best_third(own, others)


def _is_below_best_third(own: list[float], others: list[list[float]]) -> bool:
    values = sorted([own[-1], *(values[len(own) - 1] for values in others)])
    return own[-1] > values[max(len(values) // KEEP, 1) - 1] or not math.isfinite(own[-1])


RULES: dict[str, Callable[[list[float], list[list[float]]], bool]] = {
    "median": prune_median,
    "asha": prune_asha,
    "top": prune_top,
}


class Pruner:
    """Compares a run with the other runs of its sweep, through a file in the sweep's directory.

    The decision depends on what the others have reported by then, so with one worker it is repeatable.

    Args:
        rule: of `RULES`.
        directory: of the run, in the sweep's.
        eval_every: steps.
    """

    def __init__(self, rule: str, directory: Path, eval_every: int, higher_is_better: bool) -> None:
        self._rule, self._name, self._eval_every = RULES[rule], directory.name, eval_every
        self._sign = -1 if higher_is_better else 1
        self._evaluations = Evaluations(directory.parent)

    def is_over(self, step: int, value: float | None) -> bool:
        """Whether the run ends after the evaluation at `step`.

        Args:
            value: of the monitor; None if it was reported before a resume.
        """
        number = math.ceil(step / self._eval_every)
        if value is not None:
            self._evaluations.report(self._name, number, self._sign * value)
        reports = self._evaluations.read()
        own = reports.get(self._name, {})
        if number not in own:
            return False
        numbers = range(1, number + 1)
        others = [
            [values.get(n, math.inf) for n in numbers]
            for name, values in reports.items()
            if name != self._name and number in values
        ]
        return self._rule([own.get(n, math.inf) for n in numbers], others)
