"""Activation functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError, suggestion


class SiLUByHand(nn.Module):
    """The SiLU, `x · σ(x)`, with its gradient written out: the values of `torch.nn.SiLU`.

    A pattern for a function of your own: a `torch.autograd.Function` with `forward` and `backward`, in a module
    that applies it. `torch.autograd.gradcheck` tells whether the two belong together.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Floats of any shape -> the same shape."""
        outputs: Tensor = _SiLUFunction.apply(inputs)
        return outputs


class _SiLUFunction(torch.autograd.Function):
    """`f(x) = x σ(x)` with `σ(x) = 1 / (1 + e⁻ˣ)`; Elfwing et al. 2018, equations 3 and 5.

    σ' = σ (1 - σ), so by the product rule f'(x) = σ(x) + x σ(x) (1 - σ(x)) = σ(x) (1 + x (1 - σ(x))).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """f(x), any shape; x is kept for the backward pass."""
        ctx.save_for_backward(x)
        return x * torch.sigmoid(x)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Tensor:
        """dL/dx = dL/df · f'(x), the chain rule; the shape of x.

        Made of operations that have gradients themselves, so there are second derivatives, too.
        """
        (x,) = ctx.saved_tensors
        sigmoid = torch.sigmoid(x)
        grad_input: Tensor = grad_output * sigmoid * (1 + x * (1 - sigmoid))
        return grad_input


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "silu_by_hand": SiLUByHand,
    "tanh": nn.Tanh,
}


def make_activation(name: str, negative_slope: float = 0.01, *, key: str = "activation") -> nn.Module:
    """The activation called `name`, as a module that maps any shape to the same shape.

    Args:
        name: elu, gelu, identity, leaky_relu, relu, sigmoid, silu, silu_by_hand or tanh.
        negative_slope: what `leaky_relu` multiplies negative values by; the others do not use it.
        key: the argument that holds the name, for messages.

    Raises:
        ConfigError: `activation` is not a known name, or `negative_slope` is not a finite number.
    """
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        remedy = suggestion(str(name), _ACTIVATIONS)
        raise ConfigError(key, name, "there is no such activation", remedy)
    if not isinstance(negative_slope, int | float) or not math.isfinite(negative_slope):
        raise ConfigError("negative_slope", negative_slope, "must be a finite number")
    if name == "leaky_relu":
        return nn.LeakyReLU(negative_slope)
    return _ACTIVATIONS[name]()
