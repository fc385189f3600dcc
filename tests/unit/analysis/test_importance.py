"""Which key matters."""

from __future__ import annotations

import math
import random

import pytest

from mlprun.analysis import importance
from mlprun.analysis.importance import importances
from mlprun.analysis.trials import trials_of
from mlprun.errors import RunError
from tests.helpers.trials import a_run


@pytest.mark.parametrize("monitor", ["val/loss", "val/accuracy"])
def test_the_key_that_makes_the_difference_is_the_most_important(monitor):
    draw = random.Random(0)
    sign = 1 if monitor == "val/loss" else -1
    runs = []
    for number in range(60):
        lr, kind, noise = 10 ** draw.uniform(-4, -1), draw.choice("ab"), draw.random()
        more = {"momentum": draw.random()} if kind == "a" else {}  # a key that only some have
        loss = (math.log10(lr) + 2) ** 2 + 0.2 * (kind == "a")
        runs.append(a_run(number, sign * loss, monitor=monitor, lr=lr, kind=kind, noise=noise, **more))
    found = importances(trials_of(runs, {}))
    assert next(iter(found)) == "optim.lr"
    assert found["optim.lr"] > 0.5
    assert found.keys() == {"optim.lr", "optim.kind", "optim.noise", "optim.momentum"}
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        ([a_run(i, i) for i in range(9)], "needs 10 completed trials, and there are 9"),
        ([a_run(i, 1.0) for i in range(12)], "val/loss is equal in all 12 trials"),
    ],
)
def test_too_little_to_tell(runs, why):
    with pytest.raises(RunError, match=why):
        importances(trials_of(runs, {}))


def test_without_optuna_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importance.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"pip install 'mlprun\[search\]'"):
        importances(trials_of([a_run(i, i) for i in range(12)], {}))
