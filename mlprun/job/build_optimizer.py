"""From config to optimizer: the trained parameters, in groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from mlprun.config.instantiate import construct
from mlprun.config.schema import Config
from mlprun.errors import ConfigError
from mlprun.formatting import as_typed, first_few, pluralize
from mlprun.training import finetune
from mlprun.training.combined import Combined, has_own_state
from mlprun.training.loop import Plan
from mlprun.training.optimizer import GROUP_NAME, needs_closure

_CRITERIA = ("params", "ndim")  # keys of a group that say which parameters are in it
_LISTED = 3  # names of parameters in a line


@dataclass(frozen=True)
class Group:
    """Parameters that are optimized alike.

    Attributes:
        name: in `optim.groups`; empty for `optim` itself.
        node: `_target_` and arguments of their optimizer.
        differs: the arguments that are not those of `optim`.
        parameters: by name.
    """

    name: str
    node: dict[str, Any]
    differs: dict[str, Any]
    parameters: dict[str, nn.Parameter]

    @property
    def key(self) -> str:
        return f"optim.groups.{self.name}" if self.name else "optim"


def trained_parameters(config: Config, module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters, by name, that are frozen neither by `trainer.freeze` nor by the module itself.

    With `trainer.unfreeze_at`, those of `trainer.freeze` are included: they have no gradient before, so an optimizer
    passes them over.
    """
    frozen = finetune.frozen(config.trainer.freeze, module)
    if config.trainer.unfreeze_at is not None:
        return {name: p for name, p in module.named_parameters() if p.requires_grad or name in frozen}
    return {name: p for name, p in module.named_parameters() if p.requires_grad and name not in frozen}


def parameter_groups(config: Config, module: nn.Module) -> list[Group]:
    """The trained parameters by `optim.groups`: each is in the first group that matches it, or else in `optim`'s own.

    Raises:
        ConfigError: a pattern matches no parameter, or a group is empty.
    """
    left = trained_parameters(config, module)
    base = {key: value for key, value in config.optim.items() if key != "groups"}
    groups: list[Group] = []
    for name, node in config.optim.get("groups", {}).items():
        wanted = _wanted(node, module, f"optim.groups.{name}")
        taken = {parameter: left.pop(parameter) for parameter in [*left] if parameter in wanted}
        if not taken:
            _refuse_empty(name, wanted, groups)
        differs = {key: value for key, value in node.items() if key not in _CRITERIA}
        groups.append(Group(name, differs if "_target_" in differs else base | differs, differs, taken))
    if groups and not left:
        problem = "take all trained parameters, and leave none to optim itself"
        remedy = f"leave out optim.groups.{groups[-1].name}, and give its arguments to optim"
        raise ConfigError("optim.groups", ",".join(group.name for group in groups), problem, remedy)
    return [Group("", base, {}, left), *groups]


def _wanted(node: dict[str, Any], module: nn.Module, key: str) -> set[str]:
    """The names of the parameters that meet a group's criteria, trained or not."""
    patterns, ndim = node.get("params", "*"), node.get("ndim")
    patterns = [str(pattern) for pattern in (patterns if isinstance(patterns, list) else [patterns])]
    names = finetune.matched(patterns, module, f"{key}.params")
    if ndim is None:
        return names
    found = {name for name, p in module.named_parameters(remove_duplicate=False) if name in names and p.ndim == ndim}
    if not found:
        raise ConfigError(f"{key}.ndim", ndim, "no parameter has so many dimensions", "a matrix has 2, a bias has 1")
    return found


def _refuse_empty(name: str, wanted: set[str], earlier: list[Group]) -> None:
    takers = [group.name for group in earlier if group.parameters.keys() & wanted]
    problem, remedy = "all its parameters are frozen", "leave the group out"
    if takers:
        problem = f"all its parameters are in the groups before it: {', '.join(takers)}"
        remedy = "a parameter is in the first group that matches it: write this group before the other, or leave it out"
    raise ConfigError(f"optim.groups.{name}", ConfigError.MISSING, problem, remedy)


def build_optimizer(config: Config, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer of the trained parameters."""
    groups = parameter_groups(config, module)
    built = [_build(config, group) for group in groups]
    if len(built) == 1:
        return built[0]
    for group, optimizer in zip(groups, built, strict=True):
        problem = "cannot be one of several optimizers: its step evaluates the loss of all parameters again"
        if has_own_state(optimizer):
            problem = "cannot be one of several optimizers: its class has a state_dict of its own"
        elif not needs_closure(optimizer):
            continue
        remedy = "leave optim.groups out" if not group.name else "choose another optimizer for the group"
        raise ConfigError(f"{group.key}._target_", group.node["_target_"], problem, remedy)
    return Combined(built)


def _build(config: Config, group: Group) -> torch.optim.Optimizer:
    trained = [*group.parameters.values()]
    parts: list[Any] = [{"params": trained}]
    if not config.trainer.decay_all:
        # Biases and the scales of norms are 1-D; decaying them does not make the model simpler.
        parts = [
            {"params": [p for p in trained if p.dim() > 1]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        parts = [part for part in parts if part["params"]]
    if group.name:
        parts = [{**part, GROUP_NAME: group.name} for part in parts]
    built = construct(group.node, group.key, parts if group.name or not config.trainer.decay_all else trained)
    if not isinstance(built, torch.optim.Optimizer):
        problem = "does not return a torch.optim.Optimizer"
        raise ConfigError(f"{group.key}._target_", group.node["_target_"], problem)
    if needs_closure(built) and config.trainer.precision == "fp16":
        problem = f"cannot be scaled within a step of {type(built).__name__.lower()}"
        raise ConfigError("trainer.precision", "fp16", problem, "use fp32 or bf16")
    if isinstance(built, torch.optim.LBFGS) and config.batch_size != "all":
        problem = "lbfgs needs all examples at every step"
        raise ConfigError("batch_size", config.batch_size, problem, "add batch_size=all")
    return built


def group_lines(config: Config, module: nn.Module, plan: Plan) -> list[str]:
    """Which parameters are in which group, a line for each, and which start training later."""
    lines = []
    if plan.unfreeze_at is not None:
        frozen = finetune.frozen(config.trainer.freeze, module)
        counts = {name: p.numel() for name, p in module.named_parameters() if name in frozen}
        later = f"{pluralize(sum(counts.values()), 'parameter')}: {first_few([*counts], _LISTED)}"
        lines.append(f"frozen for {pluralize(plan.unfreeze_at, 'step')}: {later}")
    if len(groups := parameter_groups(config, module)) == 1:
        return lines
    for group in [*groups[1:], groups[0]]:
        shown = {key: value for key, value in group.differs.items() if key == "lr" or "_target_" not in group.differs}
        name = str(group.node["_target_"]).rpartition(".")[2]
        words = [name] if "_target_" in group.differs else []
        words += [f"{key} {as_typed(value)}" for key, value in shown.items() if key != "_target_"]
        count = sum(p.numel() for p in group.parameters.values())
        of = f"{group.name}: {', '.join(words)}; " if group.name else "the others: "
        lines.append(f"{of}{pluralize(count, 'parameter')}: {first_few([*group.parameters], _LISTED)}")
    return lines
