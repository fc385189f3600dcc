"""Initial values for the weights of linear and convolutional layers, by name or by standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from mlprun.errors import ConfigError, suggestion

_SCHEMES: dict[str, Callable[[Tensor], object]] = {
    "he": partial(nn.init.kaiming_normal_, mode="fan_in", nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
    "xavier": nn.init.xavier_uniform_,
    "zeros": nn.init.zeros_,
}


def initialize(module: nn.Module, scheme: str | float) -> None:
    """Draw new weights, in place, for every `nn.Linear` and `nn.Conv2d` inside `module`.

    All schemes but `default` set the biases to zero. `fan_in` and `fan_out` are the numbers of inputs
    and outputs of one unit (for a convolution: channels × kernel area). Random values come from the
    global torch generator, layer by layer in the order of `module.modules()`.

    - `default`: keep PyTorch's, U(-1/√fan_in, 1/√fan_in) for weights and biases.
    - a standard deviation such as `0.01`, also as text: N(0, 0.01²).
    - `xavier`: U(-a, a) with a = √(6 / (fan_in + fan_out)); Glorot & Bengio 2010, equation 16.
    - `he`: N(0, 2 / fan_in), meant for ReLU; He et al. 2015, equation 10.
    - `orthogonal`: orthonormal rows (columns, if there are more rows than columns) of the matrix (units, fan_in)
      that maps inputs to units; Saxe et al. 2014.
    - `zeros`: all zero. Hidden units then stay equal to each other: for lessons only.

    Raises:
        ConfigError: `init` is neither a known scheme nor a positive finite number.
    """
    if scheme == "default":
        return
    fill = _SCHEMES[scheme] if isinstance(scheme, str) and scheme in _SCHEMES else _normal(scheme)
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _normal(scheme: str | float) -> Callable[[Tensor], object]:
    try:
        std = math.nan if isinstance(scheme, bool) else float(scheme)
    except (TypeError, ValueError):
        remedy = suggestion(str(scheme), ["default", *_SCHEMES])
        raise ConfigError("init", scheme, "there is no such initialisation", remedy) from None
    if not 0 < std < math.inf:
        problem = "a standard deviation must be a positive number"
        raise ConfigError("init", scheme, problem, "0.01 is common; for 0 write init=zeros")
    return partial(nn.init.normal_, std=std)
