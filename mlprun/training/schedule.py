"""The interface of a learning-rate schedule, and the class that multiplies the rate by a factor of the step."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from mlprun.errors import ConfigError

if TYPE_CHECKING:
    from torch.optim import Optimizer

ToSteps = Callable[[str, object], int]  # (key, duration) -> steps; raises a ConfigError for a number without a unit
Steps = Annotated[int, "a duration in the config"]  # the annotation of such an argument; also list[Steps]


class Interval(str):
    """The range of an argument: `Annotated[float, Interval("(0, 1]")]`; a round bracket excludes its end."""

    def check(self, key: str, value: Any, *, whole: bool) -> None:
        low, high = map(float, self[1:-1].split(","))
        wanted = f"must be a whole number >= {low:g}" if whole else "must be a number"
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not math.isfinite(value):
            raise ConfigError(key, value, wanted)
        if not low <= value <= high or (value == low and self[0] == "(") or (value == high and self[-1] == ")"):
            raise ConfigError(key, value, wanted if whole else f"must be in {self}")


class Schedule(ABC):
    """Training calls `apply` before every update and `observe` after every evaluation.

    During `warmup_steps` the rate rises linearly to its first value, (step+1)/(warmup_steps+1), before the schedule
    begins (Goyal et al., 2017). A schedule that rises by itself (one_cycle, triangular) does so after the warmup.
    """

    warmup_steps = 0
    may_diverge = False  # True if divergence is a result: the training looks for the rate at which it diverges

    @abstractmethod
    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Set every group's rate for the update after `step` completed ones; idempotent."""

    def observe(self, value: float, mode: Literal["min", "max"]) -> None:  # noqa: B027 (most ignore it)
        """Note the monitored value of an evaluation; `mode`: whether lower or higher values are better."""

    def state_dict(self) -> dict[str, Any]:
        """The state that a resume needs, as plain values and tensors; empty for a function of the step."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:  # noqa: B027 (most have no state)
        pass

    def recompute(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        """Continue from a run of another length: take over its state, but not its lengths."""
        self.load_state_dict(state)

    def ramp(self, step: int) -> float:
        """The fraction of the first rate during the warmup, above 0 from the first update on; 1 after it."""
        return (step + 1) / (self.warmup_steps + 1) if step < self.warmup_steps else 1.0


class FactorSchedule(Schedule):
    """Multiplies every group's own `optim.lr` (torch's `initial_lr`) with `function(step, **arguments)`, in [0, 1].

    `step` (>= 0) counts from the end of the warmup; beyond its length a function keeps its last value. A schedule
    with a state overrides `factor`. Arguments annotated with `Steps`, or in `LENGTHS`, are durations in the config.
    """

    LENGTHS: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, function: Callable[..., float] = lambda step: 1.0, warmup_steps: int = 0, /, **arguments: Any
    ) -> None:
        self.function, self.warmup_steps, self.arguments = function, warmup_steps, arguments
        self.may_diverge = getattr(function, "may_diverge", False)

    def factor(self, step: int) -> float:
        return self.function(step, **self.arguments)

    def apply(self, optimizer: Optimizer, step: int) -> None:
        factor = self.ramp(step) * float(self.factor(max(0, step - self.warmup_steps)))
        for group in optimizer.param_groups:
            lr = group.setdefault("initial_lr", group["lr"]) * factor
            if group["lr"] != lr:
                group["lr"] = lr


def in_steps(arguments: Mapping[str, Any], lengths: Collection[str], to_steps: ToSteps) -> dict[str, Any]:
    """The arguments, with the durations (or lists of them) named in `lengths` converted to steps."""

    def length(key: str, value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return [length(key, item) for item in value]
        if (steps := to_steps(key, value)) < 1:
            raise ConfigError(key, value, "must last at least one step")
        return steps

    return {key: length(key, value) if key in lengths else value for key, value in arguments.items()}


def checked_arguments(target: Callable[..., Any], arguments: Mapping[str, Any], to_steps: ToSteps) -> dict[str, Any]:
    """The config's arguments of a schedule function, or of a `FactorSchedule` class, with durations in steps.

    Raises:
        ConfigError: a duration without a unit or below one step, or a number outside its `Interval`.
    """
    try:
        hints = {p.name: p.annotation for p in inspect.signature(target, eval_str=True).parameters.values()}
    except NameError:  # what a user's module imports for type checkers only
        hints = {}
    lengths = {name for name, hint in hints.items() if hint in (Steps, list[Steps])}
    checked = in_steps(arguments, {*lengths, *getattr(target, "LENGTHS", ())}, to_steps)
    for name, value in checked.items():
        for condition in getattr(hints.get(name), "__metadata__", ()):
            if isinstance(condition, Interval):
                condition.check(name, value, whole=hints[name].__origin__ is int)
    return checked
