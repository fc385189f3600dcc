"""Targets of a regression that are scaled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.runs import checkpoint
from mlprun.tasks.regression import Regression
from tests.helpers.tasks import evaluate

CPU = torch.device("cpu")
FAST = ["debug=fast", "data=diabetes"]


def split(source: Source, **changed: Any) -> Splits:
    settings: dict[str, Any] = {
        "val": None, "task": "regression", "input_shape": [2], "num_outputs": 2, "val_fraction": 0.2,
        "test_fraction": 0.2, "split_seed": 0, "normalize": "standardize", "limit": None, "limit_eval": None,
    }  # fmt: skip
    return make_splits(source, **{**settings, **changed})


def values(count: int = 100) -> Examples:
    """The second target never changes."""
    drawn = torch.randn(count, 3, generator=torch.Generator().manual_seed(0))
    return Examples(drawn[:, :2], torch.stack([1e4 + 50 * drawn[:, 2], torch.full((count,), 7.0)], 1))


class Lazy(Dataset[Any]):
    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, i: int) -> Any:
        return self.examples.inputs[i], self.examples.targets[i]


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])
def test_the_training_splits_targets_get_mean_0_and_deviation_1(lazy):
    source = Source(Lazy(values()) if lazy else values())
    parts = split(source, normalize_targets=True)
    targets = next(TrainBatches(parts.train, "all", parts.normalizer, CPU, 0, targets=parts.target_normalizer)
                   .starting_at(0)).targets  # fmt: skip
    assert targets.dtype == torch.float32
    assert targets[:, 0].mean() == pytest.approx(0, abs=1e-3)
    assert targets[:, 0].std(correction=0) == pytest.approx(1, abs=1e-3)
    assert torch.equal(targets[:, 1], torch.zeros(len(targets)))  # no variance counts as 1
    (val,) = EvalBatches(parts.val, 100, parts.normalizer, CPU, targets=parts.target_normalizer)
    stored = torch.stack([parts.val[i][1] for i in range(len(parts.val))]) if lazy else parts.val.targets
    scaling = parts.target_normalizer
    assert torch.allclose(val.targets * scaling.scale + scaling.shift, stored)


def test_only_the_training_split_is_measured():
    spoiled = values()
    test = values(30)
    test.targets.mul_(1000)
    one, other = (split(Source(spoiled, test=part), normalize_targets=True) for part in (values(30), test))
    assert torch.equal(one.target_normalizer.shift, other.target_normalizer.shift)
    assert split(Source(spoiled)).target_normalizer is None


def test_metrics_are_in_the_units_from_before():
    generator = torch.Generator().manual_seed(0)
    targets, outputs = (torch.randn(50, 2, generator=generator) for _ in range(2))
    shift, scale = torch.tensor([100.0, -3.0]), torch.tensor([20.0, 0.5])
    pairs = [(outputs[part], targets[part]) for part in (slice(0, 20), slice(20, 50))]
    task = Regression(nn.MSELoss(), 2)
    task.target_normalizer = Normalizer(shift, scale)
    found = evaluate(task, pairs).compute()
    unscaled = [tuple(values * scale + shift for values in pair) for pair in pairs]
    expected = evaluate(Regression(nn.MSELoss(), 2), unscaled).compute()
    for name in ("mse", "mae", "r2"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name
    assert found["loss"] == pytest.approx(float((outputs - targets).square().mean()))


def test_a_run_with_scaled_targets_can_be_undone_from_its_checkpoint(mlprun, tmp_path):
    result = mlprun("data=diabetes", "epochs=10", "hydra.run.dir=run")
    assert result.status == 0, result.err
    state = checkpoint.load(tmp_path / "run" / "checkpoints" / "best.pt")
    shift, scale = (float(state["target_normalizer"][key]) for key in ("shift", "scale"))
    assert 140 < shift < 165
    assert 65 < scale < 90
    evaluated = dict(line.split() for line in mlprun("eval", "run").out.splitlines())
    assert float(evaluated["test/mse"]) == pytest.approx(float(evaluated["test/loss"]) * scale**2, rel=1e-5)
    assert float(evaluated["test/r2"]) > 0.3


def test_without_it_the_targets_stay_and_the_checkpoint_says_nothing(mlprun, tmp_path):
    result = mlprun(*FAST, "data.normalize_targets=false", "hydra.run.dir=run")
    assert result.status == 0, result.err
    assert "target_normalizer" not in checkpoint.load(tmp_path / "run" / "checkpoints" / "best.pt")
    evaluated = dict(line.split() for line in mlprun("eval", "run").out.splitlines())
    assert float(evaluated["test/mse"]) == pytest.approx(float(evaluated["test/loss"]), rel=1e-5)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["data.normalize_targets=true"], ["data.normalize_targets=true", "the targets of digits are classes"]),
        (["data=diabetes", "loss=bce"], ["data.normalize_targets=true", "BCEWithLogitsLoss takes probabilities"]),
    ],
)
def test_what_makes_no_sense_is_refused(mlprun, line, said):
    result = mlprun(*line)
    assert result.status == 2
    assert all(text in result.err for text in said), result.err
    assert result.runs == []
