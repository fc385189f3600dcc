"""Initial values for the weights of linear and convolutional layers, by name or by standard deviation."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from mlprun.errors import ConfigError, suggestion

_SCHEMES: dict[str, Callable[[Tensor], object]] = {
    "he": lambda weight: nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
    "orthogonal": nn.init.orthogonal_,
    "xavier": nn.init.xavier_uniform_,
    "zeros": nn.init.zeros_,
}


def initialize(module: nn.Module, scheme: str | float) -> None:
    """Draw new weights, in place, for every `nn.Linear` and `nn.Conv2d` inside `module`.

    All schemes but `default` set the biases to zero. `fan_in` and `fan_out` are the numbers of inputs
    and outputs of one unit (for a convolution: channels × kernel area). Random values come from the
    global torch generator, layer by layer in the order of `module.modules()`.

    - `default`: leave what PyTorch drew, U(-1/√fan_in, 1/√fan_in) for weights and biases.
    - a number such as `0.01`, also as text: N(0, 0.01²).
    - `xavier`: U(-a, a) with a = √(6 / (fan_in + fan_out)); Glorot & Bengio 2010, equation 16.
    - `he`: N(0, 2 / fan_in), meant for ReLU; He et al. 2015, equation 10.
    - `orthogonal`: rows, or where there are more rows than columns, columns of length 1 at right angles to each
      other, in the matrix (units, fan_in) that maps the inputs to the units; Saxe et al. 2014.
    - `zeros`: all zero. Hidden units then stay equal to each other: a lesson, not a start.

    Args:
        module: the model, or a part of one.
        scheme: one of the names above, or a standard deviation.

    Raises:
        ConfigError: `init` is neither a known scheme nor a positive finite number.
    """
    fill = _filler(scheme)
    if fill is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            fill(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _filler(scheme: str | float) -> Callable[[Tensor], object] | None:
    """What fills a weight in place; None for `default`."""
    if scheme == "default":
        return None
    if isinstance(scheme, str) and scheme in _SCHEMES:
        return _SCHEMES[scheme]
    try:
        std = math.nan if isinstance(scheme, bool) else float(scheme)
    except (TypeError, ValueError):
        remedy = suggestion(str(scheme), ["default", *_SCHEMES])
        raise ConfigError("init", scheme, "there is no such initialisation", remedy) from None
    if not 0 < std < math.inf:
        problem = "a standard deviation must be a positive number"
        raise ConfigError("init", scheme, problem, "0.01 is common; for 0 write init=zeros")
    return lambda weight: nn.init.normal_(weight, std=std)
