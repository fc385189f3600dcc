"""Pictures of a sweep: what is where."""

from __future__ import annotations

import pytest

from mlprun.analysis.plot import Look
from mlprun.analysis.sweep_pictures import PICTURES, draw_best_so_far, draw_parallel, draw_slices, write
from mlprun.analysis.trial_marks import ValueScale, round_numbers
from mlprun.analysis.trials import trials_of
from mlprun.errors import ConfigError
from tests.helpers.trials import a_run

ENDED = [(3.0, "completed"), (4.0, "pruned"), (None, "failed"), (2.0, "completed"), (2.5, "completed")]


def trials(ended=ENDED, **more):
    return trials_of([a_run(i, *end, **more) for i, end in enumerate(ended, 1)], {})


def test_best_so_far_is_a_staircase_against_trials_and_time():
    figure = draw_best_so_far(trials(), Look())
    assert [panel.get_xlabel() for panel in figure.axes] == ["trials that have ended", "seconds, without pauses"]
    for panel in figure.axes:
        (line,) = panel.get_lines()
        assert list(line.get_xdata()) == [1, 4, 5, 5]
        assert list(line.get_ydata()) == [3, 2, 2, 2]
    assert figure.get_suptitle() == "best val/loss 2.0000; 5 trials, 1 pruned, 1 failed"


def test_each_kind_of_end_has_a_mark_and_failed_ones_lie_at_the_bad_edge():
    for monitor, is_top in (("val/loss", True), ("val/accuracy", False)):
        (panel,) = draw_slices(trials(monitor=monitor), Look()).axes
        marks = {mark.get_label(): mark for mark in panel.collections}
        assert marks.keys() == {"completed", "pruned", "failed"}
        ((x, y),) = marks["failed"].get_offsets()
        assert x == 0.3
        assert (y > 0.9) == is_top
        low, high = panel.get_xlim()
        assert low < 0.1 < 0.5 < high


def test_trials_with_one_choice_lie_side_by_side():
    runs = [a_run(i, float(i), kind=kind) for i, kind in enumerate("abababab")]
    _, panel = draw_slices(trials_of(runs, {}), Look()).axes
    (marks,) = panel.collections
    xs = [x for x, _ in marks.get_offsets()]
    assert len(set(xs)) == 8
    assert [round(x) for x in xs] == [0, 1] * 4
    assert [text.get_text() for text in panel.get_xticklabels()] == ["a", "b"]


@pytest.mark.parametrize(
    ("values", "monitor", "look", "expected"),
    [
        ([1.0, 2.0, 3.0, 4.0], "val/loss", Look(), (1.0, 4.0, False)),
        ([1.0, 2.0, 3.0, 1e6], "val/loss", Look(), (1.0, 3.0, True)),  # far beyond all others
        ([1.0, 20.0, 30.0, 900.0], "val/loss", Look(), (1.0, 900.0, True)),
        ([1.0, 2.0, 3.0, 4.0], "val/loss", Look(log_y=True), (1.0, 4.0, True)),
        ([0.9, 0.8, 0.7, -5000.0, 0.85], "val/r2", Look(), (0.9, 0.7, False)),
        ([0.5, 0.5], "val/accuracy", Look(), (0.5, 0.5, False)),
    ],
)
def test_the_axis_of_the_value(values, monitor, look, expected):
    found = trials([(value, "completed") for value in values], monitor=monitor)
    scale = ValueScale.of(found, look)
    assert (scale.best, scale.worst, scale.is_log) == expected
    assert scale.height(scale.best) in (1.0, 0.5)


def test_a_logarithm_of_what_is_not_above_0_is_refused():
    with pytest.raises(ConfigError, match="--log-y: not all values of val/loss are above 0"):
        draw_slices(trials([(0.0, "completed"), (1.0, "completed")]), Look(log_y=True))


def test_parallel_lines_end_at_the_monitor_only_if_the_trial_completed():
    figure = draw_parallel(trials(), Look())
    (panel,) = figure.axes
    ends = sorted(segment[-1][0] for lines in panel.collections for segment in lines.get_segments())
    assert ends == [0, 0, 1, 1, 1]
    best = panel.collections[-1].get_segments()[-1]
    assert list(best[-1]) == [1, 1], "drawn last, and at the top"


def test_many_trials_of_many_keys_stay_readable():
    keys = {f"a_key_with_a_long_name_{i}": i for i in range(20)}
    ended = ["completed"] * 9 + ["pruned"] * 250  # too few completed ones for Optuna, which would take seconds
    runs = [a_run(n, float(n), end, **{key: n * i for key, i in keys.items()}) for n, end in enumerate(ended)]
    many = trials_of(runs, {})
    figure = draw_slices(many, Look())
    assert len([panel for panel in figure.axes if panel.axison]) == 8
    assert figure.get_suptitle().endswith("8 of 20 keys")
    assert all(mark.get_rasterized() for panel in figure.axes for mark in panel.collections)
    (panel,) = draw_parallel(many, Look()).axes
    assert len(panel.collections[0].get_segments()) == 200


def test_what_cannot_be_drawn_is_returned(tmp_path):
    one = trials([(1.0, "completed")])
    files, refused = write(one, list(PICTURES), lambda name: tmp_path / f"{name}.svg", Look())
    assert [file.name for file in files] == ["best_so_far.svg"]
    assert [str(error).partition("\n")[0] for error in refused] == [
        "the importance of keys needs 10 completed trials, and there are 1",
        "no key of the 1 trial has several values",
        "no key of the 1 trial has several values",
    ]


def test_round_numbers_keep_their_distance():
    assert round_numbers(0.0001, 0.1, is_log=True) == pytest.approx([0.0001, 0.001, 0.01, 0.1])
    assert round_numbers(16, 128, is_log=False) == [16, 30, 60, 90, 128]
    assert round_numbers(2, 2, is_log=False) == [2]
