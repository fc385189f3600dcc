"""MixUp and CutMix: each example of a batch is mixed with another, and so are their targets."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Mix:
    """A `Perturb` of a classification's batches, whose targets become shares of classes, float32 (N, num_outputs).

    The share λ of an example is drawn once per batch; the rest is of the example before it, whose place is random.

    Args:
        mixup: α of λ ~ Beta(α, α), as in Zhang et al. (2018); None: no MixUp.
        cutmix: likewise for CutMix, Yun et al. (2019), which pastes a box of the other image; if both are given, one is
            drawn for each batch.
    """

    mixup: float | None
    cutmix: float | None
    num_outputs: int

    def __call__(self, inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        # torch has no public Beta that takes a generator
        draws = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        cuts = self.cutmix is not None and (self.mixup is None or draws.random() < 0.5)
        alpha = self.cutmix if cuts else self.mixup
        assert alpha is not None
        share = float(draws.beta(alpha, alpha))
        others = inputs.roll(1, 0)
        if cuts:
            inputs, share = _paste(inputs, others, share, draws)
        else:
            inputs = inputs * share + others * (1 - share)
        one_hot = targets[:, None] if self.num_outputs == 1 else F.one_hot(targets, self.num_outputs)
        soft = one_hot.to(torch.float32)
        return inputs, soft * share + soft.roll(1, 0) * (1 - share)


def _paste(images: Tensor, others: Tensor, share: float, draws: np.random.Generator) -> tuple[Tensor, float]:
    """Images with a box of the others, and the share of the image that is left: the box ends at the border."""
    height, width = images.shape[-2:]
    half = math.sqrt(1 - share) / 2
    (top, bottom), (left, right) = (_side(int(draws.integers(size)), half, size) for size in (height, width))
    images = images.clone()
    images[..., top:bottom, left:right] = others[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)


def _side(middle: int, half: float, size: int) -> tuple[int, int]:
    reach = int(half * size)
    return max(0, middle - reach), min(size, middle + reach)
