"""Muon for the matrices of a model and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer


class MuonWithAdamW(Optimizer):
    """`torch.optim.Muon` on the 2-D parameters, `torch.optim.AdamW` on all others.

    Muon (Jordan, 2024) makes each update of a matrix nearly orthogonal, so it takes matrices only:
    biases, norms and convolutions go to AdamW. (Embeddings are matrices too and go to Muon.) The
    `param_groups` and the state are those of both, so that schedules and checkpoints see one optimizer.

    Args:
        params: parameters, or parameter groups; a group's own options hold for both its parts.
        lr: Muon's learning rate.
        adamw_lr: AdamW's; None: `lr`, which fits with `adjust_lr_fn="match_rms_adamw"`.
        weight_decay: decoupled, of both.
        momentum, nesterov, ns_steps: Muon's.
        adjust_lr_fn: how Muon scales an update with the matrix's shape: `match_rms_adamw` (Liu et
            al., 2025: to about AdamW's size), `original` or `spectral_unclamped`.
        adamw_betas, adamw_eps: AdamW's.

    Raises:
        ValueError: no parameters, or an argument that torch's classes refuse.
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
        matrices = _part_of(groups, lambda p: p.ndim == 2)
        others = _part_of(groups, lambda p: p.ndim != 2)
        self._parts: list[Optimizer] = []
        if matrices:
            self._parts.append(
                Muon(
                    matrices,
                    lr=lr,
                    weight_decay=weight_decay,
                    momentum=momentum,
                    nesterov=nesterov,
                    ns_steps=ns_steps,
                    adjust_lr_fn=adjust_lr_fn,
                )
            )
        if others:
            self._parts.append(
                AdamW(
                    others,
                    lr=lr if adamw_lr is None else adamw_lr,
                    weight_decay=weight_decay,
                    betas=adamw_betas,
                    eps=adamw_eps,
                    fused=True,
                )
            )
        # The groups are complete: the parts have filled in their own defaults.
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        """Let the parts work on this optimizer's groups and state, not on copies."""
        start = 0
        for part in self._parts:
            end = start + len(part.param_groups)
            part.param_groups, part.state = self.param_groups[start:end], self.state
            start = end

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters once; returns the closure's loss, if there is a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; the model must have the same parameters."""
        super().load_state_dict(state_dict)  # makes new groups and a new state
        self._share()


def _part_of(groups: list[dict[str, Any]], belongs: Callable[[Tensor], bool]) -> list[dict[str, Any]]:
    """The groups with only the parameters that belong, without those that are left empty."""
    parts = [{**group, "params": [p for p in group["params"] if belongs(p)]} for group in groups]
    return [part for part in parts if part["params"]]
