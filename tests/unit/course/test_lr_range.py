"""The learning-rate range test: how its curve is read, and that what it suggests trains."""

from __future__ import annotations

import json
import math

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlprun.analysis import range_test
from mlprun.analysis.range_test import judge
from tests.helpers.runs import record_of

PER_DECADE = 60


def rates(low=-5, high=1):
    """Learning rates from 10^low to 10^high, evenly on a log axis."""
    count = (high - low) * PER_DECADE
    return [10 ** (low + i * (high - low) / count) for i in range(count + 1)]


def typical(rate, fall_at=-1.5, explode_at=0.3, noise=0.0):
    """Flat at 2.3, falls to 0.3 around 10^fall_at, explodes around 10^explode_at."""
    x = math.log10(rate)
    falling = 0.3 + 2.0 / (1 + math.exp(8 * (x - fall_at)))
    return falling + math.exp(min(10 * (x - explode_at), 200)) + noise * math.sin(1e5 * x)


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("fall_at", [-3.0, -2.0, -1.5])
def test_the_steepest_fall_is_suggested(fall_at, noise):
    curve = judge(rates(), [typical(rate, fall_at, noise=noise) for rate in rates()])
    # the moving average comes a tenth of a decade late
    assert math.log10(curve.suggested) == pytest.approx(fall_at + 0.1, abs=0.15)
    lowest = curve.rates[curve.lowest]
    assert curve.suggested < lowest < curve.rates[curve.explodes]
    assert math.log10(curve.rates[curve.explodes]) == pytest.approx(0.4, abs=0.15)
    assert curve.values == {
        "suggested_lr": curve.suggested, "lowest_lr": lowest, "explodes_lr": curve.rates[curve.explodes]
    }  # fmt: skip
    assert curve.sentence().startswith(f"optim.lr={curve.suggested:.2g} suggested")


def test_the_moving_average_of_a_constant_is_that_constant_from_its_first_step():
    assert judge(rates(), [2.0] * len(rates())).smoothed == pytest.approx([2.0] * len(rates()))


@pytest.mark.parametrize(
    ("name", "losses"),
    [
        ("flat", lambda rate: 2.3),
        ("noise about one value", lambda rate: 2.3 + 0.05 * math.sin(1e5 * rate)),
        ("only rising", lambda rate: 2.3 + rate),
        ("exploding at once", lambda rate: 2.3 * (1 + 1e6 * rate)),
    ],
)
def test_without_a_fall_there_is_no_suggestion_and_it_says_so(name, losses):
    curve = judge(rates(), [losses(rate) for rate in rates()])
    assert curve.suggested is None
    assert curve.values["lowest_lr"] is None
    assert curve.sentence().startswith("no suggestion: train/loss did not fall by 10% at any rate from 1e-05 to 10")
    range_test.picture(curve).savefig("/dev/null", format="png")


def test_what_comes_after_the_explosion_counts_no_more():
    """A net whose units have died may have a low loss again."""
    losses = [typical(rate) if rate < 3 else 0.001 for rate in rates()]
    curve = judge(rates(), losses)
    assert curve.rates[curve.lowest] < 1
    assert math.log10(curve.suggested) == pytest.approx(-1.4, abs=0.15)


@pytest.mark.parametrize("end", [None, math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_curve(end):
    losses = [typical(rate, explode_at=5) if rate < 0.5 else end for rate in rates()]
    curve = judge(rates(), losses)
    assert curve.explodes is None
    assert curve.ended_early
    assert curve.values["explodes_lr"] == curve.rates[-1] < 0.5
    assert "explodes at 0.48" in curve.sentence()


def test_a_range_that_is_too_short_to_explode_says_so():
    curve = judge(rates(-5, 0), [typical(rate, explode_at=5) for rate in rates(-5, 0)])
    assert curve.sentence().endswith("and does not explode up to 1")


@pytest.mark.parametrize("losses", [[2.0], [math.nan], [2.0, 1.0]])
def test_a_test_of_a_step_or_two_is_read_too(losses):
    curve = judge([0.1, 1.0][: len(losses)], losses)
    assert curve.sentence()
    range_test.picture(curve).savefig("/dev/null", format="png")


def test_rows_without_a_training_loss_are_passed_over(tmp_path):
    file = tmp_path / "metrics.jsonl"
    rows = [{"step": 0, "activations/x": 1.0}, {"step": 1, "optim/lr": 0.1, "train/loss": 2.0},
            {"step": 2, "optim/lr": 0.2, "train/loss": None}]  # fmt: skip
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert range_test.read(file) == ([0.1, 0.2], [2.0, None])


# A run ---------------------------------------------------------------------------------------------


def test_the_suggested_rate_trains(mlprun):
    result = mlprun("experiment=lr_range_test", "hydra.run.dir=outputs/test")
    assert result.status == 0, result.err
    record = result.record()
    found = record["range_test"]
    assert 0.02 < found["suggested_lr"] < found["lowest_lr"] < found["explodes_lr"] < 10
    assert f"range   optim.lr={found['suggested_lr']:.2g} suggested" in result.out + result.err
    run = result.folder / "outputs" / "test"
    assert (run / "lr_range.png").read_bytes().startswith(b"\x89PNG")
    assert EventAccumulator(str(run)).Reload().Tags()["images"].count("pictures/lr_range") == 1
    lines = ("data=digits", "model=mlp", "optim=sgd", f"optim.lr={found['suggested_lr']}", "hydra.run.dir=trained")
    assert mlprun(*lines).status == 0
    trained = record_of(result.folder / "trained")
    assert trained["metrics"]["test/accuracy"] > 0.94


def test_a_range_test_that_diverged_has_ended_and_is_not_resumed(mlprun):
    lines = ("data=diabetes", "model=linear", "optim=sgd", "optim.lr=1e6", "eval_every=10%", "logging.every='1 step'")
    result = mlprun(*lines, "scheduler=range_test", "scheduler.start_factor=1e-10", "hydra.run.dir=outputs/test")
    assert result.status == 0, result.err
    record = result.record()
    assert record["ended_by"] == "diverged"
    assert record["steps"] < record["num_steps"]
    assert record["range_test"]["suggested_lr"] < record["range_test"]["explodes_lr"] < 1e6
    again = mlprun("resume", "outputs/test")
    assert again.status == 0
    assert "already completed" in again.out


def test_noise_near_zero_is_no_explosion():
    rates = [10 ** (-5 + 6 * i / 400) for i in range(400)]
    losses = [1.0 if r < 1e-3 else max(0.01, 1.0 - 0.5 * math.log10(r / 1e-3)) for r in rates]
    noisy = [loss if loss > 0.02 else 0.01 * (1 + 20 * (i % 40 == 0)) for i, loss in enumerate(losses)]
    assert range_test.judge(rates, noisy).explodes is None


def test_of_a_test_that_was_made_longer_the_first_rise_is_read():
    rates = [10 ** (-5 + 4 * i / 100) for i in range(100)]
    losses = [1.0 - 0.5 * i / 100 for i in range(100)]
    alone, longer = range_test.judge(rates, losses), range_test.judge([*rates, *rates], [*losses, *[9.0] * 100])
    assert (alone.suggested, alone.lowest, alone.explodes) == (longer.suggested, longer.lowest, longer.explodes)
