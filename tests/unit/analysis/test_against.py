"""What runs reached, against a key of their configs."""

from __future__ import annotations

import pytest

from mlprun.analysis.against import Against, draw_against, metrics_to_compare
from mlprun.analysis.curves import collect
from mlprun.analysis.plot import Look
from mlprun.errors import ConfigError
from tests.helpers.curves import CONFIG, make_run


def runs_of(folder, rates=(0.1, 1.0), widths=(8,), seeds=(0,)):
    for lr in rates:
        for width in widths:
            for seed in seeds:
                config = {**CONFIG, "seed": seed, "optim": {"lr": lr}, "model": {"width": width}}
                values = {"val/loss": lr + seed, "test/loss": lr + width}
                overrides = [f"optim.lr={lr}", f"model.width={width}", f"seed={seed}"]
                name = folder / f"{lr}_{width}_{seed}"
                make_run(name, [9.0, lr, 2 * lr], config=config, overrides=overrides, metrics=values, best_step=2)
    return collect([folder])


def test_a_dot_is_a_run_and_a_line_the_mean_of_the_seeds_of_each_other_config(tmp_path):
    series = runs_of(tmp_path, widths=(8, 16), seeds=(0, 2))
    figure, said = draw_against(series, Against("optim.lr", ["val/loss", "test/loss"]), Look())
    first, second = figure.axes
    eight, dots, *_ = first.get_lines()
    assert (eight.get_label(), list(eight.get_xdata()), list(eight.get_ydata())) == (
        "model.width=8",
        [0.1, 1.0],
        [1.1, 2.0],
    )
    assert list(zip(*dots.get_data(), strict=True)) == [(0.1, 0.1), (0.1, 2.1), (1.0, 1.0), (1.0, 3.0)]
    assert [line.get_label() for line in second.get_lines()[::2]] == ["model.width=8", "model.width=16"]
    assert first.get_xscale() == "log", "the rates differ by a factor of ten"
    assert first.get_title() == "at the best checkpoint; a dot is a run, the line the mean of 2 seeds"
    assert said == []


@pytest.mark.parametrize(
    ("key", "scale", "ticks"), [("model.width", "linear", [8, 16]), ("optim.lr", "linear", [0.1, 0.5])]
)
def test_values_close_together_have_a_linear_axis(tmp_path, key, scale, ticks):
    (panel,) = draw_against(runs_of(tmp_path, (0.1, 0.5), (8, 16)), Against(key, ["val/loss"]), Look())[0].axes
    assert (panel.get_xscale(), list(panel.get_lines()[0].get_xdata())) == (scale, ticks)


@pytest.mark.parametrize(("final", "value"), [(False, 0.1), (True, 0.2)])
def test_the_value_is_that_of_the_best_checkpoint_or_the_last(tmp_path, final, value):
    series = runs_of(tmp_path, (0.1,))
    (panel,) = draw_against(series, Against("optim.lr", ["train/loss"], final), Look())[0].axes
    assert list(panel.get_lines()[0].get_ydata()) == [value]


def test_what_is_no_number_has_a_place_each_and_a_run_without_a_value_is_said(tmp_path):
    for name, target, loss in (("a", "torch.Adam", 1.0), ("b", "torch.SGD", 2.0), ("c", "torch.SGD", None)):
        config = {**CONFIG, "optim": {"_target_": target}, "batch_size": 8 if loss is None else 4}
        make_run(tmp_path / name, config=config, overrides=[], metrics={"val/loss": 1.0, "test/loss": loss})
    figure, said = draw_against(collect([tmp_path]), Against("optim", ["test/loss"]), Look())
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["Adam", "SGD"]
    assert said == ["test/loss: 1 of 3 runs have no finite value, and are left out"]


@pytest.mark.parametrize(
    ("key", "look", "message"),
    [
        ("optm.lr", Look(), "--against=optm.lr: is no key of these runs\n  did you mean 'optim.lr'?"),
        ("seed", Look(log_x=True), "--log-x: not all values of seed are above 0"),
    ],
)
def test_keys_that_cannot_be_drawn(tmp_path, key, look, message):
    with pytest.raises(ConfigError) as error:
        draw_against(runs_of(tmp_path), Against(key, ["val/loss"]), look)
    assert str(error.value).startswith(message)


def test_the_metrics_are_the_monitor_and_its_test(tmp_path):
    series = runs_of(tmp_path)
    assert metrics_to_compare(series, [], final=False) == ["val/loss", "test/loss"]
    assert metrics_to_compare(series, [], final=True) == ["val/loss"]
    with pytest.raises(ConfigError, match=r"--metric=val/los: no run has it\n  did you mean 'val/loss'"):
        metrics_to_compare(series, ["val/los"], final=False)
    with pytest.raises(ConfigError, match="--final: test/loss is that of the best checkpoint"):
        metrics_to_compare(series, ["test/loss"], final=True)
