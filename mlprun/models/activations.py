"""Activation functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from mlprun.errors import ConfigError, suggestion

Layer = Callable[[], nn.Module]
_ACTIVATIONS: dict[str, Layer] = {
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
    "leaky_relu": nn.LeakyReLU,
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}


def make_activation(name: str | Layer, negative_slope: float = 0.01, *, key: str = "activation") -> nn.Module:
    """The activation called `name`, as a module that maps any shape to the same shape.

    Args:
        name: elu, gelu, identity, leaky_relu, relu, sigmoid, silu or tanh; or a class of such modules.
        negative_slope: what `leaky_relu` multiplies negative values by; the others do not use it.
        key: the argument that holds the name, for messages.

    Raises:
        ConfigError: `activation` is not a known name, or `negative_slope` is not a finite number.
    """
    if isinstance(name, nn.Module):
        problem = "is one module, and each layer needs its own"
        raise ConfigError(key, type(name).__name__, problem, "write `_partial_: true` beside its `_target_`")
    if callable(name):
        return name()
    if not isinstance(name, str) or name not in _ACTIVATIONS:
        remedy = suggestion(str(name), _ACTIVATIONS)
        raise ConfigError(key, name, "there is no such activation", remedy)
    if not isinstance(negative_slope, int | float) or not math.isfinite(negative_slope):
        raise ConfigError("negative_slope", negative_slope, "must be a finite number")
    if name == "leaky_relu":
        return nn.LeakyReLU(negative_slope)
    return _ACTIVATIONS[name]()
