"""Which runs `sweep.confirm` adds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlprun.config.compose import Composer
from mlprun.config.schema import SweepConfig
from mlprun.errors import ConfigError
from mlprun.runs.record import RunRecord
from mlprun.sweep.confirm import check_confirm, confirming, fresh_seeds
from mlprun.sweep.points import points


def swept(composer, words, losses):
    """The points of a line, completed with these losses."""
    found, _ = points(composer, composer.points(words), None)
    ended = [
        RunRecord(status="completed", config=point.config.to_dict(), metrics={"val/loss": loss})
        for point, loss in zip(found, losses, strict=True)
    ]
    return [replace(p, path=Path(p.fingerprint), record=r) for p, r in zip(found, ended, strict=True)]


def test_the_best_are_run_again_with_seeds_that_the_sweep_has_not(tmp_path):
    composer = Composer()
    words = ["data=iris", "optim.lr=0.1,0.2,0.3", "seed=0,1001", "sweep.pruner=top"]
    found = swept(composer, words, [3, 3, 1, 1, 2, 2])
    pairs = confirming(composer, found, tmp_path, SweepConfig(confirm=2, confirm_seeds=2))
    assert [point.overrides for point, _ in pairs] == [
        ["data=iris", f"optim.lr={lr}", f"seed={seed}", "sweep.pruner=none", "sweep.confirms=true"]
        for seed in (1000, 1002)
        for lr in (0.2, 0.3)
    ]
    assert [like.config.optim["lr"] for _, like in pairs] == [0.2, 0.3] * 2
    assert all(point.config.sweep.confirms and point.config.sweep.pruner == "none" for point, _ in pairs)


def test_each_fold_is_run_again(tmp_path):
    composer = Composer()
    words = ["data=iris", "data.num_folds=2", "data.fold=0,1", "optim.lr=0.1,0.2"]
    found = swept(composer, words, [2, 1, 2, 1])
    pairs = confirming(composer, found, tmp_path, SweepConfig(confirm=1, confirm_seeds=2))
    assert [(p.config.data.fold, p.config.optim["lr"], p.config.seed) for p, _ in pairs] == [
        (0, 0.2, 1000),
        (1, 0.2, 1000),
        (0, 0.2, 1001),
        (1, 0.2, 1001),
    ]


@pytest.mark.parametrize(
    ("words", "confirm", "said"),
    [
        (["optim.lr=0.1,0.2", "seed=0,1"], 3, "the sweep has 2 configurations, apart from seeds\n  choose at most 2"),
        (["optim.lr=0.1,0.2", "hydra.sweep.subdir=lr${optim.lr}"], 1, "needs directories for further seeds"),
    ],
)
def test_what_makes_no_sense_is_said(words, confirm, said):
    composer = Composer()
    words = ["data=iris", *words]
    with pytest.raises(ConfigError, match="confirm") as error:
        check_confirm(composer, words, SweepConfig(confirm=confirm), points(composer, composer.points(words), None)[0])
    assert said in str(error.value)


def test_a_search_has_as_many_configurations_as_trials():
    composer = Composer()
    settings = SweepConfig(confirm=4, num_trials=3)
    with pytest.raises(ConfigError, match="the search has 3 trials"):
        check_confirm(composer, ["optim.lr=interval(0.1,1)", "sweep.num_trials=3"], settings, None)


def test_fresh_seeds_leave_out_those_of_the_sweep():
    composer = Composer()
    found, _ = points(composer, composer.points(["data=iris", "seed=1000,1002"]), None)
    assert fresh_seeds(SweepConfig(confirm_seeds=3), found) == [1001, 1003, 1004]
