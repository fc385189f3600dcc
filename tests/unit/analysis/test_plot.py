"""Curves: which, in which panels, with which names."""

from __future__ import annotations

import math

import pytest

from mlprun.analysis.curves import collect, curve, default_metrics, mean_curve, with_seconds
from mlprun.analysis.plot import LISTED, Look, draw, draw_run, notes
from mlprun.errors import ConfigError
from mlprun.runs.record import RunRecord
from tests.helpers.curves import LOSSES, make_run


def lines_of(panel) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()}


def test_a_curve_has_the_rows_with_the_metric_and_gaps_where_it_was_not_finite():
    rows = [
        {"step": 1, "train/loss": 2.0},
        {"step": 2, "train/loss": None, "val/loss": 3.0},
        {"step": 3, "val/loss": 1.0},
        {"step": 4, "train/loss": 1.0},
    ]
    xs, ys = curve(rows, "train/loss")
    assert xs == [1, 2, 4]
    assert [ys[0], math.isnan(ys[1]), ys[2]] == [2.0, True, 1.0]
    assert curve(rows, "val/loss") == ([2, 3], [3.0, 1.0])


def test_the_axis_may_be_any_metric():
    rows = [{"step": 1, "optim/lr": 1e-4, "train/loss": 2.0}, {"step": 2, "optim/lr": None, "train/loss": 1.0}]
    assert curve(rows, "train/loss", "optim/lr") == ([1e-4], [2.0])


def test_the_mean_of_seeds_is_where_all_have_a_point():
    first, second = ([1.0, 2.0, 3.0], [1.0, 3.0, math.nan]), ([1.0, 2.0, 3.0, 4.0], [3.0, 3.0, 5.0, 5.0])
    (xs, middle), low, high = mean_curve([first, second])
    assert xs == [1, 2, 3]
    assert middle[:2] == [2, 3]
    assert (low[:2], high[:2]) == ([1, 3], [3, 3])
    assert all(math.isnan(values[2]) for values in (middle, low, high)), "one of them was not finite there"


def test_one_run_shows_losses_scores_and_rates_with_the_test_at_the_best_step(tmp_path):
    (series,) = collect([make_run(tmp_path / "a")])
    losses, scores, rates = draw_run(series).axes
    assert {"train/loss", "val/loss", "best step 3", "test/loss 1.5"} == set(lines_of(losses))
    assert lines_of(losses)["val/loss"] == ([1, 2, 3], LOSSES)
    assert lines_of(losses)["test/loss 1.5"] == ([3], [1.5])
    assert {"val/accuracy", "best step 3", "test/accuracy 0.75"} == set(lines_of(scores))
    assert "optim/lr" in lines_of(rates)
    assert rates.get_position().height < losses.get_position().height
    assert rates.get_xlabel() == "step (optimizer updates)"


def test_a_panel_for_each_metric_and_a_line_for_each_run_named_by_what_differs(tmp_path):
    series = collect([make_run(tmp_path / name, lr=lr) for name, lr in (("a", 0.1), ("b", 0.01))])
    figure = draw(series, default_metrics(series))
    assert [panel.get_ylabel() for panel in figure.axes] == ["train/loss", "val/loss", "val/accuracy"]
    assert list(lines_of(figure.axes[0])) == ["optim.lr=0.1", "optim.lr=0.01"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["optim.lr=0.1", "optim.lr=0.01"]


@pytest.mark.parametrize(
    ("made", "names"),
    [
        ([{"seed": 0}, {"seed": 1}], ["seed=0", "seed=1"]),
        ([{"seed": 0}, {"seed": 0}], ["seed=0 run0", "seed=0 run1"]),
        (
            [{"lr": 0.1}, {"lr": 0.2}, {"lr": 0.2, "seed": 1}],
            ["optim.lr=0.1", "optim.lr=0.2 seed=0", "optim.lr=0.2 seed=1"],
        ),
    ],
)
def test_runs_of_one_config_are_named_by_seed_then_by_directory(tmp_path, made, names):
    series = collect([make_run(tmp_path / f"run{i}", **how) for i, how in enumerate(made)])
    assert [each.label for each in series] == names


def test_the_seeds_of_a_folder_are_one_line_with_a_band(tmp_path):
    for lr in (0.1, 0.01):
        for seed in (0, 1):
            make_run(tmp_path / f"{lr}_{seed}", [4.0 + seed, 2.0 + seed, 1.0 + seed], seed=seed, lr=lr)
    series = collect([tmp_path])
    assert [(each.label, len(each.runs)) for each in series] == [("optim.lr=0.01", 2), ("optim.lr=0.1", 2)]
    (panel,) = draw(series, ["val/loss"]).axes
    assert lines_of(panel)["optim.lr=0.1"] == ([1, 2, 3], [4.5, 2.5, 1.5])
    assert len(panel.collections) == 2
    assert panel.get_title() == "mean of 2 seeds; the band is from the smallest to the largest"


def test_a_configuration_stands_for_what_is_completed_and_runs_that_go_on_are_drawn(tmp_path):
    make_run(tmp_path / "done", seed=0)
    make_run(tmp_path / "failed", seed=1, status="failed")
    make_run(tmp_path / "running", lr=0.5, status="running", lines='{"step": 1, "val/loss": 1.0}\n{"step": 2, "va')
    make_run(tmp_path / "begun", lr=0.7, status="running", lines="")
    series = collect([tmp_path])
    assert [[path.name for path, _ in each.runs] for each in series] == [["done"], ["running"]]
    assert series[1].rows == [[{"step": 1, "val/loss": 1.0}]], "a line that is being written does not count"


@pytest.mark.parametrize(
    ("losses", "metric", "scale"),
    [
        ([100.0, 10.0, 0.5], "val/loss", "log"),
        ([10.0, 1.0, 0.5], "val/loss", "linear"),
        ([100.0, 0.0, 0.5], "val/loss", "linear"),
        ([100.0, None, 0.5], "val/loss", "log"),
        ([1000.0, 1.0, 0.001], "val/accuracy", "linear"),
    ],
)
def test_a_loss_that_spans_two_decades_is_drawn_on_a_logarithmic_axis(tmp_path, losses, metric, scale):
    series = collect([make_run(tmp_path / "a", losses)])
    assert draw(series, [metric]).axes[0].get_yscale() == scale


def test_a_range_test_is_the_training_loss_over_the_rate(tmp_path):
    series = collect([make_run(tmp_path / "a")])
    (panel,) = draw(series, ["train/loss"], "optim/lr").axes
    assert (panel.get_xscale(), panel.get_xlabel()) == ("log", "learning rate")
    ((xs, ys),) = lines_of(panel).values()
    assert xs == pytest.approx([1e-5, 1e-4, 1e-3])
    assert ys == LOSSES


SPEEDS = [
    {"step": 2, "perf/examples_per_sec": 64.0},
    {"step": 3},
    {"step": 4, "perf/examples_per_sec": 32.0},
    {"step": 5},
]


@pytest.mark.parametrize(
    ("rows", "record", "seconds"),
    [
        (SPEEDS, {"config": {"batch_size": 32}}, [1, 2, 3, 4]),  # between and after the rows that have a speed, too
        (
            SPEEDS,
            {"config": {"batch_size": "all"}, "steps_per_epoch": 1, "data": {"sizes": {"train": 64}}},
            [2, 4, 6, 8],
        ),
        ([{"step": 1}, {"step": 2, "perf/examples_per_sec": None}], {"config": {"batch_size": 32}}, None),
        (SPEEDS, {"config": {"batch_size": "all"}}, None),
    ],
)
def test_seconds_come_from_the_speeds_that_a_run_logged(rows, record, seconds):
    found = with_seconds(rows, RunRecord(record))
    assert found == (rows if seconds is None else [{**row, "seconds": s} for row, s in zip(rows, seconds, strict=True)])


def test_the_mean_over_seconds_is_taken_between_the_rows():
    quick, slow = ([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]), ([2.0, 4.0, 6.0], [3.0, 2.0, 1.0])
    (xs, middle), low, high = mean_curve([quick, slow], "seconds")
    assert (xs, middle) == ([2.0, 2.5, 3.0], [2.5, 2.125, 1.75])
    assert (low, high) == ([2.0, 1.5, 1.0], [3.0, 2.75, 2.5])
    assert mean_curve([quick, ([7.0], [1.0])], "seconds")[0] == ([], [])


def test_gaps_and_what_a_logarithmic_axis_hides_are_said(tmp_path):
    losses = [None if i in (50, 52) else 100.0 - i for i in range(101)]
    series = collect([make_run(tmp_path / "a", losses)])
    look = Look(log_y=True)
    gaps = "val/loss: 2 of 101 values are not finite, and gaps in the curve"
    hidden = "val/loss: 1 of 99 values are not above 0, so --log-y hides them"
    assert notes(series, ["val/loss"], look) == [gaps, hidden]
    assert notes(series, ["val/loss"], Look()) == [gaps]
    (panel,) = draw(series, ["val/loss"], look).axes
    assert panel.get_yscale() == "log"
    line = panel.get_lines()[0]
    assert (line.get_marker(), line.get_markevery()) == (".", [51]), "no line leads to it"
    below = collect([make_run(tmp_path / "b", lines='{"step": 1, "epoch": 0.0, "val/loss": 1.0}\n')])
    with pytest.raises(ConfigError, match="--log-x: no value of epoch is above 0"):
        notes(below, ["val/loss"], Look("epoch", log_x=True))
    with pytest.raises(ConfigError, match="--x=seconds: no row has it and val/loss"):
        notes(series, ["val/loss"], Look("seconds"))


def test_twelve_curves_differ_in_colour_or_kind_of_line(tmp_path):
    series = collect([make_run(tmp_path / f"{i}", lr=i / 10) for i in range(1, LISTED + 1)])
    (panel,) = draw(series, ["val/loss"]).axes
    assert len({(line.get_color(), line.get_linestyle()) for line in panel.get_lines()}) == LISTED


def test_many_runs_share_a_legend_that_fits(tmp_path):
    series = collect([make_run(tmp_path / f"{i}", lr=i / 10) for i in range(1, 41)])
    (legend,) = draw(series, ["val/loss"]).legends
    texts = [text.get_text() for text in legend.get_texts()]
    assert len(texts) == LISTED
    assert (texts[0], texts[-1]) == (series[0].label, series[-1].label)
    assert legend.get_title().get_text() == "12 of 40"


def test_a_window_that_an_evaluation_cut_is_merged_with_the_next():
    """Rows every 50 steps and at evaluations every 41: the mean of a few steps would look like a dip."""
    steps = [41, 50, 82, 100]
    rows = [{"step": step, "train/loss": loss} for step, loss in zip(steps, [4.0, 100.0, 3.0, 2.0], strict=True)]
    xs, ys = curve(rows, "train/loss")
    assert xs == [41, 82, 100]
    assert ys == pytest.approx([4.0, (9 * 100.0 + 32 * 3.0) / 41, 2.0])
