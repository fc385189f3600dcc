"""What the experiments on rates, batches and reproducibility claim, shortened, on data that needs no download."""

from __future__ import annotations

import json

import pytest
import torch

from mlprun.course.noisy_digits import NoisyDigits
from mlprun.errors import ConfigError
from tests.helpers.runs import record_of, rows_of


def losses(run):
    """Every train/loss and val/loss of a run, in order."""
    rows = rows_of(run)
    return [row[tag] for row in rows for tag in ("train/loss", "val/loss") if tag in row]


def twice(mlprun, *words):
    """The losses of the same line typed twice."""
    found = []
    for name in ("first", "second"):
        result = mlprun(*words, f"hydra.run.dir={name}")
        assert result.status == 0, result.err
        found.append(losses(result.folder / name))
    return found


def test_the_same_seed_gives_the_same_losses(mlprun):
    first, second = twice(mlprun, "experiment=same_seed", "epochs=2")
    assert first == second


@pytest.mark.parametrize("num_workers", [0, 2])
def test_noise_from_the_global_generator_is_repeated_and_that_of_an_unseeded_one_is_not(mlprun, num_workers):
    line = ("experiment=unseeded_noise", "epochs=1", f"data.num_workers={num_workers}", "data.limit=128")
    first, second = twice(mlprun, *line, "data.dataset.seeded=true")
    assert first == second
    for name in ("first", "second"):
        mlprun(*line, "data.dataset.seeded=false", f"hydra.run.dir=unseeded/{name}")
    (run,) = {file.parent.parent for file in mlprun("runs", "unseeded").folder.glob("unseeded/*/run.json")}
    assert losses(run / "first") != losses(run / "second")


def test_noisy_digits_are_the_digits_and_noise():
    clean, noisy = NoisyDigits(std=0.0, seeded=True), NoisyDigits(std=2.0, seeded=True)
    assert len(noisy) == 1797
    torch.manual_seed(0)
    noise = torch.stack([noisy[i][0] - clean[i][0] for i in range(500)])
    assert noisy[3][1] == clean[3][1]
    assert (noise.mean().item(), noise.std().item()) == pytest.approx((0, 2), abs=0.05)


@pytest.mark.parametrize("seeded", [True, False])
def test_the_same_example_is_another_each_time_unless_torch_is_seeded(seeded):
    noisy = NoisyDigits(std=1.0, seeded=seeded)
    torch.manual_seed(0)
    first = noisy[0][0]
    assert not torch.equal(first, noisy[0][0])
    torch.manual_seed(0)
    assert torch.equal(first, noisy[0][0]) == seeded


def test_negative_noise_is_refused():
    with pytest.raises(ConfigError, match="std=-1: must be >= 0"):
        NoisyDigits(std=-1, seeded=True)


def test_micro_batches_train_as_the_large_batch_does(mlprun):
    for accumulate in (1, 4):
        line = ("experiment=accumulation", f"trainer.accumulate={accumulate}", "epochs=3")
        assert mlprun(*line, f"hydra.run.dir=by_{accumulate}").status == 0
        folder = mlprun("show", f"by_{accumulate}").folder
    assert losses(folder / "by_1") == pytest.approx(losses(folder / "by_4"), rel=1e-4)


def test_more_training_than_data_overfits_and_patience_ends_it(mlprun):
    """As experiment=overfitting, which needs MNIST."""
    line = ("data=digits", "data.limit=60", "model.hidden=[128]", "optim.lr=0.01", "epochs=60", "eval_every='1 epoch'")
    for name, more in (("full", []), ("stopped", ["early_stopping.patience=5"])):
        result = mlprun(*line, *more, f"hydra.run.dir={name}")
        assert result.status == 0, result.err
    full, stopped = (record_of(result.folder / name) for name in ("full", "stopped"))
    rows = rows_of(result.folder / "full")
    assert rows[-1]["train/loss"] < 0.01
    assert rows[-1]["val/loss"] > full["metrics"]["val/loss"] + 0.02
    assert stopped["ended_by"] == "early_stopping"
    assert stopped["steps"] < full["steps"]


def test_a_larger_batch_has_a_smaller_noise_scale(mlprun):
    scales = {}
    for batch_size in ("8", "32", "all"):
        run = mlprun("experiment=batch_size", "epochs=1", f"batch_size={batch_size}", f"hydra.run.dir=b{batch_size}")
        row = json.loads((run.folder / f"b{batch_size}" / "metrics.jsonl").read_text().splitlines()[-1])
        scales[batch_size] = row["optim/noise_scale"]
    assert scales["8"] == pytest.approx(0.05 * (1294 / 8 - 1))
    assert scales["8"] > scales["32"] > scales["all"] == 0


@pytest.mark.parametrize("name", ["lr_decay", "lr_cyclical", "decay_or_batch"])
def test_a_ready_sweep_sweeps_what_its_file_says(mlprun, name):
    result = mlprun("-m", f"experiment={name}", "sweep.dry_run=true")
    assert result.status == 0, result.err
    assert {"lr_decay": "21", "lr_cyclical": "12", "decay_or_batch": "12"}[name] in result.out + result.err
