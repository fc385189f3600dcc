"""Learning-rate schedules: the rate of every update as a function of its step.

`optim.lr` is the highest rate under every schedule, so it can be swept under any of them; a
schedule is the factor in [0, 1] that it is multiplied with, and floors (`min_factor`) are
fractions of it. Except for `Plateau`, the factor is a closed form of the step: a resumed run
recomputes it and it can be drawn without training. Lengths are optimizer steps here;
`lengths_in_steps` makes them of the durations in the config, and it is the reason why a schedule
cannot be stepped in the wrong unit.

The file needs no torch: optimizers are only read and written through their `param_groups`.
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from mlprun.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


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
        self.period = _length("period", period)
        self.gamma = _number("gamma", gamma, 0, 1, "(]")

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
        self.milestones = sorted(_length("milestones", m) for m in milestones)
        self.gamma = _number("gamma", gamma, 0, 1, "(]")

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
        self.period = _length("period", period)
        self.decay = _number("decay", decay, 0)

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
        self.length = _length("length", length)
        self.power = _number("power", power, 0, brackets="()")
        self.min_factor = _fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return _above(self.min_factor, (1 - min(step, self.length) / self.length) ** self.power)


class Linear(FactorSchedule):
    """A straight line from `start_factor` to `end_factor`, as torch's `LinearLR`.

    Args:
        length: steps until the end.
        start_factor, end_factor: in [0, 1]; one of them is 1, for `optim.lr` is the highest rate.
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, start_factor: float, end_factor: float) -> None:
        self.length = _length("length", length)
        self.start = _fraction("start_factor", start_factor)
        self.end = _fraction("end_factor", end_factor)
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
        self.length = _length("length", length)
        self.min_factor = _fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        return _above(self.min_factor, _half_cosine(min(step, self.length) / self.length))


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
        self.period = _length("period", period)
        self.period_mult = _integer("period_mult", period_mult, least=1)
        self.min_factor = _fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        length = self.period
        if self.period_mult == 1:
            step %= length
        # In integers: torch's logarithm can round to the wrong cycle at its first step.
        while step >= length:
            step -= length
            length *= self.period_mult
        return _above(self.min_factor, _half_cosine(step / length))


class Triangular(FactorSchedule):
    """Cyclical rates (Smith, 2017): a straight rise from the floor to the peak and back, again and again.

    As torch's `CyclicLR` with `max_lr` = optim.lr and `base_lr` = min_factor * optim.lr.

    Args:
        step_size: steps of half a cycle.
        min_factor: the floor, in [0, 1].
    """

    LENGTHS = ("step_size",)

    def __init__(self, step_size: int, min_factor: float) -> None:
        self.step_size = _length("step_size", step_size)
        self.min_factor = _fraction("min_factor", min_factor)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        cycle, position = divmod(step, 2 * self.step_size)
        height = 1 - abs(position / self.step_size - 1)
        return _above(self.min_factor, height * self.amplitude(step, cycle))

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
        self.gamma = _number("gamma", gamma, 0, 1, "(]")

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
        self.length = _length("length", length)
        self.rise = _length("rise", rise)
        if self.rise > self.length:
            raise ConfigError("rise", rise, f"the rise is longer than the whole cycle ({length} steps)")
        self.first = 1 / _number("div_factor", div_factor, 1)
        self.last = self.first / _number("final_div_factor", final_div_factor, 1)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        peak = self.rise - 1
        if step <= peak:
            return _above(self.first, _half_cosine(1 - step / peak) if peak else 1.0)
        fall = max(1, self.length - self.rise)
        return _above(self.last, _half_cosine(min(1.0, (step - peak) / fall)))


class RangeTest(FactorSchedule):
    """start_factor^(1 - step/(length - 1)): rates that grow geometrically up to optim.lr at the last step.

    The learning-rate range test (Smith, 2017, section 3.3; on a log axis as in most implementations since): the loss
    over the rate shows where learning begins and where it breaks off. `mlprun.runs.range_test` reads it.

    Args:
        length: steps of the test.
        start_factor: the first rate, as a fraction of optim.lr, in (0, 1).
    """

    LENGTHS = ("length",)

    def __init__(self, length: int, start_factor: float) -> None:
        self.length = _length("length", length)
        self.start_factor = _number("start_factor", start_factor, 0, 1, "()")

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
        self.patience = _integer("patience", patience, least=0)
        self.gamma = _number("gamma", gamma, 0, 1, "()")
        self.min_delta = _number("min_delta", min_delta, 0)
        self.cooldown = _integer("cooldown", cooldown, least=0)
        self.min_factor = _fraction("min_factor", min_factor)
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


class Warmup(FactorSchedule):
    """A linear rise to the first rate of `schedule`, (step+1)/(warmup_steps+1), and then `schedule` from its beginning.

    Goyal et al., 2017. A schedule with a rise of its own (one_cycle, triangular) begins it after the warmup.
    """

    def __init__(self, schedule: FactorSchedule, warmup_steps: int) -> None:
        self.schedule = schedule
        self.warmup_steps = _integer("warmup", warmup_steps, least=0)

    def factor(self, step: int) -> float:
        """The factor at `step`."""
        if step < self.warmup_steps:
            return _ramp(step, self.warmup_steps) * self.schedule.factor(0)
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


def is_range_test(schedule: Schedule) -> bool:
    """Whether the schedule, as it was built for a run, is a range test."""
    return isinstance(schedule, Warmup) and isinstance(schedule.schedule, RangeTest)


class TorchSchedule(Schedule):
    """Any `torch.optim.lr_scheduler.LRScheduler`, stepped once after every update, after an optional warmup.

    Args:
        scheduler: built with the optimizer that trains, before either loads a state.
        warmup_steps: length of the linear rise to the scheduler's own first rates.
    """

    def __init__(self, scheduler: LRScheduler, warmup_steps: int = 0) -> None:
        self.scheduler = scheduler
        self.warmup_steps = _integer("warmup", warmup_steps, least=0)
        self._first = list(scheduler.get_last_lr())
        self._completed = 0

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Step the scheduler until it has seen `step` updates; it cannot go back."""
        position = max(0, step - self.warmup_steps)
        assert position >= self._completed, f"step {step} after {self._completed} scheduler steps"
        if position == 0:
            ramp = _ramp(step, self.warmup_steps)
            for group, lr in zip(optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = lr * ramp
        while self._completed < position:
            self.scheduler.step()
            self._completed += 1

    def state_dict(self) -> dict[str, Any]:
        """The scheduler's plain values; what else it holds (functions, counters) comes from the config."""
        return {"completed": self._completed, "scheduler": _plain(self.scheduler.state_dict())}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` gave; the optimizer's state brings back its own rates."""
        self._completed = state["completed"]
        self.scheduler.load_state_dict(dict(state["scheduler"]))  # a copy, for torch pops from it

    def recompute(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Begin anew: torch keeps lengths and position in one state, and the next `apply` steps to where it stands."""
        for group, lr in zip(optimizer.param_groups, self._first, strict=True):
            group["lr"] = lr


_TORCH_LENGTHS = (
    "step_size",
    "milestones",
    "total_iters",
    "T_max",
    "T_0",
    "step_size_up",
    "step_size_down",
    "total_steps",
)
_TORCH_REPLACED = {
    "ReduceLROnPlateau": "write scheduler=plateau",
    "ExponentialLR": "write scheduler=exponential, whose gamma has a period with a unit",
    "SequentialLR": "write scheduler.warmup for a warmup; for more, a FactorSchedule class of your own",
    "ChainedScheduler": "write scheduler.warmup for a warmup; for more, a FactorSchedule class of your own",
}
_NO_UNIT = "counts epochs in torch's examples, and optimizer steps here"


def lengths_in_steps(cls: type, arguments: Mapping[str, Any], to_steps: Callable[[str, object], int]) -> dict[str, Any]:
    """The arguments of a schedule of ours, or of torch, with every duration turned into steps.

    Args:
        cls: the class to be constructed: a `FactorSchedule`, or an `LRScheduler`.
        arguments: its arguments as in the config, without `_target_` and `warmup`.
        to_steps: (key, duration) -> steps; raises a ConfigError for a number without a unit.

    Raises:
        ConfigError: a length without a unit or below one step; for torch's classes also a length
            left to a default in steps, an argument that this runner sets itself, or a class that cannot
            be stepped once an update.
    """
    if issubclass(cls, FactorSchedule):
        names = cls.LENGTHS
    else:
        names = _TORCH_LENGTHS
        _check_torch_arguments(cls, arguments)

    def length(key: str, value: object) -> int:
        steps = to_steps(key, value)
        if steps < 1:
            raise ConfigError(key, value, "must last at least one step")
        return steps

    converted = dict(arguments)
    for name in names:
        value = arguments.get(name)
        if isinstance(value, (list, tuple)):
            converted[name] = [length(name, item) for item in value]
        elif value is not None:
            converted[name] = length(name, value)
    return converted


def _check_torch_arguments(cls: type, arguments: Mapping[str, Any]) -> None:
    """Refuse what would silently run in the wrong unit."""
    torch_bases = {base.__name__ for base in cls.__mro__ if base.__module__.startswith("torch.")}
    for name in torch_bases & _TORCH_REPLACED.keys():
        raise ConfigError(
            "_target_", f"{cls.__module__}.{cls.__qualname__}", "cannot be used here", _TORCH_REPLACED[name]
        )
    if "last_epoch" in arguments:
        raise ConfigError("last_epoch", arguments["last_epoch"], "is set by mlprun", "leave it out")
    if "OneCycleLR" in torch_bases:
        for name in ("epochs", "steps_per_epoch"):
            if name in arguments:
                raise ConfigError(name, arguments[name], _NO_UNIT, "write total_steps='100%' instead")
    if not cls.__module__.startswith("torch."):
        return
    for name, parameter in inspect.signature(cls).parameters.items():
        has_default = parameter.default is not inspect.Parameter.empty
        # A cycle falls in as many steps as it rises where step_size_down is not given.
        if name in _TORCH_LENGTHS and has_default and name != "step_size_down" and name not in arguments:
            raise ConfigError(
                name,
                ConfigError.MISSING,
                f"is needed: torch's default, {parameter.default}, has no unit",
                f"write for example scheduler.{name}='10 epochs' or '100%'",
            )


def _plain(value: Any) -> Any:
    """`value` without what `torch.load(weights_only=True)` would refuse."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items() if _is_plain(item)}
    if type(value) in (list, tuple):
        return type(value)(_plain(item) for item in value)
    return value


def _is_plain(value: Any) -> bool:
    from torch import Tensor  # here, for only a torch scheduler needs it

    if type(value) is dict:
        return True
    if type(value) in (list, tuple):
        return all(_is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)


def _ramp(step: int, warmup_steps: int) -> float:
    """The linear rise to 1 at `warmup_steps`; above 0 from the first update on."""
    return (step + 1) / (warmup_steps + 1) if step < warmup_steps else 1.0


def _half_cosine(share: float) -> float:
    """Half a cosine: 1 at share 0, 0 at share 1."""
    return (1 + math.cos(math.pi * share)) / 2


def _above(floor: float, height: float) -> float:
    """`floor` at height 0, exactly 1 at height 1."""
    return floor + (1 - floor) * height


def _number(key: str, value: object, low: float, high: float = math.inf, brackets: str = "[]") -> float:
    """`value`, a finite number in the interval; a round bracket leaves its end out."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(key, value, "must be a number")
    if not low <= value <= high or (value == low and "(" in brackets) or (value == high and ")" in brackets):
        right = f"{high:g}{brackets[1]}" if high < math.inf else "infinity)"
        raise ConfigError(key, value, f"must be in {brackets[0]}{low:g}, {right}")
    return float(value)


def _fraction(key: str, value: object) -> float:
    return _number(key, value, 0, 1)


def _integer(key: str, value: object, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(key, value, f"must be a whole number >= {least}")
    return value


def _length(key: str, value: object) -> int:
    return _integer(key, value, least=1)
