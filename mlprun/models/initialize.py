"""Named initial values for the weights of linear and convolutional layers."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from mlprun.errors import ConfigError, suggestion

_SCHEMES: dict[str, Callable[[Tensor, float], object]] = {
    "he": lambda weight, std: nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
    "normal": lambda weight, std: nn.init.normal_(weight, std=std),
    "xavier": lambda weight, std: nn.init.xavier_uniform_(weight),
    "zeros": lambda weight, std: nn.init.zeros_(weight),
}


def initialize(module: nn.Module, scheme: str, std: float = 0.01) -> None:
    """Draw new weights, in place, for every `nn.Linear` and `nn.Conv2d` inside `module`.

    All schemes but `default` set the biases to zero. `fan_in` and `fan_out` are the numbers of inputs
    and outputs of one unit (for a convolution: channels × kernel area). Random values come from the
    global torch generator, layer by layer in the order of `module.modules()`.

    - `default`: leave what PyTorch drew, U(-1/√fan_in, 1/√fan_in) for weights and biases.
    - `xavier`: U(-a, a) with a = √(6 / (fan_in + fan_out)); Glorot & Bengio 2010, equation 16.
    - `he`: N(0, 2 / fan_in), meant for ReLU; He et al. 2015, equation 10.
    - `normal`: N(0, std²).
    - `zeros`: all zero. Hidden units then stay equal to each other: a lesson, not a start.

    Args:
        module: the model, or a part of one.
        scheme: one of the names above.
        std: standard deviation for `normal`; the other schemes do not use it.

    Raises:
        ConfigError: `init` is not a known scheme, or `init_std` is not a positive finite number.
    """
    names = ["default", *_SCHEMES]
    if scheme not in names:
        problem = "there is no such initialisation"
        raise ConfigError("init", scheme, problem, suggestion(str(scheme), names))
    if not isinstance(std, int | float) or not (0 < std < math.inf):
        raise ConfigError("init_std", std, "must be a positive number", "0.01 is common; 0 is init=zeros")
    if scheme == "default":
        return
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            _SCHEMES[scheme](layer.weight, std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
