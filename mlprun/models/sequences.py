"""What sequence models share: which ids are padding, and how the states of a sequence become one.

A batch is token ids (batch, length), each sequence padded at its end. The mask follows from the ids, and no shape
depends on their values: nothing here waits for a GPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

PADDING = 0  # the id that fills a sequence up to the longest of its batch
PER_TOKEN = ("token_classification", "language_modeling")
POOLINGS = ("last", "max", "mean")


def is_per_token(task: str) -> bool:
    """Whether a task needs one output per token; all others need one per sequence."""
    return task in PER_TOKEN


def check_ids(ids: Tensor) -> None:
    """TypeError unless `ids` are (batch, length) whole numbers: images and tables are no token ids."""
    if ids.dim() != 2 or ids.is_floating_point():
        raise TypeError(f"it reads token ids, (batch, length) whole numbers, not {ids.dtype}")


def mask_of(ids: Tensor) -> Tensor:
    """(batch, length) token ids -> (batch, length) bool, false at padding."""
    return ids != PADDING


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens, `Σₜ mₜ xₜ / Σₜ mₜ`; zero for a sequence without tokens.

    (batch, length, width) floats and (batch, length) bool or weights -> (batch, width) floats.
    """
    weights = mask.to(states.dtype)
    total = torch.einsum("nl,nlw->nw", weights, states)
    count = weights.sum(dim=1, keepdim=True)
    return total / torch.where(count == 0, 1, count)


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One state per sequence, by one of `POOLINGS`: (batch, length, width), (batch, length) bool -> (batch, width)."""
    if pooling == "last":
        return last(states, mask)
    if pooling == "mean":
        return masked_mean(states, mask)
    largest = states.masked_fill(~mask[:, :, None], torch.finfo(states.dtype).min).amax(dim=1)
    return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0)


def last(states: Tensor, mask: Tensor) -> Tensor:
    """The state at the last token: (batch, length, width) and (batch, length) bool -> (batch, width)."""
    index = (_lengths(mask) - 1)[:, None, None].expand(-1, 1, states.shape[2])  # (batch, 1, width)
    return states.gather(1, index).squeeze(1)


def reverse(states: Tensor, mask: Tensor) -> Tensor:
    """Reverse each sequence within its own length, leaving the padding where it is; its own inverse.

    (batch, length, width) and (batch, length) bool -> (batch, length, width).
    """
    steps = torch.arange(states.shape[1], device=states.device)  # (length,)
    mirrored = _lengths(mask)[:, None] - 1 - steps  # (batch, length), negative at padding
    index = torch.where(mirrored >= 0, mirrored, steps)
    return states.gather(1, index[:, :, None].expand_as(states))


def _lengths(mask: Tensor) -> Tensor:
    """(batch,) int64 numbers of tokens; 1 for an empty sequence, so that it has a last one."""
    return mask.sum(dim=1).clamp(min=1)
