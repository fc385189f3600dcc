"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.activations import Layer, make_activation
from mlprun.models.arguments import check_dropout, check_image_shape, check_positive, check_sizes
from mlprun.models.initialize import initialize
from mlprun.models.mlp import MLP


class CNN(nn.Module):
    """Convolutional blocks that each halve the image, then a perceptron; after LeCun et al. 1998.

    Maps (batch, channels, height, width) floats to (batch, num_outputs) floats. A block is a convolution that keeps
    the size, batch norm, activation, 2×2 max pooling; the head is dropout and an `MLP`.
    By default a 1×28×28 image goes 16×14×14 -> 32×7×7 -> 128 -> num_outputs.

    Args:
        input_shape: shape of one image: [channels, height, width].
        channels: output channels of each block, first to last.
        kernel: side of the square filters in pixels, odd.
        batch_norm: normalise each channel of a block, and each hidden layer of the head, over the batch:
            98.7% instead of 98.1% on MNIST after one epoch.
        hidden, activation, negative_slope, dropout, init: as for `MLP`; `hidden` and `dropout` are those of the head.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        channels: Sequence[int] = (16, 32),
        kernel: int = 3,
        hidden: Sequence[int] = (128,),
        activation: str | Layer = "relu",
        negative_slope: float = 0.01,
        dropout: float = 0.0,
        batch_norm: bool = True,
        init: str | float = "default",
    ) -> None:
        super().__init__()
        depth, height, width = check_image_shape(input_shape)
        blocks = check_sizes("channels", channels, at_least=1)
        max_blocks = min(height, width).bit_length() - 1  # how often the shorter side can be halved
        if len(blocks) > max_blocks:
            sizes = " -> ".join(f"{height >> i}x{width >> i}" for i in range(len(blocks) + 1))
            problem = f"{len(blocks)} blocks, each halving the image, leave no pixel: {sizes}"
            raise ConfigError("channels", list(blocks), problem, f"use at most {max_blocks}" if max_blocks else "")
        check_positive(kernel=kernel)
        if kernel % 2 == 0:
            raise ConfigError("kernel", kernel, "must be odd, so that a filter has a centre", "use 3 or 5")
        check_dropout(dropout=dropout)

        layers: list[nn.Module] = []
        for size in blocks:
            # The shift of the batch norm would make a bias before it useless.
            layers.append(nn.Conv2d(depth, size, kernel, padding=kernel // 2, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(size))
            layers += [make_activation(activation, negative_slope), nn.MaxPool2d(2)]
            depth, height, width = size, height // 2, width // 2
        if dropout:
            layers.append(nn.Dropout(dropout))
        self.features = nn.Sequential(*layers)
        initialize(self.features, init)
        self.head = MLP(
            [depth, height, width], num_outputs, hidden, activation, negative_slope, dropout, batch_norm, init
        )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(inputs))
        return logits
