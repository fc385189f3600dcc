"""Random changes of training images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def augment(images: Tensor, crop: int, flip: bool, generator: torch.Generator, num_drawn: int | None = None) -> Tensor:
    """Shift each image by up to `crop` pixels, padded with black, and mirror half of them.

    Args:
        images: (N, C, H, W) of any dtype, as stored.
        crop: pixels of border before the random crop to (H, W).
        flip: mirror left-right with probability 1/2.
        generator: on the CPU, so that every device draws the same.
        num_drawn: draw for so many images, of which these are the first; None: for as many as there are.
    """
    count, _, height, width = images.shape
    drawn = (num_drawn or count, 1)
    rows, columns = torch.arange(height).repeat(count, 1), torch.arange(width).repeat(count, 1)
    if crop:
        rows = rows + torch.randint(0, 2 * crop + 1, drawn, generator=generator)[:count]
        columns = columns + torch.randint(0, 2 * crop + 1, drawn, generator=generator)[:count]
        images = F.pad(images, (crop, crop, crop, crop))
    if flip:
        mirrored = torch.rand(drawn, generator=generator)[:count] < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    example = torch.arange(count, device=images.device)
    # (N, H, W, C): the indexed axes come first if a slice is between them.
    return images[example[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
