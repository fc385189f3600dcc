"""Linear models and multi-layer perceptrons, for inputs of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.activations import Layer, make_activation
from mlprun.models.initialize import initialize


class Linear(nn.Module):
    """Linear, logistic or softmax regression, as the loss has it: `outputs = x Wᵀ + b`.

    Maps (batch, *input_shape) floats to (batch, num_outputs) floats; an input is flattened first.

    Args:
        input_shape: shape of one example, such as [4] or [1, 28, 28].
        num_outputs: number of classes, or of values to predict.
        init: initial weights, a name or a standard deviation, see `initialize`.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """

    def __init__(self, input_shape: Sequence[int], num_outputs: int, init: str | float = "default") -> None:
        super().__init__()
        num_features = math.prod(check_sizes("input_shape", input_shape, at_least=1))
        self.output = nn.Linear(num_features, check_size("num_outputs", num_outputs))
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, *input_shape) floats -> (batch, num_outputs) logits or predictions."""
        logits: Tensor = self.output(inputs.flatten(start_dim=1))
        return logits


class MLP(nn.Module):
    """A multi-layer perceptron: hidden blocks, one linear layer, and `output_activation` where there is one.

    Maps (batch, *input_shape) floats to (batch, num_outputs) floats; an input is flattened first. A hidden
    block is linear, batch norm, activation, dropout. `hidden=[]` is the model `Linear`.

    Args:
        input_shape: shape of one example, such as [4] or [1, 28, 28].
        num_outputs: number of classes, or of values to predict.
        hidden: width of each hidden layer, first to last.
        activation: name or class of the activation, see `make_activation`.
        negative_slope: slope of `leaky_relu` below zero.
        dropout: probability that a hidden value is dropped while training, in [0, 1); Srivastava et al. 2014.
        batch_norm: normalise each hidden layer over the batch; Ioffe & Szegedy 2015.
        init: initial weights, a name or a standard deviation, see `initialize`.
        output_activation: name or class of the activation after the last layer, see `make_activation`. `identity` gives
            logits or plain values; `sigmoid` gives numbers in (0, 1) for a squared error, as in Nielsen 2015.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        num_outputs: int,
        hidden: Sequence[int] = (128, 64),
        activation: str | Layer = "relu",
        negative_slope: float = 0.01,
        dropout: float = 0.0,
        batch_norm: bool = False,
        init: str | float = "default",
        output_activation: str | Layer = "identity",
    ) -> None:
        super().__init__()
        width = math.prod(check_sizes("input_shape", input_shape, at_least=1))
        check_dropout(dropout)
        make_activation(activation, negative_slope)  # a typo is an error also where hidden=[]
        layers: list[nn.Module] = []
        for size in check_sizes("hidden", hidden):
            # The shift of the batch norm would make a bias before it useless.
            layers.append(nn.Linear(width, size, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(size))
            layers.append(make_activation(activation, negative_slope))
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = size
        self.hidden = nn.Sequential(*layers)
        self.output = nn.Linear(width, check_size("num_outputs", num_outputs))
        last = make_activation(output_activation, negative_slope, key="output_activation")
        self.output_activation = None if output_activation == "identity" else last
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, *input_shape) floats -> (batch, num_outputs) logits, or what `output_activation` makes of them."""
        outputs: Tensor = self.output(self.hidden(inputs.flatten(start_dim=1)))
        return outputs if self.output_activation is None else self.output_activation(outputs)


def check_size(key: str, size: int) -> int:
    """`size` itself; ConfigError under `key` unless it is a positive whole number."""
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise ConfigError(key, size, "must be a positive whole number")
    return size


def check_sizes(key: str, sizes: Sequence[int], at_least: int = 0) -> tuple[int, ...]:
    """`sizes` as a tuple; ConfigError under `key` unless all are positive and there are enough of them."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        remedy = "the data do not tell it: write it, as [1,28,28]" if sizes is None else f"write {key}=[{sizes}]"
        raise ConfigError(key, sizes, "must be a list of sizes", remedy)
    shown = list(sizes)
    if len(shown) < at_least:
        raise ConfigError(key, shown, f"needs at least {at_least} size{'s' * (at_least > 1)}")
    for size in shown:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ConfigError(key, shown, f"{size!r} is not a size", "sizes are positive whole numbers")
    return tuple(shown)


def check_dropout(dropout: float, key: str = "dropout") -> None:
    """ConfigError under `key` unless `dropout` is a probability below 1."""
    if not isinstance(dropout, int | float) or not 0 <= dropout < 1:
        raise ConfigError(key, dropout, "must be a probability in [0, 1)", "0 switches dropout off")
