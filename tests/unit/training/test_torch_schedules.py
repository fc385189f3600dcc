"""torch's own schedulers: stepped once an update, with lengths that have units."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as torch_lr

from mlprun.config import durations
from mlprun.errors import ConfigError
from mlprun.training.torch_schedules import TorchSchedule, torch_arguments
from tests.helpers.runs import through_a_file

LR = 0.5


def to_steps(key: str, value: object) -> int:
    return durations.parse(value, key=key).steps(steps_per_epoch=5, total_steps=40)


TORCH = [
    (torch_lr.StepLR, {"step_size": "2 epochs"}),
    (torch_lr.MultiStepLR, {"milestones": ["2 epochs", "50%"]}),
    (torch_lr.ConstantLR, {"total_iters": "5 steps"}),
    (torch_lr.LinearLR, {"total_iters": "50%"}),
    (torch_lr.PolynomialLR, {"total_iters": "100%", "power": 2.0}),
    (torch_lr.CosineAnnealingLR, {"T_max": "100%"}),
    (torch_lr.CosineAnnealingWarmRestarts, {"T_0": "1 epoch", "T_mult": 2}),
    (
        torch_lr.CyclicLR,
        {"base_lr": 0.1, "max_lr": LR, "step_size_up": "1 epoch", "step_size_down": "2 epochs"},
    ),
    (torch_lr.CyclicLR, {"base_lr": 0.1, "max_lr": LR, "step_size_up": "1 epoch", "mode": "exp_range"}),
    (torch_lr.OneCycleLR, {"max_lr": LR, "total_steps": "100%"}),
    (torch_lr.LambdaLR, {"lr_lambda": lambda step: 1 / (step + 1)}),
    (torch_lr.MultiplicativeLR, {"lr_lambda": lambda step: 0.9}),
]


@pytest.mark.parametrize(("cls", "arguments"), TORCH, ids=lambda v: getattr(v, "__name__", None))
@pytest.mark.parametrize("warmup", [0, 4])
def test_torch_scheduler_is_stepped_once_an_update_also_after_a_resume(
    cls: Any, arguments: dict[str, Any], warmup: int
) -> None:
    arguments = torch_arguments(cls, arguments, to_steps)

    def build() -> tuple[torch.optim.Optimizer, TorchSchedule]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
        return optimizer, TorchSchedule(cls(optimizer, **arguments), warmup)

    def train(optimizer: torch.optim.Optimizer, ours: TorchSchedule, steps: range) -> list[float]:
        rates = []
        for step in steps:
            ours.apply(optimizer, step)
            ours.apply(optimizer, step)  # again changes nothing
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        return rates

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = train(*build(), range(40))
        reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
        scheduler = cls(reference, **arguments)
        expected = []
        for _ in range(40 - warmup):
            expected.append(reference.param_groups[0]["lr"])
            reference.step()
            scheduler.step()
        rise = [expected[0] * (step + 1) / (warmup + 1) for step in range(warmup)]
        assert whole[:warmup] == pytest.approx(rise)
        assert whole[warmup:] == expected

        for stop in (2, 17):  # inside and after the warmup
            optimizer, ours = build()
            before = train(optimizer, ours, range(stop))
            state = through_a_file([optimizer.state_dict(), ours.state_dict()])
            optimizer, ours = build()
            optimizer.load_state_dict(state[0])
            ours.load_state_dict(state[1])
            assert before + train(optimizer, ours, range(stop, 40)) == whole


class Own(torch_lr.LRScheduler):
    """A user's scheduler, with a state of its own."""

    # torch's name
    def __init__(self, optimizer: torch.optim.Optimizer, T_max: int, sharpness: int = 3) -> None:  # noqa: N803
        self.T_max = T_max
        self.sharpness = sharpness
        super().__init__(optimizer)


def test_a_users_torch_scheduler_gets_its_torch_arguments() -> None:
    assert torch_arguments(Own, {"T_max": "50%", "sharpness": 2}, to_steps) == {"T_max": 20, "sharpness": 2}


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (torch_lr.StepLR, {"step_size": 10}, "step_size=10: has no unit\n  write '10 steps' or '10 epochs'"),
        (torch_lr.CosineAnnealingLR, {"T_max": 10}, "T_max=10: has no unit"),
        (torch_lr.CosineAnnealingWarmRestarts, {"T_0": 10}, "T_0=10: has no unit"),
        (torch_lr.OneCycleLR, {"max_lr": 1, "total_steps": 10}, "total_steps=10: has no unit"),
        (torch_lr.OneCycleLR, {"max_lr": 1}, "total_steps: is needed"),
        (torch_lr.OneCycleLR, {"max_lr": 1, "epochs": 10, "steps_per_epoch": 5}, "write total_steps='100%'"),
        (torch_lr.CyclicLR, {"base_lr": 0, "max_lr": 1}, "step_size_up: is needed: torch's default, 2000,"),
        (
            torch_lr.CyclicLR,
            {"step_size_up": "1 epoch", "step_size_down": 10},
            "step_size_down=10: has no unit",
        ),
        (torch_lr.MultiStepLR, {"milestones": ["1 epoch", 30]}, "milestones=30: has no unit"),
        (torch_lr.LinearLR, {}, "total_iters: is needed: torch's default, 5,"),
        (torch_lr.ConstantLR, {"total_iters": 5}, "total_iters=5: has no unit"),
        (torch_lr.PolynomialLR, {"total_iters": "0"}, "at least one step"),
        (torch_lr.StepLR, {"step_size": "1 epoch", "last_epoch": 3}, "last_epoch=3: is set by mlprun"),
        (torch_lr.ReduceLROnPlateau, {}, "write scheduler=plateau"),
        (torch_lr.ExponentialLR, {"gamma": 0.9}, "write scheduler=exponential"),
        (torch_lr.SequentialLR, {}, "write scheduler.warmup"),
        (Own, {"T_max": 10}, "T_max=10: has no unit"),
    ],
)
def test_lengths_without_a_unit_are_refused(cls: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        torch_arguments(cls, arguments, to_steps)
    assert message in str(caught.value)
