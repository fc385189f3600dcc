"""Caffe's "quick" network for CIFAR-10, with which Smith studied cyclical learning rates."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.arguments import check_image_shape, check_positive
from mlprun.models.initialize import initialize

MIN_SIDE = 8  # pixels, which three poolings reduce to one


class CifarQuick(nn.Module):
    """Three 5×5 convolutions, each with a 3×3 pooling of stride 2, and two linear layers.

    As in Caffe's `examples/cifar10/cifar10_quick_train_test.prototxt` (Jia et al. 2014, after Krizhevsky's
    cuda-convnet): max pooling before the first ReLU, mean pooling after the others, nothing between the linear layers,
    and poolings round sizes up (`ceil_mode`). A 3×32×32 image goes 32×16×16 -> 32×8×8 -> 64×4×4 -> 64 -> num_outputs.

    Caffe's initial weights are N(0, σ²) with σ = 0.0001, 0.01, 0.01, 0.1, 0.1 for pixels up to 255; for standardised
    pixels use `init`.

    Args:
        input_shape: [channels, height, width] of one image, 8 pixels per side or more.
        init: initial weights, see `initialize`.
    """

    def __init__(self, input_shape: Sequence[int], num_outputs: int, init: str | float = "default") -> None:
        super().__init__()
        channels, height, width = check_image_shape(input_shape)
        check_positive(num_outputs=num_outputs)
        if min(height, width) < MIN_SIDE:
            problem = f"three poolings, each halving the image, need {MIN_SIDE} pixels per side"
            raise ConfigError("input_shape", list(input_shape), problem, "use model=cnn or model=mlp")
        self.layers = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(channels, 32, 5, padding=2),
                pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(32, 32, 5, padding=2),
                relu2=nn.ReLU(),
                pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
                conv3=nn.Conv2d(32, 64, 5, padding=2),
                relu3=nn.ReLU(),
                pool3=nn.AvgPool2d(3, 2, ceil_mode=True),
                flat=nn.Flatten(),
                ip1=nn.Linear(64 * (height // 8) * (width // 8), 64),
                ip2=nn.Linear(64, num_outputs),
            )
        )
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) floats -> (batch, num_outputs) logits or predictions."""
        logits: Tensor = self.layers(inputs)
        return logits
