"""The average of a model's weights: its formula, what it covers, and where it is used."""

from __future__ import annotations

import copy
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.training.ema import WeightAverage
from tests.helpers.runs import through_a_file


class Model(nn.Module):
    """A batch norm, tied weights, and buffers of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Embedding(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 5)
        self.out.weight = self.embed.weight
        self.register_buffer("mask", torch.full((2, 2), -torch.inf).triu(1))
        self.register_buffer("calls", torch.tensor(0))
        self.register_buffer("memory", torch.zeros(4))

    def forward(self, ids: Tensor) -> Tensor:
        self.calls += 1
        self.memory = 0.5 * self.memory + self.embed(ids).detach().mean(0)  # a new tensor each time
        outputs: Tensor = self.out(self.norm(self.embed(ids)))
        return outputs


def train(model: nn.Module, average: WeightAverage, steps: range) -> list[dict[str, Tensor]]:
    """The state after each step."""
    optimizer, states = torch.optim.SGD(model.parameters(), lr=0.5), []
    for step in steps:
        optimizer.zero_grad()
        ids = torch.randint(0, 5, (8,), generator=torch.Generator().manual_seed(step))
        nn.functional.cross_entropy(model(ids), ids).backward()
        optimizer.step()
        average.update()
        states.append(copy.deepcopy(model.state_dict()))
    return states


def fresh(decay: float = 0.5) -> tuple[Model, WeightAverage]:
    torch.manual_seed(0)
    model = Model()
    return model, WeightAverage(model, decay)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_the_average_is_that_of_a_loop_by_hand(decay):
    model, average = fresh(decay)
    states = train(model, average, range(6))
    expected = states[0]
    for t, state in enumerate(states[1:], start=2):
        d = min(decay, (1 + t) / (10 + t))
        is_averaged = {name: value.is_floating_point() and name != "mask" for name, value in state.items()}
        expected = {n: torch.lerp(expected[n], value, 1 - d) if is_averaged[n] else value for n, value in state.items()}
    found = average.state_dict()
    assert all(torch.equal(found["model"][name], value) for name, value in expected.items())
    assert all(torch.equal(found["ema"]["raw_model"][name], value) for name, value in states[-1].items())
    assert found["model"]["calls"] == 6
    assert found["model"]["out.weight"].data_ptr() == found["model"]["embed.weight"].data_ptr()
    assert torch.equal(found["model"]["embed.weight"], states[-1]["embed.weight"]) is (decay == 0)


def test_the_weights_are_exchanged_for_a_block_whatever_happens_in_it():
    model, average = fresh()
    with average.applied():  # before the first step there is no average
        assert average.state_dict() == {}
    trained = train(model, average, range(3))[-1]
    averaged = average.state_dict()["model"]
    with suppress(KeyboardInterrupt), average.applied():
        with average.applied():
            assert all(torch.equal(value, averaged[name]) for name, value in model.state_dict().items())
        raise KeyboardInterrupt
    now = model.state_dict()
    assert all(torch.equal(now[name], trained[name]) for name in ("embed.weight", "out.bias", "mask"))
    assert torch.equal(average.state_dict()["model"]["embed.weight"], averaged["embed.weight"])


def test_it_goes_on_from_a_file_bit_by_bit():
    (whole, average), (again, resumed) = fresh(), fresh()
    train(whole, average, range(6))
    train(again, resumed, range(3))
    state = through_a_file(resumed.state_dict())
    torch.manual_seed(1)
    model = Model()
    model.load_state_dict(state["model"])
    resumed = WeightAverage(model, 0.5)
    resumed.load_state_dict(state)
    train(model, resumed, range(3, 6))
    ours, theirs = resumed.state_dict(), average.state_dict()
    for first, second in ((ours["model"], theirs["model"]), (ours["ema"]["raw_model"], theirs["ema"]["raw_model"])):
        assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_weights_of_few_bits_are_refused():
    with pytest.raises(ConfigError) as refused:
        WeightAverage(nn.Linear(2, 2).to(torch.bfloat16), 0.999)
    assert "trainer.ema=0.999: weight is bfloat16, in which small changes are lost" in str(refused.value)
