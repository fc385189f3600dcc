"""The configurations of a sweep as trials."""

from __future__ import annotations

import pytest

from mlprun.analysis.trials import trials_of
from mlprun.errors import RunError
from tests.helpers.trials import a_run


def test_a_trial_is_a_configuration_in_the_order_in_which_they_ended():
    runs = [a_run(7, 3.0, lr=0.1), a_run(2, 1.0, lr=0.2), a_run(9, 2.0, lr=0.2, seed=1), a_run(4, 0.5, lr=0.3)]
    trials = trials_of(runs, {})
    assert [(trial.cells["optim.lr"], trial.values) for trial in trials.all] == [
        ("0.3", [0.5]),
        ("0.1", [3.0]),
        ("0.2", [1.0, 2.0]),
    ]
    assert trials.repeats == "1-2 seeds"
    assert [axis.key for axis in trials.axes] == ["optim.lr"], "a seed is none"


@pytest.mark.parametrize(
    ("monitor", "best"),
    [("val/loss", [(1, 3.0), (3, 3.0), (5, 1.0)]), ("val/accuracy", [(1, 3.0), (3, 4.0), (5, 4.0)])],
)
def test_only_completed_trials_are_the_best_so_far(monitor, best):
    ended = [(3.0, "completed"), (0.0, "pruned"), (4.0, "completed"), (None, "failed"), (1.0, "completed")]
    trials = trials_of([a_run(i, *end, monitor=monitor) for i, end in enumerate(ended, 1)], {})
    assert trials.best_so_far() == best
    assert [trial.status for trial in trials.all] == [status for _, status in ended]


@pytest.mark.parametrize(
    ("second", "status", "values"),
    [
        ((2.0, "completed"), "completed", [1.0, 2.0]),
        ((None, "failed"), "failed", []),  # the mean of the others would flatter it
        ((9.0, "pruned"), "pruned", [9.0]),
    ],
)
def test_a_trial_is_completed_if_all_its_seeds_are(second, status, values):
    runs = [a_run(1, 1.0, lr=0.1), a_run(2, *second, lr=0.1, seed=1), a_run(3, 5.0, lr=0.2)]
    trial = trials_of(runs, {}).all[0]
    assert (trial.status, trial.values) == (status, values)


@pytest.mark.parametrize(
    ("values", "scale", "kind"),
    [
        ([0.001, 0.01], None, "log"),
        ([0.001, 0.002], None, "linear"),
        ([0.001, 0.002], "log", "log"),
        ([0.001, 0.1], "linear", "linear"),
        ([0, 100], None, "linear"),
        ([0, 100], "log", "linear"),
        (["small", "large"], None, "choices"),
        ([None, 0.5], None, "choices"),
        ([[32], [64, 32]], None, "choices"),
    ],
)
def test_an_axis_is_as_the_search_says_or_as_the_values_are_spaced(values, scale, kind):
    runs = [a_run(i, size=value, lr=0.1) for i, value in enumerate(values)]
    (axis,) = trials_of(runs, {} if scale is None else {"optim.size": scale}).axes
    assert ("choices" if axis.choices else "log" if axis.is_log else "linear") == kind
    assert sorted(axis.share(cell) for cell in axis.choices or map(str, values)) == [0, 1]


def test_a_trial_may_lack_a_key():
    trials = trials_of([a_run(1, momentum=0.5), a_run(2, momentum=0.9), a_run(3)], {})
    assert ["optim.momentum" in trial.cells for trial in trials.all] == [True, True, False]
    assert [axis.key for axis in trials.axes] == ["optim.lr", "optim.momentum"]


def test_times_are_without_pauses():
    trials = trials_of([a_run(number) for number in (1, 3, 403, 404)], {})
    assert [trial.ended_sec for trial in trials.all] == [1, 3, 4, 5]
    (_, old), new = a_run(1), a_run(2)
    del old["ended_at"]
    assert trials_of([(new[0] / "old", old), new], {}).all[0].ended_sec is None


def test_what_is_left_out_is_noted():
    runs = [a_run(1), a_run(2), a_run(3, None, "running"), a_run(4, monitor="val/accuracy")]
    trials = trials_of(runs, {})
    assert trials.notes == [
        "left out: 1 configuration that digits by val/loss cannot be compared with",
        "left out: 1 configuration with a run that has not ended",
    ]
    with pytest.raises(RunError, match="here: no completed run"):
        trials_of([a_run(1, None, "failed")], {}, "here")
