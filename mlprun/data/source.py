"""What a data set hands to mlprun: its examples before splitting, normalising and batching.

A `data.dataset._target_` is a callable that returns a `Source`, or any `torch.utils.data.Dataset`
of the user's own. Functions here and in the sibling files take plain arguments and know no config.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.text.tokenizer import Tokenizer

IGNORED = -100  # the target of a token that counts neither in the loss nor in metrics

# (inputs (N, L), targets (N, L), a generator on the CPU) -> the same, changed at random
Perturb = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Examples:
    """Examples held in memory, as stored: nothing is scaled yet.

    Attributes:
        inputs: shape (N, *input_shape); uint8 for images, float32 for features, int32 (N, L) for token ids.
        targets: int64 class indices (N,); int32 or int64 class indices per token (N, L), `IGNORED` where no target
            counts; or float32 values (N, num_outputs).
    """

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: Any) -> Examples:
        """The examples at `index`, a tensor of indices or a slice."""
        if isinstance(index, Tensor) and index.dtype == torch.int64 and index.dim() == 1:
            # the same rows as by `[index]`, which takes 48 us for 64 images where this takes 6
            return Examples(self.inputs.index_select(0, index), self.targets.index_select(0, index))
        return Examples(self.inputs[index], self.targets[index])


@dataclass(frozen=True)
class Source:
    """A data set's training part, and its own test and val parts if it has them.

    Attributes:
        train: examples in memory, or a lazy map-style or iterable-style `Dataset` of `(input, target)`.
        test: None lets mlprun hold one out (`data.test_fraction`).
        val: None lets mlprun hold one out of `train` (`data.val_fraction`).
        augmented: for lazy data, the training examples in the same order under random
            transformations; used for training only. None: `train` itself.
        value_range: smallest and largest value that the image format allows (`(0, 255)` for bytes);
            None for features, whose range comes from the training split.
        class_names: one per class, or empty.
        fingerprints: file path -> `sha256:…` of each data file that was read.
        padding: the token id that fills sequences up at their end, so that a batch may be cut to its longest; None
            if the inputs are no such sequences.
        perturb: changes each batch at random, in training, val and test alike (masked words).
        tokenizer: converts between text and token ids.
    """

    train: Examples | Dataset[Any]
    test: Examples | Dataset[Any] | None = None
    augmented: Dataset[Any] | None = None
    value_range: tuple[float, float] | None = None
    class_names: tuple[str, ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)
    val: Examples | Dataset[Any] | None = None
    padding: int | None = None
    perturb: Perturb | None = None
    tokenizer: Tokenizer | None = None
