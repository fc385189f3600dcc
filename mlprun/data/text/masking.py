"""Masked words: what a model that reads both sides is pre-trained on."""

from __future__ import annotations

import torch
from torch import Tensor

from mlprun.data.source import IGNORED
from mlprun.data.text.tokenizer import MASK, SPECIAL

SHARE = 0.15  # of a sequence's tokens, to predict
MASKED, RANDOM = 0.8, 0.1  # shares of those that are masked, or replaced by another token; the rest stays


def mask_tokens(
    inputs: Tensor, targets: Tensor, generator: torch.Generator, *, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Choose tokens to predict, and mask most of them.

    Of each sequence 15 % of the tokens are chosen at random, rounded, at least one. Of the chosen 80 % become `MASK`,
    10 % a random ordinary token and 10 % stay. Special tokens, padding among them, are never chosen. Source: Devlin
    et al., 2019, section 3.1 (arXiv:1810.04805); the count per sequence is that of its code.

    Args:
        inputs: ids, int64 of shape (N, L), padded at the end.
        targets: the true ids, the same shape.
        generator: on the CPU, so that every device draws the same.
        vocab_size: the number of ids in use, of which random tokens are drawn.

    Returns:
        The inputs, changed at the chosen places; the targets, `IGNORED` at all others. In a sequence of special
        tokens only no target counts.
    """
    draw = torch.rand(2, *inputs.shape, generator=generator)
    other = torch.randint(len(SPECIAL), vocab_size, inputs.shape, generator=generator)
    order, fate = draw.to(inputs.device, non_blocking=True)
    ordinary = inputs >= len(SPECIAL)
    # the place of each token in a random order of the sequence's ordinary ones
    rank = order.masked_fill(~ordinary, 2.0).argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    count = (SHARE * ordinary.sum(1, keepdim=True)).round().clamp(min=1)
    chosen = ordinary & (rank < count)
    other = other.to(inputs.device, inputs.dtype, non_blocking=True)
    replaced = torch.where(fate < MASKED, MASK, other)
    changed = torch.where(chosen & (fate < MASKED + RANDOM), replaced, inputs)
    return changed, torch.where(chosen, targets, IGNORED)
