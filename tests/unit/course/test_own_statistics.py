"""A test part that is scaled by its own statistics."""

from __future__ import annotations

import pytest
import torch

from mlprun.course.own_statistics import own_statistics
from mlprun.data.source import Examples, Source
from mlprun.data.splits import make_splits
from mlprun.runs import checkpoint
from mlprun.version_one import upgrade_config
from tests.helpers.runs import record_of

SPLITS = {
    "task": "classification", "input_shape": [2], "num_outputs": 2, "val_fraction": 0.2, "test_fraction": 0.2,
    "split_seed": 0, "normalize": "standardize", "limit": 50, "limit_eval": 20,
}  # fmt: skip


def values(count: int) -> Examples:
    return Examples(torch.randn(count, 2, generator=torch.Generator().manual_seed(0)) * 3, torch.arange(count) % 2)


@pytest.mark.parametrize("test", [None, values(30)], ids=["carved", "of its own"])
@pytest.mark.parametrize("how", ["standardize", "minmax"])
def test_only_the_test_part_is_scaled_by_its_own_statistics(test, how):
    splits = SPLITS | {"normalize": how}
    source = Source(values(100), test=None if test is None else Examples(test.inputs + 5, test.targets))
    plain = make_splits(own_statistics(source, "train", **splits), val=None, **splits)
    parts = make_splits(own_statistics(source, "test", **splits), val=None, **splits)
    for name in ("train", "val"):
        assert torch.equal(getattr(parts, name).inputs, getattr(plain, name).inputs)
    assert torch.equal(parts.normalizer.scale, plain.normalizer.scale)
    assert torch.equal(parts.test.targets, plain.test.targets)
    scaled = parts.normalizer(parts.test.inputs)
    found = scaled.aminmax(dim=0) if how == "minmax" else (scaled.mean(0), scaled.std(0, correction=0))
    torch.testing.assert_close(tuple(found), (torch.zeros(2), torch.ones(2)), atol=1e-5, rtol=0)


def test_the_final_test_and_eval_use_it_and_nothing_else_moves(mlprun, tmp_path):
    found = {}
    for by in ("train", "test"):
        line = ["experiment=own_statistics", "epochs=5", f"data.dataset.scale_test_by={by}", f"hydra.run.dir={by}"]
        result = mlprun(*line)
        assert result.status == 0, result.err
        found[by] = dict(line.split() for line in mlprun("eval", by).out.splitlines())
        recorded = record_of(tmp_path / by)["metrics"]
        assert float(found[by]["test/loss"]) == recorded["test/loss"]
    assert found["train"]["test/loss"] != found["test"]["test/loss"]
    one, other = (checkpoint.load(tmp_path / by / "checkpoints" / "best.pt")["model"] for by in ("train", "test"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_typo_is_refused(mlprun):
    result = mlprun("experiment=own_statistics", "data.dataset.scale_test_by=tset")
    assert result.status == 2
    assert "data.dataset.scale_test_by=tset: is no such split\n  did you mean 'test'?" in result.err


def test_the_key_of_version_one_is_this_data_set(mlprun, tmp_path):
    mlprun("experiment=own_statistics", "debug=fast", "hydra.run.dir=run")
    today = record_of(tmp_path / "run")["config"]
    dataset = today["data"]["dataset"]
    stored = today | {"data": today["data"] | {"dataset": dataset["source"], "normalize_test_by": "test"}}
    assert upgrade_config(stored) == today
    stored["data"]["normalize_test_by"] = "train"
    assert upgrade_config(stored)["data"] == today["data"] | {"dataset": dataset["source"]}
