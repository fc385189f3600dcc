"""Muon for the matrices of a model and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer


class MuonWithAdamW(Optimizer):
    """`torch.optim.Muon` on the 2-D parameters, `torch.optim.AdamW` on all others.

    Muon (Jordan, 2024) makes each update of a matrix nearly orthogonal, so it takes matrices only: biases, norms and
    convolutions go to AdamW. (Embeddings are matrices too and go to Muon.) Both share this optimizer's `param_groups`
    and state, so schedules and checkpoints see one optimizer.

    Args:
        params: parameters, or parameter groups; a group's own options apply to both optimizers.
        lr: Muon's learning rate.
        adamw_lr: AdamW's; None: `lr`, which fits with `adjust_lr_fn="match_rms_adamw"`.
        weight_decay: decoupled, of both.
        adjust_lr_fn: how Muon scales an update with the matrix's shape: `match_rms_adamw` (Liu et
            al., 2025: to about AdamW's size), `original` or `spectral_unclamped`.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 1e-3,
        adamw_lr: float | None = None,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = "match_rms_adamw",
        adamw_betas: tuple[float, float] = (0.9, 0.999),
        adamw_eps: float = 1e-8,
    ) -> None:
        given: list[Any] = list(params)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        self._optimizers: list[Optimizer] = []
        if matrices := _select(groups, lambda p: p.ndim == 2):
            muon: dict[str, Any] = {
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            }
            self._optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay, **muon))
        if others := _select(groups, lambda p: p.ndim != 2):
            adamw: dict[str, Any] = {
                "lr": lr if adamw_lr is None else adamw_lr,
                "betas": adamw_betas,
                "eps": adamw_eps,
                "fused": True,
            }
            self._optimizers.append(AdamW(others, weight_decay=weight_decay, **adamw))
        # The groups are complete: Muon and AdamW have filled in their own defaults.
        super().__init__([group for optimizer in self._optimizers for group in optimizer.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let both work on this optimizer's groups and state, not on copies."""
        start = 0
        for optimizer in self._optimizers:
            end = start + len(optimizer.param_groups)
            optimizer.param_groups, optimizer.state = self.param_groups[start:end], self.state
            start = end

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)  # makes new groups and a new state
        self._share()


def _select(groups: list[dict[str, Any]], condition: Callable[[Tensor], bool]) -> list[dict[str, Any]]:
    """The groups reduced to the parameters that meet the condition, without empty groups."""
    selected = [{**group, "params": [p for p in group["params"] if condition(p)]} for group in groups]
    return [group for group in selected if group["params"]]
