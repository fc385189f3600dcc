"""When a run of a sweep stops because others do better: the rules of `sweep.pruner`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mlprun.runs.evaluations import read_reports, report

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


@dataclass(frozen=True)
class Pruner:
    """Compares a run with the other runs of its sweep, through a file in the sweep's directory.

    The decision depends on what the others have reported by then, so with one worker it is repeatable.
    """

    rule: str
    directory: Path  # of the run, in the sweep's
    eval_every: int  # steps
    higher_is_better: bool

    def is_over(self, step: int, value: float | None) -> bool:
        """Whether the run ends after the evaluation at `step`.

        Args:
            value: of the monitor; None if it was reported before a resume.
        """
        sweep_dir, name, number = self.directory.parent, self.directory.name, math.ceil(step / self.eval_every)
        if value is not None:
            report(sweep_dir, name, number, -value if self.higher_is_better else value)
        reports = read_reports(sweep_dir)
        own = reports.pop(name, {})
        if number not in own:
            return False
        numbers = range(1, number + 1)
        others = [[values.get(n, math.inf) for n in numbers] for values in reports.values() if number in values]
        return RULES[self.rule]([own.get(n, math.inf) for n in numbers], others)
