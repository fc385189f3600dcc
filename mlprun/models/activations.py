"""Activation functions by name."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import nn

from mlprun.errors import ConfigError
from mlprun.models.arguments import check_choice

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
    """A new activation module: one of those above, or of the class `name`.

    Args:
        negative_slope: of `leaky_relu`; the others ignore it.
        key: argument to name in messages.
    """
    if isinstance(name, nn.Module):
        raise ConfigError(key, type(name).__name__, "is one module, and each layer needs its own")
    if callable(name):
        return name()
    check_choice(key, name, _ACTIVATIONS)
    if not isinstance(negative_slope, int | float) or not math.isfinite(negative_slope):
        raise ConfigError("negative_slope", negative_slope, "must be a finite number")
    return nn.LeakyReLU(negative_slope) if name == "leaky_relu" else _ACTIVATIONS[name]()
