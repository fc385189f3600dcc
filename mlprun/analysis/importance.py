"""How much each swept key matters for a good result: PED-ANOVA, by Optuna."""

from __future__ import annotations

import importlib.util
import math
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

from mlprun.analysis.trials import Axis, Trials
from mlprun.errors import RunError

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FEWEST = 10  # completed trials
# The best quarter is compared with all, but 5 trials at least, as the method needs. By the best tenth, which is
# Optuna's default, noise gets twice the share in 50 trials (dev/LOG.md).
SHARE, FEWEST_BEST = 0.25, 5


def num_best(trials: Trials) -> int:
    """How many of the completed trials are compared with all of them."""
    return max(math.ceil(SHARE * len(trials.completed)), FEWEST_BEST)


@lru_cache(maxsize=1)  # several pictures of a sweep need it
def importances(trials: Trials) -> dict[str, float]:
    """Key -> its share of the importance, the largest first; RunError if there is too little to tell.

    PED-ANOVA compares, key by key, where the values of the best trials lie with where all lie: S. Watanabe, A. Bansal
    and F. Hutter, IJCAI 2023, arXiv 2304.10255. Keys that only some trials have are compared among those.
    """
    if importlib.util.find_spec("optuna") is None:
        raise RunError("the importance of keys needs Optuna\n  pip install 'mlprun[search]'")
    completed = trials.completed
    if len(completed) < FEWEST:
        raise RunError(f"the importance of keys needs {FEWEST} completed trials, and there are {len(completed)}")
    if not trials.axes:
        raise RunError("the importance of keys needs a key that differs")
    if len({trial.value for trial in completed}) == 1:
        raise RunError(f"no key matters: {trials.monitor} is equal in all {len(completed)} trials")
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that classes are experimental, and few trials have a key
            study = optuna.create_study(direction="maximize" if trials.higher_is_better else "minimize")
            axes = {axis.key: (axis, _distribution(axis)) for axis in trials.axes}
            for trial in completed:
                own = {key: axes[key] for key in trial.cells if key in axes}
                study.add_trial(
                    optuna.create_trial(
                        params={key: _value(axis, trial.cells[key]) for key, (axis, _) in own.items()},
                        distributions={key: distribution for key, (_, distribution) in own.items()},
                        value=trial.value,
                    )
                )
            share = (num_best(trials) - 0.5) / len(completed)  # Optuna rounds up
            found = get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(target_quantile=share))
    finally:
        optuna.logging.set_verbosity(before)
    return {key: float(value) for key, value in found.items()}


def _value(axis: Axis, cell: str) -> float | str:
    return cell if axis.choices else axis.place(cell)


def _distribution(axis: Axis) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if axis.choices:
        return CategoricalDistribution(axis.choices)
    return FloatDistribution(axis.low, axis.high, log=axis.is_log)
