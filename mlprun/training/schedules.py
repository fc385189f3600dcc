"""The schedules of `conf/scheduler`: factors of `optim.lr` at a step, equal to those of torch's schedulers.

Steps count from 0, after the warmup. The floor is `min_factor`, as a fraction of `optim.lr`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from mlprun.errors import ConfigError
from mlprun.training.schedule import FactorSchedule, Interval, Steps

Fraction = Annotated[float, Interval("[0, 1]")]
Inside = Annotated[float, Interval("(0, 1)")]
Gamma = Annotated[float, Interval("(0, 1]")]
Positive = Annotated[float, Interval("(0, infinity)")]
NotNegative = Annotated[float, Interval("[0, infinity)")]
AtLeastOne = Annotated[float, Interval("[1, infinity)")]
Count = Annotated[int, Interval("[0, infinity)")]
Times = Annotated[int, Interval("[1, infinity)")]


def constant(step: int) -> float:
    return 1.0


def step_decay(step: int, period: Steps, gamma: Gamma) -> float:
    """gamma^floor(step / period): torch's `StepLR`, and its `ExponentialLR` stepped once per period."""
    return gamma ** (step // period)


def multistep(step: int, milestones: list[Steps], gamma: Gamma) -> float:
    """gamma^(number of milestones reached), as torch's `MultiStepLR`; milestones come in any order."""
    if not isinstance(milestones, (list, tuple)):
        raise ConfigError("milestones", milestones, "is not a list", "write for example '[50%, 75%]'")
    return gamma ** sum(milestone <= step for milestone in milestones)


def inverse(step: int, period: Steps, decay: NotNegative) -> float:
    """1 / (1 + decay * step / period): the classic 1/t decay (Robbins and Monro, 1951), 1/2 at 1/decay periods."""
    return 1 / (1 + decay * step / period)


def polynomial(step: int, length: Steps, power: Positive, min_factor: Fraction) -> float:
    """(1 - step/length)^power above the floor; with min_factor 0 torch's `PolynomialLR`."""
    return _above(min_factor, (1 - min(step, length) / length) ** power)


def linear(step: int, length: Steps, start_factor: Fraction, end_factor: Fraction) -> float:
    """A line from `start_factor` to `end_factor`, as torch's `LinearLR`; `optim.lr` is the highest rate."""
    if max(start_factor, end_factor) != 1:
        problem = f"neither it nor end_factor={end_factor} is 1, so the rate never reaches optim.lr"
        raise ConfigError("start_factor", start_factor, problem, "set one of them to 1 and lower optim.lr instead")
    fraction = min(step, length) / length
    return start_factor * (1 - fraction) + end_factor * fraction


def cosine(step: int, length: Steps, min_factor: Fraction) -> float:
    """(1 + cos(pi step/length)) / 2 above the floor, as torch's `CosineAnnealingLR`, which rises again later."""
    return _above(min_factor, _half_cosine(min(step, length) / length))


def cosine_restarts(step: int, period: Steps, period_mult: Times, min_factor: Fraction) -> float:
    """`cosine` with restarts (SGDR: Loshchilov and Hutter, 2017), as torch's `CosineAnnealingWarmRestarts`.

    Each cycle is `period_mult` times as long as the previous one.
    """
    if period_mult == 1:
        step %= period
    # In integers: torch's logarithm can round to the wrong cycle at its first step.
    while step >= period:
        step -= period
        period *= period_mult
    return _above(min_factor, _half_cosine(step / period))


def triangular(step: int, step_size: Steps, min_factor: Fraction) -> float:
    """Cyclical rates (Smith, 2017): a linear rise from the floor to the peak in `step_size` steps, and back.

    As torch's `CyclicLR` with `max_lr` = optim.lr and `base_lr` = min_factor * optim.lr.
    """
    return _above(min_factor, _triangle(step, step_size))


def triangular2(step: int, step_size: Steps, min_factor: Fraction) -> float:
    """`triangular`, with half the height after each cycle."""
    return _above(min_factor, _triangle(step, step_size) * math.ldexp(1.0, -(step // (2 * step_size))))


def exp_range(step: int, step_size: Steps, min_factor: Fraction, gamma: Gamma) -> float:
    """`triangular`, with its height multiplied by `gamma` each step: even the first peak is below optim.lr."""
    return _above(min_factor, _triangle(step, step_size) * gamma**step)


def one_cycle(step: int, length: Steps, rise: Steps, div_factor: AtLeastOne, final_div_factor: AtLeastOne) -> float:
    """One rise to the peak and one long fall, both half cosines (Smith and Topin, 2018), as torch's `OneCycleLR`.

    From 1/div_factor at step 0 to 1 at step rise-1, then to 1/(div_factor * final_div_factor) at step length-1.
    """
    if rise > length:
        raise ConfigError("rise", rise, f"the rise is longer than the whole cycle ({length} steps)")
    first, peak = 1 / div_factor, rise - 1
    if step <= peak:
        return _above(first, _half_cosine(1 - step / peak) if peak else 1.0)
    fall = max(1, length - rise)
    return _above(first / final_div_factor, _half_cosine(min(1.0, (step - peak) / fall)))


def range_test(step: int, length: Steps, start_factor: Inside) -> float:
    """start_factor^(1 - step/(length - 1)): Smith's range test (2017, section 3.3), geometric as is now usual.

    The loss over the rate shows where learning begins and where it diverges: see `mlprun.analysis.range_test`.
    """
    last = length - 1
    return 1.0 if step >= last else float(start_factor ** (1 - step / last))


range_test.may_diverge = True  # type: ignore[attr-defined]  # read by FactorSchedule


class Plateau(FactorSchedule):
    """Lower the rate when the monitored value no longer improves, as torch's `ReduceLROnPlateau`.

    An improvement exceeds the best value so far by more than `min_delta`, an absolute difference as in early stopping
    (torch's `threshold_mode="abs"`); NaN is none.
    """

    def __init__(
        self, patience: Count, gamma: Inside, min_delta: NotNegative, cooldown: Count, min_factor: Fraction
    ) -> None:
        self.patience, self.gamma, self.min_delta = patience, gamma, min_delta
        self.cooldown, self.min_factor = cooldown, min_factor
        self._state: dict[str, Any] = {"factor": 1.0, "best": None, "num_bad": 0, "cooldown_left": 0}

    def factor(self, step: int) -> float:
        return float(self._state["factor"])

    def observe(self, value: float, mode: Literal["min", "max"]) -> None:
        state = self._state
        if self._improves(value, mode):
            state.update(best=value, num_bad=0)
        else:
            state["num_bad"] += 1
        if state["cooldown_left"]:
            state["cooldown_left"] -= 1
            state["num_bad"] = 0
        if state["num_bad"] > self.patience:
            state["factor"] = max(state["factor"] * self.gamma, self.min_factor)
            state.update(cooldown_left=self.cooldown, num_bad=0)

    def _improves(self, value: float, mode: Literal["min", "max"]) -> bool:
        best: float | None = self._state["best"]
        if best is None:
            return not math.isnan(value)
        return value < best - self.min_delta if mode == "min" else value > best + self.min_delta

    def state_dict(self) -> dict[str, Any]:
        return dict(self._state)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._state = dict(state)


def _half_cosine(fraction: float) -> float:
    return (1 + math.cos(math.pi * fraction)) / 2  # from 1 to 0


def _triangle(step: int, step_size: int) -> float:
    return 1 - abs(step % (2 * step_size) / step_size - 1)  # 0 at the ends of a cycle, 1 in its middle


def _above(floor: float, height: float) -> float:
    return floor + (1 - floor) * height  # exactly 1 at height 1
