"""Data sets that show what can go wrong; for the experiments, not for use."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from mlprun.data.source import Examples
from mlprun.data.tabular import digits
from mlprun.errors import ConfigError


class NoisyDigits(Dataset[tuple[Tensor, int]]):
    """scikit-learn's digits with noise that is drawn anew each time an example is read.

    An example is (float32 of shape (1, 8, 8), class). With `seeded` the noise comes from torch's global generator,
    which mlprun seeds by (seed, epoch, index), in worker processes too. Without, it comes from a generator of the
    data set's own that nobody seeds: no seed of a run reaches it, so no run can be repeated. And each worker process
    begins with a copy of its state, so that all of them draw the same noise.

    Args:
        std: standard deviation of the noise, >= 0; pixels go from 0 to 16.
        seeded: whether a run's seed decides the noise.

    Raises:
        ConfigError: `std` is negative.
        DataError: scikit-learn, or the file in it, is not there.
    """

    def __init__(self, std: float, seeded: bool) -> None:
        if std < 0:
            raise ConfigError("std", std, "must be >= 0")
        stored = digits().train
        assert isinstance(stored, Examples)
        self.images, self.targets = stored.inputs.float(), stored.targets
        self.std, self.seeded = std, seeded
        self.own = np.random.default_rng()  # the mistake: no seed

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.images[index]
        if self.seeded:
            noise = torch.randn(image.shape)
        else:
            noise = torch.from_numpy(self.own.standard_normal(image.shape, dtype=np.float32))
        return image + self.std * noise, int(self.targets[index])
