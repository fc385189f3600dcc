"""torch's own schedulers, with durations for lengths."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mlprun.errors import ConfigError
from mlprun.training.schedule import Schedule, ToSteps, in_steps


class TorchSchedule(Schedule):
    """Any `torch.optim.lr_scheduler.LRScheduler`, stepped once after every update that follows the warmup.

    Build it with the optimizer that trains, before either loads a state.
    """

    def __init__(self, scheduler: LRScheduler, warmup_steps: int = 0) -> None:
        self.scheduler, self.warmup_steps = scheduler, warmup_steps
        self._first = list(scheduler.get_last_lr())
        self._completed = 0

    def apply(self, optimizer: Optimizer, step: int) -> None:
        # The scheduler cannot go back.
        position = max(0, step - self.warmup_steps)
        assert position >= self._completed, f"step {step} after {self._completed} scheduler steps"
        if position == 0:
            for group, lr in zip(optimizer.param_groups, self.scheduler.get_last_lr(), strict=True):
                group["lr"] = lr * self.ramp(step)
        while self._completed < position:
            self.scheduler.step()
            self._completed += 1

    def state_dict(self) -> dict[str, Any]:
        # Functions and counters that it also holds come from the config.
        plain = {name: value for name, value in self.scheduler.state_dict().items() if _is_plain(value)}
        return {"completed": self._completed, "scheduler": plain}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._completed = state["completed"]
        self.scheduler.load_state_dict(dict(state["scheduler"]))  # a copy: torch pops from it

    def recompute(self, optimizer: Optimizer, state: Mapping[str, Any]) -> None:
        # Start over: torch keeps lengths and position in one state. The next `apply` steps to the position.
        for group, lr in zip(optimizer.param_groups, self._first, strict=True):
            group["lr"] = lr


_LENGTHS = (
    "step_size", "milestones", "total_iters", "T_max", "T_0", "step_size_up", "step_size_down", "total_steps",
)  # fmt: skip
_REPLACED = {
    "ReduceLROnPlateau": "write scheduler=plateau",
    "ExponentialLR": "write scheduler=exponential, whose gamma has a period with a unit",
    "SequentialLR": "write scheduler.warmup for a warmup; for more, a function (step, ...) -> factor of your own",
    "ChainedScheduler": "write scheduler.warmup for a warmup; for more, a function (step, ...) -> factor of your own",
}


def torch_arguments(cls: type, arguments: Mapping[str, Any], to_steps: ToSteps) -> dict[str, Any]:
    """The arguments of an `LRScheduler` class, as in the config, with every duration converted to steps.

    Raises:
        ConfigError: a length without a unit, below one step or left to a default in steps, an argument that mlprun
            sets itself, or a class that cannot be stepped once per update.
    """
    torch_bases = {base.__name__ for base in cls.__mro__ if base.__module__.startswith("torch.")}
    for name in torch_bases & _REPLACED.keys():
        raise ConfigError("_target_", f"{cls.__module__}.{cls.__qualname__}", "cannot be used here", _REPLACED[name])
    if "last_epoch" in arguments:
        raise ConfigError("last_epoch", arguments["last_epoch"], "is set by mlprun", "leave it out")
    if "OneCycleLR" in torch_bases:
        for name in sorted({"epochs", "steps_per_epoch"} & arguments.keys()):
            problem = "counts epochs in torch's examples, and optimizer steps here"
            raise ConfigError(name, arguments[name], problem, "write total_steps='100%' instead")
    for name, parameter in inspect.signature(cls).parameters.items():
        has_default = parameter.default is not inspect.Parameter.empty
        # Without step_size_down a cycle falls in as many steps as it rises.
        is_length = cls.__module__.startswith("torch.") and name in _LENGTHS and name != "step_size_down"
        if is_length and has_default and name not in arguments:
            problem = f"is needed: torch's default, {parameter.default}, has no unit"
            remedy = f"write for example scheduler.{name}='10 epochs' or '100%'"
            raise ConfigError(name, ConfigError.MISSING, problem, remedy)
    return in_steps(arguments, [name for name in _LENGTHS if arguments.get(name) is not None], to_steps)


def _is_plain(value: Any) -> bool:  # torch.load(weights_only=True) takes it
    if type(value) in (dict, list, tuple):
        return all(map(_is_plain, value.values() if type(value) is dict else value))
    return value is None or type(value) in (bool, int, float, str) or isinstance(value, Tensor)
