"""MixUp and CutMix: which share of which example, and what the loss gets."""

from __future__ import annotations

import pytest
import torch

from mlprun import randomness
from mlprun.data.batches import TrainBatches
from mlprun.data.mix import Mix
from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples

CPU = torch.device("cpu")
# Each image has its own constant value, and its number as class.
IMAGES = torch.arange(1.0, 7.0)[:, None, None, None].expand(6, 1, 8, 8).contiguous()
CLASSES = torch.arange(6)
BEFORE = IMAGES.roll(1, 0)


def mixed(mix: Mix, step: int, count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    return mix(IMAGES[:count], CLASSES[:count], randomness.generator(0, "perturb", step))


@pytest.mark.parametrize(
    "mix", [Mix(0.5, None, 6), Mix(None, 1.0, 6), Mix(0.5, 1.0, 6)], ids=["mixup", "cutmix", "both"]
)
def test_targets_have_the_shares_that_the_pixels_show(mix):
    for step in range(20):
        inputs, targets = mixed(mix, step)
        assert targets.sum(1).allclose(torch.ones(6))
        shares = targets.diagonal()[:, None, None, None]
        shown = (IMAGES * shares + BEFORE * (1 - shares)).mean((1, 2, 3))
        assert inputs.mean((1, 2, 3)).allclose(shown, atol=1e-5)


def test_cutmix_pastes_and_mixup_blends_and_of_both_one_is_drawn():
    is_pasted = [bool(((x := mixed(Mix(0.5, 1.0, 6), step)[0]) == x.round()).all()) for step in range(40)]
    assert 8 < sum(is_pasted) < 32


def test_a_batch_of_one_stays_as_it_is():
    inputs, targets = mixed(Mix(0.5, None, 6), 0, count=1)
    assert inputs.allclose(IMAGES[:1])
    assert targets.allclose(torch.eye(6)[:1])


def test_one_output_gets_the_share_of_class_1():
    _, targets = Mix(0.5, None, 1)(IMAGES[:2], torch.tensor([0, 1]), randomness.generator(0, "perturb", 1))
    assert targets.shape == (2, 1)
    assert targets.sum().allclose(torch.ones(()))


def test_a_step_draws_the_same_wherever_a_run_was_resumed():
    scaling = Normalizer(torch.zeros(()), torch.ones(()))
    batches = TrainBatches(Examples(IMAGES, CLASSES), 4, scaling, CPU, 0, perturb=Mix(0.5, 1.0, 6))
    whole, later = batches.starting_at(0), batches.starting_at(3)
    skipped = [next(whole) for _ in range(3)]
    assert [len(batch.targets) for batch in skipped] == [4, 2, 4]
    for _ in range(4):
        one, other = next(whole), next(later)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
