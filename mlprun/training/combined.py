"""Several optimizers as one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.optim import Optimizer


class Combined(Optimizer):
    """Steps several optimizers, each with parameters of its own.

    They share this optimizer's `param_groups` and state, so schedules and checkpoints see one optimizer.

    Args:
        optimizers: new ones. Their step needs no closure, and they have no state besides that of torch's base class.
    """

    def __init__(self, optimizers: Iterable[Optimizer]) -> None:
        self.optimizers: list[Optimizer] = []
        for optimizer in optimizers:
            self.optimizers += optimizer.optimizers if isinstance(optimizer, Combined) else [optimizer]
        # The groups are complete: each optimizer has filled in its own defaults.
        super().__init__([group for optimizer in self.optimizers for group in optimizer.param_groups], {})
        for optimizer in self.optimizers:
            self.state.update(optimizer.state)  # Adagrad begins with one
        self._share()

    def _share(self) -> None:
        """Let all work on this optimizer's groups and state, not on copies."""
        start = 0
        for optimizer in self.optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:end], self.state
            start = end

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self.optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)  # makes new groups and a new state
        self._share()


def has_own_state(optimizer: Optimizer) -> bool:
    """Whether its class saves or loads more than torch's base class does."""
    methods = ("state_dict", "load_state_dict")
    is_changed = any(getattr(type(optimizer), name) is not getattr(Optimizer, name) for name in methods)
    return is_changed and not isinstance(optimizer, Combined)
