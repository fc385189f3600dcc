"""torch's own schedulers, with lengths that have units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlprun.errors import ConfigError
from mlprun.training.schedule import FactorSchedule, Schedule, check_integer, warmup_ramp

if TYPE_CHECKING:
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


class TorchSchedule(Schedule):
    """Any `torch.optim.lr_scheduler.LRScheduler`, stepped once after every update, after an optional warmup.

    Args:
        scheduler: built with the optimizer that trains, before either loads a state.
        warmup_steps: length of the linear rise to the scheduler's own first rates.
    """

    def __init__(self, scheduler: LRScheduler, warmup_steps: int = 0) -> None:
        self.scheduler = scheduler
        self.warmup_steps = check_integer("warmup", warmup_steps, least=0)
        self._first = list(scheduler.get_last_lr())
        self._completed = 0

    def apply(self, optimizer: Optimizer, step: int) -> None:
        """Step the scheduler until it has seen `step` updates; it cannot go back."""
        position = max(0, step - self.warmup_steps)
        assert position >= self._completed, f"step {step} after {self._completed} scheduler steps"
        if position == 0:
            ramp = warmup_ramp(step, self.warmup_steps)
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
