"""Activations by their formulas, and those that are given as a class."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mlprun.errors import ConfigError
from mlprun.models.activations import make_activation

ACTIVATIONS: list[tuple[str, Callable[[float], float]]] = [
    ("elu", lambda x: x if x > 0 else math.expm1(x)),
    ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    ("identity", lambda x: x),
    ("leaky_relu", lambda x: x if x > 0 else 0.01 * x),
    ("relu", lambda x: max(x, 0.0)),
    ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
    ("silu", lambda x: x / (1 + math.exp(-x))),
    ("tanh", math.tanh),
]


@pytest.mark.parametrize(("name", "formula"), ACTIVATIONS)
def test_activations(name: str, formula: Callable[[float], float]) -> None:
    points = [-2.0, -0.5, 0.0, 0.5, 2.0]
    expected = torch.tensor([formula(x) for x in points])
    torch.testing.assert_close(make_activation(name)(torch.tensor(points)), expected)


def test_the_slope_of_leaky_relu_can_be_set() -> None:
    assert make_activation("leaky_relu", 0.2)(torch.tensor(-1.0)).item() == pytest.approx(-0.2)


def test_an_activation_may_be_a_class() -> None:
    assert isinstance(make_activation(nn.Hardswish), nn.Hardswish)
    with pytest.raises(ConfigError, match="each layer needs its own"):
        make_activation(nn.Hardswish())
