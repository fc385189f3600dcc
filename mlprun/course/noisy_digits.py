"""Digits with noise, with and without a seed: a lesson on reproducibility."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.source import Examples
from mlprun.data.tabular import digits
from mlprun.errors import ConfigError


class NoisyDigits(Dataset[tuple[Tensor, int]]):
    """scikit-learn's digits, (1, 8, 8) float32, with new noise each time an example is read.

    With `seeded`, the noise comes from torch's global generator, which mlprun seeds by (seed, epoch, index), also in
    worker processes. Without, it comes from an unseeded generator of the data set: no run can be repeated, and all
    worker processes start with a copy of its state and draw the same noise.

    Args:
        std: standard deviation of the noise, >= 0; pixels range from 0 to 16.
    """

    def __init__(self, std: float, seeded: bool) -> None:
        if std < 0:
            raise ConfigError("std", std, "must be >= 0")
        stored = digits().train
        assert isinstance(stored, Examples)
        self.images, self.targets = stored.inputs.float(), stored.targets
        self.std, self.seeded = std, seeded
        self.rng = np.random.default_rng()  # the mistake: no seed

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.seeded:
            noise = torch.randn(image.shape)
        else:
            noise = torch.from_numpy(self.rng.standard_normal(image.shape, dtype=np.float32))
        return image + self.std * noise, int(self.targets[index])
