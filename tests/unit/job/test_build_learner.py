"""From the config to the schedule."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.errors import ConfigError
from mlprun.job.build_learner import build_plan, build_schedule, scheduled
from mlprun.training.schedule import FactorSchedule, Schedule, Steps

HERE = __name__


def falling(step: int, length: Steps, floor: float = 0.0) -> float:
    return max(floor, 1 - step / length)


def silent(step: int) -> None:
    pass


class Falling(FactorSchedule):
    """As users wrote one for version one."""

    LENGTHS = ("length",)

    def __init__(self, length: int) -> None:
        self.length = length

    def factor(self, step: int) -> float:
        return falling(step, self.length)


def built(*words: str) -> Schedule:
    config = check(Composer().compose(["steps=50", *words]))
    optimizer = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    return build_schedule(config, optimizer, build_plan(config, steps_per_epoch=5))


@pytest.mark.parametrize(
    "words",
    [
        ["scheduler=linear"],
        ["scheduler._target_=mlprun.training.schedules.linear", "+scheduler.length=100%", "+scheduler.start_factor=1",
         "+scheduler.end_factor=0"],
        ["scheduler._target_=mlprun.training.schedule.Polynomial", "+scheduler.length=9 epochs", "+scheduler.power=1",
         "+scheduler.min_factor=0"],
        [f"scheduler._target_={HERE}.falling", "+scheduler.length=45 steps"],
        [f"scheduler._target_={HERE}.Falling", "+scheduler.length=100%"],
        ["scheduler._target_=torch.optim.lr_scheduler.LinearLR", "+scheduler.total_iters=100%",
         "+scheduler.start_factor=1", "+scheduler.end_factor=0"],
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_the_same_line_as_mlpruns_the_users_and_torchs(words: list[str]) -> None:
    config = check(Composer().compose(["steps=50", "optim=sgd", "optim.lr=0.5", "scheduler.warmup=10%", *words]))
    rates = scheduled(config, nn.Linear(1, 1), build_plan(config, steps_per_epoch=5), range(50))
    expected = [*((step + 1) / 6 for step in range(5)), *(1 - step / 45 for step in range(45))]
    assert [rate for ((rate, _),) in rates] == pytest.approx([0.5 * factor for factor in expected])


def test_only_a_range_test_may_diverge() -> None:
    assert built("scheduler=range_test", "scheduler.warmup=10%").may_diverge
    assert not built("scheduler=cosine").may_diverge


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scheduler._target_=math.cos"], "scheduler._target_=math.cos: is not a schedule\n  write a function"),
        (["scheduler._target_=torch.nn.Linear"], "is not a schedule"),
        ([f"scheduler._target_={HERE}.built"], "is not a schedule"),
        ([f"scheduler._target_={HERE}.silent"], "silent: returns None for step 0, which is not a number"),
        ([f"scheduler._target_={HERE}.falling"], "needs the argument 'length'\n  add +scheduler.length=…"),
        ([f"scheduler._target_={HERE}.falling", "+scheduler.length=9"], "scheduler.length=9: has no unit"),
        (["scheduler=cosine", "+scheduler.step=9"], "scheduler.step=9: mlprun.training.schedules.cosine takes no"),
        (["scheduler=cosine", "+scheduler.min_facto=0"], "did you mean 'scheduler.min_factor'?"),
        (["scheduler=cosine", "scheduler.min_factor=2"], "scheduler.min_factor=2: must be in [0, 1]"),
        (["scheduler=linear", "scheduler.start_factor=0.5"], "scheduler.start_factor=0.5: neither it nor end_factor=0"),
        (["scheduler=plateau", "scheduler.patience=0.5"], "scheduler.patience=0.5: must be a whole number >= 0"),
        (["scheduler=multistep", "scheduler.milestones=5%"], "scheduler.milestones=3: is not a list"),
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        built(*words)
    assert message in str(caught.value)
