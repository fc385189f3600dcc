"""What the learner has to know of an optimizer."""

from __future__ import annotations

import inspect

import torch

GROUP_NAME = "group_name"  # key of a parameter group that `optim.groups` names


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer.step` requires a closure that computes the loss and its gradients, like that of LBFGS."""
    parameters = list(inspect.signature(type(optimizer).step).parameters.values())[1:2]
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
