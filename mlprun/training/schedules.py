"""The schedules of `conf/scheduler`, each equal to its counterpart in torch where there is one."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mlprun.errors import ConfigError
from mlprun.training.schedule import (
    FactorSchedule,
    Schedule,
    Warmup,
    above_floor,
    check_fraction,
    check_integer,
    check_length,
    check_number,
    half_cosine,
)


class Constant(FactorSchedule):
    """The same rate throughout: 1."""

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return 1.0


class Step(FactorSchedule):
    """gamma^floor(step / period): torch's `StepLR`, and its `ExponentialLR` stepped once a period.

    Args:
        period: steps between two drops.
        gamma: in (0, 1], multiplied at each drop.
    """

    LENGTHS = ("period",)

    def __init__(self, period: int, gamma: float) -> None:
        self.period = check_length("period", period)
        self.gamma = check_number("gamma", gamma, 0, 1, "(]")

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return self.gamma ** (step // self.period)


class MultiStep(FactorSchedule):
    """gamma^(number of milestones reached), as torch's `MultiStepLR`.

    Args:
        milestones: steps at which the rate drops, in any order.
        gamma: in (0, 1], multiplied at each milestone.
    """

    LENGTHS = ("milestones",)

    def __init__(self, milestones: Sequence[int], gamma: float) -> None:
        if isinstance(milestones, str) or not isinstance(milestones, Sequence):
            raise ConfigError("milestones", milestones, "is not a list", "write for example '[50%, 75%]'")
        self.milestones = sorted(check_length("milestones", m) for m in milestones)
        self.gamma = check_number("gamma", gamma, 0, 1, "(]")

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return self.gamma ** bisect_right(self.milestones, step)


class Inverse(FactorSchedule):
    """1 / (1 + decay * step / period): the classic 1/t decay (Robbins and Monro, 1951), at every step.

    Args:
        period: steps that count as one unit of time.
        decay: >= 0; after 1/decay periods the rate is halved.
    """

    LENGTHS = ("period",)

    def __init__(self, period: int, decay: float) -> None:
        self.period = check_length("period", period)
        self.decay = check_number("decay", decay, 0)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return 1 / (1 + self.decay * step / self.period)


class Polynomial(FactorSchedule):
    """min_factor + (1 - min_factor) (1 - step/length)^power; with min_factor 0 torch's `PolynomialLR`.

    Args:
        length: steps until the floor.
        power: > 0; 1 is a straight line, more falls fast at first.
        min_factor: the floor, in [0, 1].
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, power: float, min_factor: float) -> None:
        self.length = check_length("length", length)
        self.power = check_number("power", power, 0, brackets="()")
        self.min_factor = check_fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return above_floor(self.min_factor, (1 - min(step, self.length) / self.length) ** self.power)


class Linear(FactorSchedule):
    """A straight line from `start_factor` to `end_factor`, as torch's `LinearLR`.

    Args:
        length: steps until the end.
        start_factor, end_factor: in [0, 1]; one of them is 1, for `optim.lr` is the highest rate.
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, start_factor: float, end_factor: float) -> None:
        self.length = check_length("length", length)
        self.start = check_fraction("start_factor", start_factor)
        self.end = check_fraction("end_factor", end_factor)
        if max(self.start, self.end) != 1:
            raise ConfigError(
                "start_factor",
                start_factor,
                f"neither it nor end_factor={end_factor} is 1, so the rate never reaches optim.lr",
                "set one of them to 1 and lower optim.lr instead",
            )

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        share = min(step, self.length) / self.length
        return self.start * (1 - share) + self.end * share


class Cosine(FactorSchedule):
    """min_factor + (1 - min_factor) (1 + cos(pi step/length)) / 2, as torch's `CosineAnnealingLR`.

    Unlike torch's it does not rise again after `length`.

    Args:
        length: steps until the floor.
        min_factor: the floor, in [0, 1].
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, min_factor: float) -> None:
        self.length = check_length("length", length)
        self.min_factor = check_fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return above_floor(self.min_factor, half_cosine(min(step, self.length) / self.length))


class CosineRestarts(FactorSchedule):
    """`Cosine` that starts anew (SGDR: Loshchilov and Hutter, 2017).

    As torch's `CosineAnnealingWarmRestarts`.

    Args:
        period: steps of the first cycle.
        period_mult: integer >= 1; every cycle is this many times as long as the one before.
        min_factor: the floor, in [0, 1].
    """

    LENGTHS = ("period",)

    def __init__(self, period: int, period_mult: int, min_factor: float) -> None:
        self.period = check_length("period", period)
        self.period_mult = check_integer("period_mult", period_mult, least=1)
        self.min_factor = check_fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        length = self.period
        if self.period_mult == 1:
            step %= length
        # In integers: torch's logarithm can round to the wrong cycle at its first step.
        while step >= length:
            step -= length
            length *= self.period_mult
        return above_floor(self.min_factor, half_cosine(step / length))


class Triangular(FactorSchedule):
    """Cyclical rates (Smith, 2017): a straight rise from the floor to the peak and back, again and again.

    As torch's `CyclicLR` with `max_lr` = optim.lr and `base_lr` = min_factor * optim.lr.

    Args:
        step_size: steps of half a cycle.
        min_factor: the floor, in [0, 1].
    """

    LENGTHS = ("step_size",)

    def __init__(self, step_size: int, min_factor: float) -> None:
        self.step_size = check_length("step_size", step_size)
        self.min_factor = check_fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        cycle, position = divmod(step, 2 * self.step_size)
        height = 1 - abs(position / self.step_size - 1)
        return above_floor(self.min_factor, height * self.amplitude(step, cycle))

    def amplitude(self, step: int, cycle: int) -> float:
        """The height of the triangle at `step`, in cycle number `cycle` (from 0)."""
        return 1.0


class Triangular2(Triangular):
    """`Triangular` whose height is halved after each cycle."""

    def amplitude(self, step: int, cycle: int) -> float:
        """0.5^cycle."""
        return math.ldexp(1.0, -cycle)


class ExpRange(Triangular):
    """`Triangular` whose height shrinks by `gamma` with each step, so even the first peak is below optim.lr.

    Args:
        step_size, min_factor: as in `Triangular`.
        gamma: in (0, 1], per step.
    """

    def __init__(self, step_size: int, min_factor: float, gamma: float) -> None:
        super().__init__(step_size, min_factor)
        self.gamma = check_number("gamma", gamma, 0, 1, "(]")

    def amplitude(self, step: int, cycle: int) -> float:
        """gamma^step."""
        return self.gamma**step


class OneCycle(FactorSchedule):
    """One rise to the peak and one long fall, both half cosines (Smith and Topin, 2018).

    From 1/div_factor at step 0 to 1 at step rise-1, then to 1/(div_factor * final_div_factor) at
    step length-1, as torch's `OneCycleLR`.

    Args:
        length: steps of the whole cycle.
        rise: steps of the rise; at most `length`.
        div_factor: >= 1.
        final_div_factor: >= 1.
    """

    LENGTHS = ("length", "rise")

    def __init__(self, length: int, rise: int, div_factor: float, final_div_factor: float) -> None:
        self.length = check_length("length", length)
        self.rise = check_length("rise", rise)
        if self.rise > self.length:
            raise ConfigError("rise", rise, f"the rise is longer than the whole cycle ({length} steps)")
        self.first = 1 / check_number("div_factor", div_factor, 1)
        self.last = self.first / check_number("final_div_factor", final_div_factor, 1)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        peak = self.rise - 1
        if step <= peak:
            return above_floor(self.first, half_cosine(1 - step / peak) if peak else 1.0)
        fall = max(1, self.length - self.rise)
        return above_floor(self.last, half_cosine(min(1.0, (step - peak) / fall)))


class RangeTest(FactorSchedule):
    """start_factor^(1 - step/(length - 1)): rates that grow geometrically up to optim.lr at the last step.

    The learning-rate range test (Smith, 2017, section 3.3; on a log axis as in most implementations since): the loss
    over the rate shows where learning begins and where it breaks off. `mlprun.analysis.range_test` reads it.

    Args:
        length: steps of the test.
        start_factor: the first rate, as a fraction of optim.lr, in (0, 1).
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, start_factor: float) -> None:
        self.length = check_length("length", length)
        self.start_factor = check_number("start_factor", start_factor, 0, 1, "()")

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        last = self.length - 1
        return 1.0 if step >= last else float(self.start_factor ** (1 - step / last))


class Plateau(FactorSchedule):
    """Lower the rate when the monitored value no longer improves, as torch's `ReduceLROnPlateau`.

    The one schedule with a state. An evaluation improves when its value is better than the best so
    far by more than `min_delta`, an absolute difference as in early stopping (torch's
    `threshold_mode="abs"`); NaN never improves.

    Args:
        patience: evaluations without improvement that are tolerated; the next one lowers the rate.
        gamma: in (0, 1), multiplied each time.
        min_delta: >= 0, in the unit of the monitored value.
        cooldown: evaluations after a drop during which none is counted.
        min_factor: the floor, in [0, 1].
    """

    def __init__(self, patience: int, gamma: float, min_delta: float, cooldown: int, min_factor: float) -> None:
        self.patience = check_integer("patience", patience, least=0)
        self.gamma = check_number("gamma", gamma, 0, 1, "()")
        self.min_delta = check_number("min_delta", min_delta, 0)
        self.cooldown = check_integer("cooldown", cooldown, least=0)
        self.min_factor = check_fraction("min_factor", min_factor)
        self._factor = 1.0
        self._best: float | None = None
        self._num_bad = 0
        self._cooldown_left = 0

    def factor(self, step: int) -> float:
        """The factor now; it depends on the evaluations, not on `step`."""
        return self._factor

    def observe(self, value: float, mode: Literal["min", "max"]) -> None:
        """Count an evaluation, and lower the rate after too many without improvement."""
        if self._improves(value, mode):
            self._best, self._num_bad = value, 0
        else:
            self._num_bad += 1
        if self._cooldown_left:
            self._cooldown_left -= 1
            self._num_bad = 0
        if self._num_bad > self.patience:
            self._factor = max(self._factor * self.gamma, self.min_factor)
            self._cooldown_left, self._num_bad = self.cooldown, 0

    def _improves(self, value: float, mode: Literal["min", "max"]) -> bool:
        if self._best is None:
            return not math.isnan(value)
        return value < self._best - self.min_delta if mode == "min" else value > self._best + self.min_delta

    def state_dict(self) -> dict[str, Any]:
        """The factor and what has been observed, as plain values."""
        return {
            "factor": self._factor,
            "best": self._best,
            "num_bad": self._num_bad,
            "cooldown_left": self._cooldown_left,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self._factor, self._best = state["factor"], state["best"]
        self._num_bad, self._cooldown_left = state["num_bad"], state["cooldown_left"]


def is_range_test(schedule: Schedule) -> bool:
    """Whether the schedule, as it was built for a run, is a range test."""
    return isinstance(schedule, Warmup) and isinstance(schedule.schedule, RangeTest)
