"""What a learning-rate schedule is: a factor for every step, and where it is stateful, what it observes.

A rate is `initial_lr * factor(step)`; steps count from 0."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlprun.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer


class Schedule(ABC):
    """What a training asks of a schedule: `apply` before every update, `observe` after every evaluation."""

    @abstractmethod
    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set the learning rate of every parameter group for the update after `step` completed ones.

        Calling it again for the same step changes nothing.
        """

    def observe(self, value: float, mode: Literal["min", "max"]) -> None:  # noqa: B027 (most have no use for it)
        """Take note of the monitored value of an evaluation; `mode` says which values are better."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resume needs, as plain values and tensors; empty where the step says it all."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """Take over what `state_dict` gave."""

    def recompute(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Go on from a run of another length: its state counts, its lengths do not."""
        self.load_state_dict(state)


class FactorSchedule(Schedule):
    """A schedule that multiplies every group's own `optim.lr` (torch's `initial_lr`) with one factor.

    Arguments named in `LENGTHS` are durations in the config and steps in the constructor. A class
    of your own needs `factor` and, where it takes lengths, `LENGTHS`.
    """

    LENGTHS: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def factor(self, step: int) -> float:
        """The factor, in [0, 1], for the update after `step` (>= 0) completed ones.

        Past the schedule's length it stays at its last value; cyclic schedules go on.
        """

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set each group's rate to its `initial_lr` (its rate at the first call) times the factor."""
        factor = self.factor(step)
        for group in optimizer.param_groups:
            lr = group.setdefault("initial_lr", group["lr"]) * factor
            if group["lr"] != lr:
                group["lr"] = lr


class Warmup(FactorSchedule):
    """A linear rise to the first rate of `schedule`, (step+1)/(warmup_steps+1), and then `schedule` from its beginning.

    Goyal et al., 2017. A schedule with a rise of its own (one_cycle, triangular) begins it after the warmup.
    """

    def __init__(self, schedule: FactorSchedule, warmup_steps: int) -> None:
        self.schedule = schedule
        self.warmup_steps = check_integer("warmup", warmup_steps, least=0)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        if step < self.warmup_steps:
            return warmup_ramp(step, self.warmup_steps) * self.schedule.factor(0)
        return self.schedule.factor(step - self.warmup_steps)

    def observe(self, value: float, mode: Literal["min", "max"]) -> None:
        """Passed on to the schedule."""
        self.schedule.observe(value, mode)

    def state_dict(self) -> dict[str, Any]:
        """The schedule's."""
        return self.schedule.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.schedule.load_state_dict(state)


def warmup_ramp(step: int, warmup_steps: int) -> float:
    """The linear rise to 1 at `warmup_steps`; above 0 from the first update on."""
    return (step + 1) / (warmup_steps + 1) if step < warmup_steps else 1.0


def half_cosine(share: float) -> float:
    """Half a cosine: 1 at share 0, 0 at share 1."""
    return (1 + math.cos(math.pi * share)) / 2


def above_floor(floor: float, height: float) -> float:
    """`floor` at height 0, exactly 1 at height 1."""
    return floor + (1 - floor) * height


def check_number(key: str, value: object, low: float, high: float = math.inf, brackets: str = "[]") -> float:
    """`value`, a finite number in the interval; a round bracket leaves its end out."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(key, value, "must be a number")
    if not low <= value <= high or (value == low and "(" in brackets) or (value == high and ")" in brackets):
        right = f"{high:g}{brackets[1]}" if high < math.inf else "infinity)"
        raise ConfigError(key, value, f"must be in {brackets[0]}{low:g}, {right}")
    return float(value)


def check_fraction(key: str, value: object) -> float:
    return check_number(key, value, 0, 1)


def check_integer(key: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(key, value, f"must be a whole number >= {least}")
    return value


def check_length(key: str, value: object) -> int:
    return check_integer(key, value, least=1)
