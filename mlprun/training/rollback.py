"""Take a training step back."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import nn


def rollback(
    model: nn.Module, parameters: Sequence[nn.Parameter] = (), optimizer: torch.optim.Optimizer | None = None
) -> Callable[[], None]:
    """Copy what a step changes; returns a function that puts it back.

    Args:
        model: its buffers are copied; the forward pass moves batch norm's running statistics.
        parameters: are copied too.
        optimizer: its state and groups are copied too.
    """
    # A user's forward may also put a new tensor in the place of a buffer.
    buffers = [
        (module._buffers, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    weights = [p.detach().clone() for p in parameters]
    # Not by load_state_dict, which casts what is in float64.
    state = {} if optimizer is None else {p: copy.deepcopy(values) for p, values in optimizer.state.items()}
    groups = [] if optimizer is None else [_without_parameters(group) for group in optimizer.param_groups]
    groups = copy.deepcopy(groups)

    def undo() -> None:
        with torch.no_grad():
            for of_module, name, buffer, before in buffers:
                of_module[name] = buffer if buffer is None or before is None else buffer.copy_(before)
            for parameter, weight in zip(parameters, weights, strict=True):
                parameter.copy_(weight)
        if optimizer is not None:
            optimizer.state.clear()
            optimizer.state.update(state)
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.update(values)

    return undo


def _without_parameters(group: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in group.items() if key != "params"}
