"""Sequences of several lengths, and batches of them."""

from __future__ import annotations

import torch

from mlprun.data.batches import TrainBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples

CPU = torch.device("cpu")
AS_STORED = Normalizer(torch.zeros(()), torch.ones(()))
LENGTH, CLASSES = 12, 7


def documents(count: int = 23, *, by_token: bool = False) -> Examples:
    """Sequence i is 1 + i % 11 tokens of the id i + 1; its class is i, or that of each token its id."""
    ids = torch.zeros(count, LENGTH, dtype=torch.int32)
    for i in range(count):
        ids[i, : 1 + i % 11] = i + 1
    return Examples(ids, ids.clone() if by_token else torch.arange(count))


def batches(part=None, size: int = 5, **how) -> TrainBatches:
    return TrainBatches(documents() if part is None else part, size, AS_STORED, CPU, 0, padding=0, **how)
