"""Activations by their formulas, and those written by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from mlprun.models.activations import make_activation

ACTIVATIONS: list[tuple[str, Callable[[float], float]]] = [
    ("elu", lambda x: x if x > 0 else math.expm1(x)),
    ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
    ("identity", lambda x: x),
    ("leaky_relu", lambda x: x if x > 0 else 0.01 * x),
    ("relu", lambda x: max(x, 0.0)),
    ("sigmoid", lambda x: 1 / (1 + math.exp(-x))),
    ("silu", lambda x: x / (1 + math.exp(-x))),
    ("silu_by_hand", lambda x: x / (1 + math.exp(-x))),
    ("tanh", math.tanh),
]


@pytest.mark.parametrize(("name", "formula"), ACTIVATIONS)
def test_activations(name: str, formula: Callable[[float], float]) -> None:
    points = [-2.0, -0.5, 0.0, 0.5, 2.0]
    expected = torch.tensor([formula(x) for x in points])
    torch.testing.assert_close(make_activation(name)(torch.tensor(points)), expected)


def test_silu_by_hand_is_silu_in_values_and_gradients() -> None:
    points = torch.tensor([-1e4, -88.0, -5.0, -1.28, 0.0, 0.3, 5.0, 1e4])
    results = []
    for name in ("silu", "silu_by_hand"):
        inputs = points.clone().requires_grad_()
        outputs = make_activation(name)(inputs)
        outputs.sum().backward()
        results.append((outputs.detach(), inputs.grad))
    torch.testing.assert_close(results[0], results[1])


def test_the_gradient_written_out_for_silu_is_that_of_its_values() -> None:
    inputs = torch.linspace(-4, 4, 12, dtype=torch.float64).reshape(3, 4).requires_grad_()
    by_hand = make_activation("silu_by_hand")
    assert torch.autograd.gradcheck(by_hand, inputs)
    assert torch.autograd.gradgradcheck(by_hand, inputs)


def test_the_slope_of_leaky_relu_can_be_set() -> None:
    assert make_activation("leaky_relu", 0.2)(torch.tensor(-1.0)).item() == pytest.approx(-0.2)
