"""Residual networks: torchvision's, with a stem that suits small images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from mlprun.models.arguments import check_image_shape, check_positive

SMALL_IMAGE = 64  # longest side, in pixels, of an image that gets the stem for small images


def resnet18(input_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """The untrained ResNet-18 of He et al. 2016, table 1.

    The module maps (batch, channels, height, width) floats to (batch, num_outputs) floats. `input_shape` is
    [channels, height, width].

    The stem made for photographs (7×7 convolution with stride 2, 3×3 max pooling) would shrink a small image
    by 4 before the first block. Up to 64 pixels a side it is the stem of the paper's section 4.2 instead: one
    3×3 convolution with stride 1. The weights are drawn as torchvision draws them (He et al. 2015, fan_out).
    """
    channels, height, width = check_image_shape(input_shape)
    check_positive(num_outputs=num_outputs)

    from torchvision.models import resnet  # seconds to import, so only here

    model: nn.Module = resnet.resnet18(num_classes=num_outputs)
    small = max(height, width) <= SMALL_IMAGE
    kernel, stride = (3, 1) if small else (7, 2)
    stem = nn.Conv2d(channels, 64, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.conv1 = stem
    if small:
        model.maxpool = nn.Identity()
    return model
