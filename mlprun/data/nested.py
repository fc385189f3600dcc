"""Batches: pairs of inputs and targets, or whatever structure of tensors a data set yields."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """Examples on the device, scaled.

    Attributes:
        inputs: (N, *input_shape), float32, or whole numbers (int64 for token ids, cut to the longest sequence).
        targets: (N,) int64, (N, num_outputs) float32, scaled if the config says so, or (N, L) int64 for one per token.
        epoch: number of the pass over the training split, from 0.
    """

    inputs: Tensor
    targets: Tensor
    epoch: int = 0

    @property
    def num_examples(self) -> int:
        return len(self.targets)

    @property
    def examples(self) -> Any:
        """What a user's own task gets."""
        return self.inputs, self.targets

    def map(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with each tensor replaced by `function(tensor)`."""
        return Batch(function(self.inputs), function(self.targets), self.epoch)

    def split(self, count: int) -> list[Batch]:
        """At most `count` micro-batches."""
        count = min(count, self.num_examples)
        pairs = zip(self.inputs.tensor_split(count), self.targets.tensor_split(count), strict=True)
        return [Batch(inputs, targets, self.epoch) for inputs, targets in pairs]


class NestedBatch(NamedTuple):
    """Examples of any structure (`data.input_shape=null`), on the device as the data set and `collate` give them."""

    examples: Any
    epoch: int = 0

    @property
    def num_examples(self) -> int:
        """Length of the first tensor."""
        return len(next(iter_tensors(self.examples)))

    def map(self, function: Callable[[Tensor], Tensor]) -> NestedBatch:
        return NestedBatch(map_tensors(function, self.examples), self.epoch)

    def split(self, count: int) -> list[NestedBatch]:
        """At most `count` micro-batches; each tensor is cut along its first dimension."""
        count = min(count, self.num_examples)
        return [self.map(partial(_part, count=count, index=index)) for index in range(count)]


AnyBatch = Batch | NestedBatch


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """`value` with each tensor in its dicts, lists, tuples and named tuples replaced by `function(tensor)`."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, item) for item in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def _part(tensor: Tensor, count: int, index: int) -> Tensor:
    return tensor.tensor_split(count)[index]


def iter_tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested dicts, lists and tuples."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from iter_tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from iter_tensors(item)


def is_finite(batch: AnyBatch) -> bool:
    """Whether no input of a batch is NaN or infinite."""
    inputs = batch.inputs if isinstance(batch, Batch) else batch.examples
    return all(bool(torch.isfinite(tensor).all()) for tensor in iter_tensors(inputs))


def shapes(batch: AnyBatch) -> str:
    """The shapes of a batch, for messages."""
    if isinstance(batch, Batch):
        return f"inputs {list(batch.inputs.shape)}, targets {list(batch.targets.shape)}"
    return f"examples {map_tensors(lambda tensor: list(tensor.shape), batch.examples)}"
