"""What a data set hands to mlprun: its examples before splitting, normalising and batching.

A `data.dataset._target_` is a callable that returns a `Source`, or any `torch.utils.data.Dataset`
of the user's own. Functions here and in the sibling files take plain arguments and know no config.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from mlprun.data.nested import Batch

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


Part = Examples | Dataset[Any]


@dataclass(frozen=True)
class Inputs:
    """What the inputs of a data set are: numbers of any shape, such as pixels and features.

    Any other kind is a subclass beside its data sets, which overrides what differs: nothing else asks for the kind.

    Attributes:
        options: `data.SECTION`; set when the data are split.
        padding: the token id that fills sequences up at their end, so that a batch may be cut to its longest; None if
            they are no sequences, or of unknown lengths.
        summary: lines about them with which a run begins.
    """

    section: ClassVar[str] = ""  # of `data`, with the keys of this kind
    why_not_augment: ClassVar[str] = ""  # why `data.augment` does not suit these inputs; empty if it may
    why_not_transform: ClassVar[str] = ""  # likewise `data.transforms`
    why_not_folds: ClassVar[str] = ""  # likewise `data.num_folds`
    bucketing: ClassVar[int] = 0  # sort the examples of so many batches by length
    may_miss: ClassVar[bool] = False  # NaN is a missing value, which `fill` fills
    options: Mapping[str, Any] = field(default_factory=dict, kw_only=True)
    padding: int | None = field(default=None, kw_only=True)
    summary: tuple[str, ...] = field(default=(), kw_only=True)

    def check(self, train: Part) -> None:
        """Raise ConfigError if the options do not suit the training part."""

    def fill(self, train: Part) -> Tensor | None:
        """What replaces NaN, by statistics of the training split, shape (D,); None: nothing is missing."""
        return None

    def scaled(self, shift: Tensor, scale: Tensor, train: Part) -> tuple[Tensor, Tensor]:
        """Shift and scale by `data.normalize`, changed for inputs that they do not suit."""
        return shift, scale

    def check_split(self, train: Part, others: Mapping[str, Part]) -> None:
        """Warn of what other parts have and the training split lacks."""

    def stored(self) -> dict[str, Any]:
        """What a checkpoint holds of these inputs, as plain values."""
        return {}

    def digests(self) -> dict[str, str]:
        """What run.json holds of these inputs."""
        return {}

    def check_checkpoint(self, stored: Mapping[str, Any], path: Path) -> None:
        """Raise ConfigError if inputs mean something else now than when the run's checkpoint at `path` was written."""

    def check_weights(
        self, stored: Mapping[str, Any], typed: str, module: nn.Module, other_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        """Raise ConfigError if the weights of another run do not suit these inputs: `trainer.weights` as `typed`.

        `other_shapes` are the shapes in the file of tensors that have another one in the model.
        """

    def remedy(self, name: str, inputs: Tensor, layer: nn.Module) -> str:
        """The remedy for a model whose `layer` cannot take these inputs of the data `name`; empty if unknown."""
        if any(isinstance(module, nn.Embedding) for module in layer.modules()):
            return f"the inputs of {name} are not token ids: choose a model of numbers or images, such as mlp"
        return ""

    def tally(self, inputs: Tensor) -> Tensor | None:
        """Counts of a batch on the CPU, which are summed over the first pass of lazy data; None: nothing to count."""
        return None

    def warn(self, tally: Tensor, of: str) -> None:
        """Warn of what the sum of all `tally` shows `of` the data."""

    def lines(self, train: Part, first: Batch, batch_size: int | str, label: str) -> list[str]:
        """What `inspect` shows instead of statistics; `label` is the class of the first example, if it has one."""
        return []


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
        inputs: their kind; None: token ids if they are whole numbers other than bytes, else numbers.
        perturb: changes each batch at random, in training, val and test alike (masked words).
        resize: how images were resized, so that `predict` does the same; see `image_folder`.
        describe: gives lines about the files for `inspect`.
        groups: name -> the group of each training example, and then of each of `val`; `data.groups` names one.
    """

    train: Part
    test: Part | None = None
    augmented: Dataset[Any] | None = None
    value_range: tuple[float, float] | None = None
    class_names: tuple[str, ...] = ()
    fingerprints: dict[str, str] = field(default_factory=dict)
    val: Part | None = None
    inputs: Inputs | None = None
    perturb: Perturb | None = None
    resize: str = "cover"
    describe: Callable[[], list[str]] | None = None
    groups: Mapping[str, Sequence[Any]] = field(default_factory=dict)
