"""Linear models and multi-layer perceptrons, for inputs of any shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from mlprun.models.activations import Layer, make_activation
from mlprun.models.arguments import check_dropout, check_positive, check_sizes
from mlprun.models.initialize import initialize


class Linear(nn.Module):
    """Linear, logistic or softmax regression, depending on the loss: `outputs = x Wᵀ + b`.

    Maps (batch, *input_shape) floats, flattened, to (batch, num_outputs) floats. `init`: see `initialize`.
    """

    def __init__(self, input_shape: Sequence[int], num_outputs: int, init: str | float = "default") -> None:
        super().__init__()
        num_features = math.prod(check_sizes("input_shape", input_shape, at_least=1))
        check_positive(num_outputs=num_outputs)
        self.output = nn.Linear(num_features, num_outputs)
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.output(inputs.flatten(start_dim=1))
        return logits


class MLP(nn.Module):
    """A multi-layer perceptron: hidden blocks, one linear layer, and optionally `output_activation`.

    Maps (batch, *input_shape) floats, flattened, to (batch, num_outputs) floats. A hidden block is linear, batch
    norm, activation, dropout. `hidden=[]` is the model `Linear`.

    Args:
        input_shape: shape of one example, such as [4] or [1, 28, 28].
        hidden: width of each hidden layer, first to last.
        activation, negative_slope: see `make_activation`.
        dropout: probability of dropping a hidden value during training, in [0, 1); Srivastava et al. 2014.
        batch_norm: normalise each hidden layer over the batch; Ioffe & Szegedy 2015.
        init: see `initialize`.
        output_activation: name or class. `identity` gives logits or plain values; `sigmoid` gives numbers in (0, 1)
            for a squared error, as in Nielsen 2015.
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
        check_dropout(dropout=dropout)
        check_positive(num_outputs=num_outputs)
        make_activation(activation, negative_slope)  # a typo is an error even with hidden=[]
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
        self.output = nn.Linear(width, num_outputs)
        last = make_activation(output_activation, negative_slope, key="output_activation")
        self.output_activation = None if output_activation == "identity" else last
        initialize(self, init)

    def forward(self, inputs: Tensor) -> Tensor:
        outputs: Tensor = self.output(self.hidden(inputs.flatten(start_dim=1)))
        return outputs if self.output_activation is None else self.output_activation(outputs)
