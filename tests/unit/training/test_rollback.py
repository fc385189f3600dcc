"""A step that is not finite is taken back whole."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from mlprun import randomness
from mlprun.data.nested import Batch
from mlprun.errors import DivergedError
from mlprun.training import learner as learning
from mlprun.training.learner import Learner
from mlprun.training.schedule import FactorSchedule
from mlprun.training.schedules import constant
from tests.helpers.tasks import make_task


class Remembers(nn.Module):
    """Keeps a mean as many people write it: by putting a new tensor in the buffer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("late", None)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * inputs.mean(0)
            self.late = inputs.mean()
        return self.layer(inputs - self.mean.detach())


def make_learner(model: nn.Module, optimizer=None, **more) -> Learner:
    task = make_task(nn.CrossEntropyLoss(), "classification", 3, False)
    the_optimizer = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)))(model.parameters())
    return Learner(
        model, task, the_optimizer, FactorSchedule(constant), torch.device("cpu"),
        seed=0, **more,
    )  # fmt: skip


def batch(step: int = 0) -> Batch:
    drawn = randomness.generator(0, "batch", step)
    return Batch(torch.randn(16, 4, generator=drawn), torch.randint(0, 3, (16,), generator=drawn))


BROKEN = Batch(torch.full((16, 4), float("nan")), torch.zeros(16, dtype=torch.int64))


def test_on_a_gpu_the_values_are_looked_at_together(monkeypatch):
    """What happens there, on the CPU: nothing is asked until the check, which then knows the first bad step."""
    torch.manual_seed(0)
    learner = make_learner(nn.Linear(4, 3))
    monkeypatch.setattr(learner, "_checks_each_step", False)
    for step in range(5):
        learner.train_step(BROKEN if step >= 3 else batch(step), step)
        if step == 2:
            learner.check_finite()
    with pytest.raises(
        DivergedError, match=r"^step 3: loss or gradient is not finite \(loss nan, .* step 2 still had loss 1\."
    ):
        learner.check_finite()

    monkeypatch.setattr(learning, "MAX_UNCHECKED", 10)  # and nobody runs on for ever without a check
    learner = make_learner(nn.Linear(4, 3))
    monkeypatch.setattr(learner, "_checks_each_step", False)
    for step in range(9):
        learner.train_step(BROKEN, step)
    with pytest.raises(DivergedError, match=r"^step 0: "):
        learner.train_step(BROKEN, 9)


def test_a_buffer_that_is_replaced_in_the_forward_pass_is_put_back():
    torch.manual_seed(0)
    learner = make_learner(Remembers(), on_nan="skip")
    assert not learner.train_step(BROKEN, 0).applied
    assert learner.model.late is None
    learner.train_step(batch(), 1)
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    assert before["mean"].abs().sum() > 0
    assert not learner.train_step(BROKEN, 2).applied
    after = learner.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_the_scaler_of_fp16_goes_on_after_a_skipped_step():
    torch.manual_seed(0)
    learner = make_learner(nn.Linear(4, 3), on_nan="skip", precision="fp16")
    scale = learner.state_dict()["scaler"]["scale"]
    assert learner.train_step(batch(), 0).applied
    before = learner.model.weight.clone()
    assert not learner.train_step(BROKEN, 1).applied
    assert torch.equal(learner.model.weight, before)
    assert learner.train_step(batch(), 2).applied
    assert not torch.equal(learner.model.weight, before)
    assert learner.state_dict()["scaler"]["scale"] == scale / 2


class Breaks(nn.Module):
    """NaN in every forward pass of training after the first `after`, until `mended`."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.layer, self.calls, self.after, self.mended = nn.Linear(4, 3), 0, after, False

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.layer(inputs) * (float("nan") if self.calls > self.after and not self.mended else 1)


def lbfgs(parameters) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.5, max_iter=5)


def test_lbfgs_that_breaks_within_a_step_takes_it_back_whole():
    """It has moved the weights by then; after the step that is skipped it goes on as if there had been none."""
    torch.manual_seed(0)
    learner = make_learner(Breaks(after=8), lbfgs, on_nan="skip")
    assert learner.train_step(batch(), 0).applied
    assert learner.model.calls == 5
    before = {name: value.clone() for name, value in learner.model.state_dict().items()}
    skipped = learner.train_step(batch(), 1)
    assert not skipped.applied
    assert math.isfinite(skipped.loss)  # it did begin well
    assert all(torch.equal(value, before[name]) for name, value in learner.model.state_dict().items())
    learner.model.mended = True
    learner.train_step(batch(), 2)

    torch.manual_seed(0)
    spared = make_learner(Breaks(after=10**9), lbfgs, on_nan="skip")
    for step in (0, 2):
        spared.train_step(batch(), step)
    assert torch.equal(spared.model.layer.weight, learner.model.layer.weight)


def test_lbfgs_that_breaks_within_every_step_gives_up(monkeypatch):
    """The first look of each of its steps is finite; a step is counted once, by its last."""
    monkeypatch.setattr(learning, "MAX_SKIPPED", 5)
    torch.manual_seed(0)
    model = Breaks(after=1)
    learner = make_learner(model, lbfgs, on_nan="skip")
    for step in range(5):
        model.calls = 0
        assert not learner.train_step(batch(), step).applied
    model.calls = 0
    with pytest.raises(DivergedError, match=r"5 steps in a row .* the last one step 5"):
        learner.train_step(batch(), 5)
