"""Scaling by statistics of the training split."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.checks import refuse_non_finite
from mlprun.data.parts import StreamHead
from mlprun.data.source import Examples, Inputs, Part
from mlprun.errors import ConfigError

STATISTICS_SAMPLE = 2048  # training examples that are read for the statistics of lazy data


@dataclass(frozen=True)
class Normalizer:
    """`(x - shift) / scale` in float32, by channel of an image or by feature.

    Attributes:
        shift, scale: float32, shape (C, 1, 1) for images, (D,) for features, () for one scale for all.
        fill: replaces NaN before scaling, (D,); None: there is none.
    """

    shift: Tensor
    scale: Tensor
    fill: Tensor | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Scale a batch of shape (N, *input_shape); whole numbers other than bytes (token ids) pass unchanged."""
        if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            return inputs
        return self.filled(inputs.to(torch.float32)).sub(self.shift).div_(self.scale)

    def filled(self, inputs: Tensor) -> Tensor:
        """The inputs without missing values."""
        return inputs if self.fill is None else torch.where(inputs.isnan(), self.fill, inputs)

    def inverse(self, scaled: Tensor) -> Tensor:
        """The values before scaling, as floats."""
        return scaled * self.scale + self.shift

    def to(self, device: torch.device) -> Normalizer:
        return Normalizer(**{name: value.to(device) for name, value in self.stored().items()})

    def stored(self) -> dict[str, Tensor]:
        """What a checkpoint holds."""
        fill = {} if self.fill is None else {"fill": self.fill}
        return {"shift": self.shift, "scale": self.scale, **fill}


def make_normalizer(
    part: Part, how: str, value_range: tuple[float, float] | None, seed: int = 0, kind: Inputs | None = None
) -> Normalizer:
    """The scaling of `data.normalize`, from the training split; missing values are filled before.

    Args:
        part: the split without random transformations.
        how: `none` keeps stored values; `minmax` maps to [0, 1], images by their format's range, features by their
            smallest and largest value; `standardize` gives mean 0 and standard deviation 1, unless the variance is 0.
        value_range: the image format's range, or None.
        seed: chooses the sample of lazy data.
        kind: of the inputs, which says what is filled, and what is not scaled; None: numbers.
    """
    kind = Inputs() if kind is None else kind
    without = Normalizer(torch.zeros(()), torch.ones(()), kind.fill(part))
    filled = part
    if without.fill is not None and isinstance(part, Examples):
        filled = Examples(without.filled(part.inputs), part.targets)
    scaling = _scaling(filled, how, value_range, seed)
    return Normalizer(*kind.scaled(scaling.shift, scaling.scale, part), without.fill)


def _scaling(part: Part, how: str, value_range: tuple[float, float] | None, seed: int) -> Normalizer:
    if how == "none":
        return Normalizer(torch.zeros(()), torch.ones(()))
    if how == "minmax" and value_range is not None:
        low, high = value_range
        return Normalizer(torch.tensor(float(low)), torch.tensor(float(high - low)))
    inputs = (part if isinstance(part, Examples) else sample_examples(part, seed)).inputs
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        kind = str(inputs.dtype).removeprefix("torch.")
        problem = f"is for quantities; these inputs are whole numbers ({kind}), taken for token ids"
        raise ConfigError("data.normalize", how, problem, "leave it out; or give quantities as float32: x.float()")
    # All axes but that of the channels or features.
    axes = [0, *range(2, inputs.dim())]
    shape = [-1, *[1] * (inputs.dim() - 2)]
    if how == "minmax":
        shift, top = inputs.amin(axes).double(), inputs.amax(axes).double()
        scale = top - shift
    else:
        count = inputs.numel() // inputs.shape[1]
        if inputs.dtype == torch.uint8:
            # Bytes are counted: exact whatever the number of threads, and ten times as fast as a sum of squares.
            counts = torch.stack([torch.bincount(each.flatten(), minlength=256) for each in inputs.unbind(1)])
            values = torch.arange(256)
            total, squares = (counts * values).sum(1).double(), (counts * values.square()).sum(1).double()
        else:
            total = squares = torch.zeros(inputs.shape[1], dtype=torch.float64)
            for chunk in inputs.split(4096):  # in chunks: the float64 copy of a large set would not fit
                total = total + chunk.sum(axes, dtype=torch.float64)
                squares = squares + chunk.double().square().sum(axes)
        shift = total / count
        scale = (squares / count - shift.square()).clamp(min=0).sqrt()
        # Rounding leaves a constant feature a trace of variance.
        scale[scale <= 1e-7 * shift.abs()] = 0
    scale[scale == 0] = 1
    return Normalizer(shift.reshape(shape).float(), scale.reshape(shape).float())


def statistics(values: Tensor) -> str:
    """Range, mean and standard deviation of all values, in words."""
    total = squares = 0.0
    for chunk in values.split(4096):  # the float64 copy of a large set would not fit
        exact = chunk.double()
        total, squares = total + float(exact.sum()), squares + float(exact.square().sum())
    mean = total / values.numel()
    deviation = math.sqrt(max(0.0, squares / values.numel() - mean**2))
    mean = 0.0 if abs(mean) < 1e-5 * deviation else mean  # rounding
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {deviation:.4g}"


def sample_examples(part: Dataset[Any], seed: int) -> Examples:
    """A sample of lazy data for its statistics."""
    if isinstance(part, IterableDataset):
        examples = list(StreamHead(part, STATISTICS_SAMPLE))
    else:
        count = len(part)  # type: ignore[arg-type]  # no stream, so it has a length
        chosen = torch.randperm(count, generator=randomness.generator(seed, "statistics"))[:STATISTICS_SAMPLE]
        examples = [part[int(i)] for i in chosen.sort().values]
    inputs, targets = (torch.stack([torch.as_tensor(example[i]) for example in examples]) for i in (0, 1))
    refuse_non_finite(inputs, "inputs", f"{len(inputs):,} training examples")
    refuse_non_finite(targets, "targets", f"{len(targets):,} training examples")
    return Examples(inputs, targets)
