"""Muon for the matrices of a model and AdamW for everything else, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor
from torch.optim import AdamW, Muon, Optimizer

from mlprun.training.combined import Combined


class MuonWithAdamW(Combined):
    """`torch.optim.Muon` on the 2-D parameters, `torch.optim.AdamW` on all others.

    Muon (Jordan, 2024) makes each update of a matrix nearly orthogonal, so it takes matrices only: biases, norms and
    convolutions go to AdamW. (Embeddings are matrices too and go to Muon.)

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
        optimizers: list[Optimizer] = []
        if matrices := _select(groups, lambda p: p.ndim == 2):
            muon: dict[str, Any] = {
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            }
            optimizers.append(Muon(matrices, lr=lr, weight_decay=weight_decay, **muon))
        if others := _select(groups, lambda p: p.ndim != 2):
            adamw: dict[str, Any] = {
                "lr": lr if adamw_lr is None else adamw_lr,
                "betas": adamw_betas,
                "eps": adamw_eps,
                "fused": True,
            }
            optimizers.append(AdamW(others, weight_decay=weight_decay, **adamw))
        super().__init__(optimizers)


def _select(groups: list[dict[str, Any]], condition: Callable[[Tensor], bool]) -> list[dict[str, Any]]:
    """The groups reduced to the parameters that meet the condition, without empty groups."""
    selected = [{**group, "params": [p for p in group["params"] if condition(p)]} for group in groups]
    return [group for group in selected if group["params"]]
