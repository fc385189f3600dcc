"""Batches of sequences: their lengths and their padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from mlprun.data.nested import Batch
from mlprun.data.source import IGNORED
from mlprun.data.text.tokenizer import PADDING


def lengths(ids: Tensor, padding: int) -> Tensor:
    """(N, L) whole numbers -> int64 (N,), the length of each sequence without the padding at its end; at least 1."""
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    # in chunks: the int64 of a large set would not fit
    return torch.cat([((chunk != padding) * places).amax(1).clamp(min=1) for chunk in ids.split(4096)])


def concat_batches(batches: Sequence[Batch]) -> Batch:
    """Several batches as one, on the CPU; sequences and targets per token are padded to the longest of all."""

    def joined(tensors: list[Tensor], filling: int) -> Tensor:
        if not tensors[0].is_floating_point() and tensors[0].dim() == 2:
            widest = max(tensor.shape[1] for tensor in tensors)
            tensors = [F.pad(tensor, (0, widest - tensor.shape[1]), value=filling) for tensor in tensors]
        return torch.cat([tensor.cpu() for tensor in tensors])

    return Batch(joined([b.inputs for b in batches], PADDING), joined([b.targets for b in batches], IGNORED))


def cut_to(inputs: Tensor, targets: Tensor, longest: int) -> tuple[Tensor, Tensor]:
    """Cut sequences, and their targets if they are per token, after the longest."""
    per_token = targets.dim() > 1 and not targets.is_floating_point()  # else the values of a regression
    return inputs[:, :longest], targets[:, :longest] if per_token else targets


def cut_padding(inputs: Tensor, targets: Tensor, padding: int | None) -> tuple[Tensor, Tensor]:
    return (inputs, targets) if padding is None else cut_to(inputs, targets, int(lengths(inputs, padding).max()))
