"""The figures that the README promises on the real MNIST. All of them: `pytest -m mnist`."""

from __future__ import annotations

import statistics

import pytest
import torch

from tests.helpers.runs import record_of

pytestmark = pytest.mark.mnist


@pytest.mark.long
def test_mnist_mlp(mlprun, mnist_root):
    result = mlprun("experiment=mnist_mlp", f"data.root={mnist_root}")
    assert result.record()["metrics"]["test/accuracy"] >= 0.965


@pytest.mark.long
def test_mnist_cnn(mlprun, mnist_root):
    result = mlprun("experiment=mnist_cnn", f"data.root={mnist_root}")
    assert result.record()["metrics"]["test/accuracy"] >= 0.98


@pytest.mark.parametrize(("name", "steps", "accuracy"), [("cnn", 30, 0.88), ("mlp", 100, 0.8)])
def test_the_first_steps(mlprun, mnist_root, name, steps, accuracy):
    short = [f"steps={steps}", "logging.pictures=[]", "data.limit_eval=500"]
    result = mlprun(f"experiment=mnist_{name}", *short, f"data.root={mnist_root}")
    assert result.record()["metrics"]["test/accuracy"] >= accuracy


@pytest.mark.long
def test_mnist_notebook(mlprun, mnist_root):
    result = mlprun("-m", "experiment=mnist_notebook", "seed=0,1,2", f"data.root={mnist_root}")
    found = [record_of(file.parent)["metrics"] for file in (result.folder / "outputs" / "sweeps").glob("*/*/run.json")]
    assert len(found) == 3
    assert 0.892 <= statistics.mean(m["test/accuracy"] for m in found) <= 0.908
    assert 0.335 <= statistics.mean(m["test/loss"] for m in found) <= 0.370


def test_the_splits_are_mnists_own_and_the_pixels_of_val_and_test_do_not_reach_the_normalizer(mlprun, mnist_root):
    result = mlprun("data=mnist", "model=linear", "steps=1", f"data.root={mnist_root}")
    assert "mnist: 54,000 train, 6,000 val, 10,000 test" in result.out
    state = torch.load(result.runs[0] / "checkpoints" / "last.pt", weights_only=True)
    assert float(state["normalizer"]["shift"]) / 255 == pytest.approx(0.1307, abs=5e-4), "the field's own figure"
    assert float(state["normalizer"]["scale"]) / 255 == pytest.approx(0.3081, abs=5e-4)
