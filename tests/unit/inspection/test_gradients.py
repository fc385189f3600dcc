"""Gradients against finite differences: what is wrong is named, a kink is not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlprun.data.nested import Batch
from mlprun.errors import ConfigError, RunError
from mlprun.inspection import gradients
from tests.helpers.tasks import make_task


def compared(model, criterion=None, inputs=None, targets=None):
    """The comparisons of a classifier of three classes on four examples of five features, by parameter."""
    inputs = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)) if inputs is None else inputs
    targets = torch.tensor([0, 1, 2, 0]) if targets is None else targets
    task = make_task(criterion or nn.CrossEntropyLoss(), "classification", 3, False)
    return {row.name: row for row in gradients.compare(model, task, Batch(inputs, targets), seed=0)}


def test_an_entry_at_a_kink_is_counted_and_not_called_wrong():
    layer = nn.Linear(5, 3)
    nn.init.zeros_(layer.bias)
    rows = compared(nn.Sequential(layer, nn.ReLU()), inputs=torch.zeros(4, 5))  # relu(0): its derivatives are 0 and 1
    assert (rows["0.bias"].num_kinks, rows["0.bias"].num_wrong) == (3, 0)
    assert (rows["0.weight"].num_kinks, rows["0.weight"].num_wrong) == (0, 0)


@pytest.mark.parametrize(("analytic", "found"), [(1.5, False), (2.5, True)])
def test_among_many_kinks_only_what_they_do_not_explain_is_wrong(analytic, found):
    """A deep network with ReLU and pooling: kinks lie nearer than any step; resnet18's first layer is so."""
    weight = torch.zeros(1, dtype=torch.float64)
    kinks = torch.tensor([2e-9, 3e-8, 4e-7, 5e-6, -3e-9], dtype=torch.float64)

    def loss():
        return 1.0 + 1.5 * float(weight) + float(0.05 * (weight - kinks).relu().sum()) - float(
            0.05 * (0 - kinks).relu().sum()
        )  # fmt: skip

    error = gradients._error(weight, (0,), analytic, loss, 1.0, 1e-5)
    assert (error is not None and error > gradients.TOLERANCE) == found


class Head(nn.Module):
    """A layer whose product goes through a function of the test's."""

    def __init__(self, function):
        super().__init__()
        self.layer, self.scale, self.function = nn.Linear(5, 3), nn.Parameter(torch.tensor(2.0)), function

    def forward(self, x):
        return self.function(self.layer(x)) * self.scale


@pytest.mark.parametrize(
    ("function", "wrong"),
    [
        (lambda x: x + torch.randn(x.shape), False),
        (lambda x: x * (torch.rand(3) < 0.5), False),
        (lambda x: x + torch.zeros(3).matmul(torch.zeros(3, 3)), False),
        (lambda x: x.detach() + 0 * x, True),
        (lambda x: x + (x.round() - x).detach(), True),  # a straight-through estimator
        (lambda x: 1.001 * x - (0.001 * x).detach(), True),
    ],
)
def test_noise_is_the_same_at_each_evaluation_and_a_small_error_is_found(function, wrong):
    rows = compared(Head(function))
    assert bool(rows["layer.weight"].num_wrong) == wrong
    assert rows["scale"].num_wrong == 0


def test_a_parameter_that_nothing_uses_is_said():
    rows = compared(Head(lambda x: torch.zeros_like(x)))
    assert not rows["layer.weight"].is_used
    assert (rows["layer.weight"].num_wrong, rows["scale"].num_wrong) == (0, 0)
    rows = compared(Head(lambda x: x.detach()))
    assert not rows["layer.weight"].is_used
    assert rows["layer.weight"].num_wrong > 0


def test_the_weights_and_buffers_and_generators_stay_as_they_were():
    model = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)).double()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    assert not any(row.num_wrong for row in compared(model).values())
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == torch.float32


def test_a_loss_that_is_no_function_of_the_weights_is_told():
    own = torch.Generator().manual_seed(0)
    with pytest.raises(ConfigError, match="at the same weights, seed and examples"):
        compared(Head(lambda x: x + torch.randn(3, generator=own)))
    with pytest.raises(RunError, match="the loss of the first weights is nan"):
        compared(Head(lambda x: x * float("nan")))


def test_a_few_entries_are_drawn_of_each_parameter_the_same_for_a_seed():
    rows = compared(nn.Linear(5, 3)), compared(nn.Linear(5, 3))
    assert [(row.name, row.num_entries) for row in rows[0].values()] == [("weight", 15), ("bias", 3)]
    assert compared(nn.Sequential(nn.Linear(5, 50), nn.Linear(50, 3)))["1.weight"].num_entries == gradients.ENTRIES
