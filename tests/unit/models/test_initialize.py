"""Initial weights: their variance, their bounds, and that every layer is reached."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mlprun.models.cnn import CNN
from mlprun.models.initialize import initialize
from mlprun.models.mlp import MLP, Linear


def num_parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# A layer, its fan_in and its fan_out.
WIDE = [(lambda: nn.Linear(300, 200), 300, 200), (lambda: nn.Conv2d(16, 64, 3), 16 * 9, 64 * 9)]


@pytest.mark.parametrize(("layer", "fan_in", "fan_out"), WIDE, ids=["linear", "conv"])
@pytest.mark.parametrize(
    ("scheme", "variance"),
    [
        ("default", lambda fan_in, fan_out: 1 / (3 * fan_in)),
        ("xavier", lambda fan_in, fan_out: 2 / (fan_in + fan_out)),
        ("he", lambda fan_in, fan_out: 2 / fan_in),
        ("orthogonal", lambda fan_in, fan_out: 1 / fan_in),
        (0.05, lambda fan_in, fan_out: 0.05**2),
        ("0.05", lambda fan_in, fan_out: 0.05**2),
        (1, lambda fan_in, fan_out: 1.0),
        ("zeros", lambda fan_in, fan_out: 0.0),
    ],
)
def test_initial_weights_have_the_variance_of_their_scheme(
    layer: Callable[[], nn.Linear | nn.Conv2d],
    fan_in: int,
    fan_out: int,
    scheme: str | float,
    variance: Callable[[int, int], float],
) -> None:
    torch.manual_seed(0)
    module = layer()
    initialize(module, scheme)
    assert module.bias is not None
    assert module.weight.var().item() == pytest.approx(variance(fan_in, fan_out), rel=0.05)
    # four standard errors: a sound draw fails once in 16,000 seeds, and this seed does not
    spread = math.sqrt(variance(fan_in, fan_out) / module.weight.numel())
    assert module.weight.mean().item() == pytest.approx(0, abs=4 * spread)
    assert (module.bias == 0).all().item() is (scheme != "default")


def test_uniform_schemes_stay_in_their_bounds_and_normal_ones_do_not() -> None:
    torch.manual_seed(0)
    bounds = {"xavier": math.sqrt(6 / 500), "he": math.sqrt(6 / 300)}
    largest = {}
    for scheme in bounds:
        layer = nn.Linear(300, 200)
        initialize(layer, scheme)
        largest[scheme] = layer.weight.abs().max().item()
    assert 0.99 * bounds["xavier"] < largest["xavier"] <= bounds["xavier"]
    assert largest["he"] > bounds["he"]


@pytest.mark.parametrize(("inputs", "outputs"), [(30, 20), (20, 30), (20, 20)])
def test_an_orthogonal_matrix_keeps_lengths(inputs: int, outputs: int) -> None:
    layer = nn.Linear(inputs, outputs)
    initialize(layer, "orthogonal")
    weight = layer.weight if outputs <= inputs else layer.weight.T
    torch.testing.assert_close(weight @ weight.T, torch.eye(min(inputs, outputs)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "model",
    [
        Linear([4], 3, init="zeros"),
        MLP([4], 3, init="zeros"),
        CNN([1, 8, 8], 3, init="zeros", batch_norm=False),
    ],
)
def test_init_reaches_every_layer_of_a_model(model: nn.Module) -> None:
    assert num_parameters(model) > 0
    assert all((p == 0).all() for p in model.parameters())


def test_default_init_draws_what_pytorch_draws() -> None:
    torch.manual_seed(0)
    plain = nn.Linear(4, 3)
    torch.manual_seed(0)
    assert torch.equal(Linear([4], 3).output.weight, plain.weight)
