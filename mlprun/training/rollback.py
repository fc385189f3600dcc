"""Undo a training step."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn


def rollback(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> Callable[[], None]:
    """Copy what a step changes; returns a function that restores it.

    Always copies the model's buffers, which the forward pass changes (batch norm); with an optimizer also its state,
    its groups and the trained parameters.
    """
    # A user's forward may also replace a buffer by a new tensor.
    buffers = [
        (module._buffers, name, buffer, None if buffer is None else buffer.clone())
        for module in model.modules()
        for name, buffer in module._buffers.items()
    ]
    if optimizer is None:
        weights, state, groups = [], {}, []
    else:
        weights = [(p, p.detach().clone()) for p in model.parameters() if p.requires_grad]
        # Not by load_state_dict, which casts float64 to the parameter's dtype.
        state = {p: copy.deepcopy(values) for p, values in optimizer.state.items()}
        groups = [copy.deepcopy({k: v for k, v in group.items() if k != "params"}) for group in optimizer.param_groups]

    def undo() -> None:
        with torch.no_grad():
            for of_module, name, buffer, before in buffers:
                of_module[name] = buffer if buffer is None or before is None else buffer.copy_(before)
            for parameter, weight in weights:
                parameter.copy_(weight)
        if optimizer is not None:
            optimizer.state.clear()
            optimizer.state.update(state)
            for group, values in zip(optimizer.param_groups, groups, strict=True):
                group.update(values)

    return undo
