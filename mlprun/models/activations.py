"""Activation functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from mlprun.errors import ConfigError, suggestion

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def make_activation(name: str, negative_slope: float = 0.01) -> nn.Module:
    """The activation called `name`, as a module that maps any shape to the same shape.

    Args:
        name: elu, gelu, identity, leaky_relu, relu, sigmoid, silu or tanh.
        negative_slope: what `leaky_relu` multiplies negative values by; the others do not use it.

    Raises:
        ConfigError: `activation` is not a known name, or `negative_slope` is not a finite number.
    """
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        remedy = suggestion(str(name), _ACTIVATIONS)
        raise ConfigError("activation", name, "there is no such activation", remedy)
    if not isinstance(negative_slope, int | float) or not math.isfinite(negative_slope):
        raise ConfigError("negative_slope", negative_slope, "must be a finite number")
    if name == "leaky_relu":
        return nn.LeakyReLU(negative_slope)
    return _ACTIVATIONS[name]()
