"""Whether a split still holds the same examples: a hash of their tensors, as stored and in order."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import Tensor

from mlprun.data.nested import iter_tensors
from mlprun.data.source import Examples


class Digest:
    """A hash of examples that does not depend on how they are divided into batches."""

    def __init__(self) -> None:
        self._hashes: list[Any] = []  # one per tensor of an example

    def update(self, batch: Any) -> None:
        """Add a batch of examples, any structure of tensors on the CPU."""
        for place, tensor in enumerate(iter_tensors(batch)):
            if place == len(self._hashes):
                self._hashes.append(hashlib.sha256(f"{tensor.dtype} {list(tensor.shape[1:])}".encode()))
            self._hashes[place].update(_bytes(tensor))

    def __str__(self) -> str:
        return f"sha256:{hashlib.sha256(b''.join(each.digest() for each in self._hashes)).hexdigest()}"


def digest(part: Examples) -> str:
    whole = Digest()
    whole.update((part.inputs, part.targets))
    return str(whole)


def _bytes(tensor: Tensor) -> Any:
    dense = tensor.detach().resolve_conj().resolve_neg().contiguous()
    return dense.reshape(-1).view(torch.uint8).numpy() if dense.numel() else b""
