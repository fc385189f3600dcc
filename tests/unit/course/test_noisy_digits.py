"""Digits in noise that is drawn anew: repeated, or not, by where it is drawn from."""

from __future__ import annotations

import pytest
import torch

from mlprun.course.noisy_digits import NoisyDigits
from mlprun.errors import ConfigError
from tests.helpers.runs import losses, twice


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
