"""Groups of parameters with arguments or an optimizer of their own."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.errors import ConfigError
from mlprun.job.build_learner import build_plan, scheduled
from mlprun.job.build_optimizer import build_optimizer, group_lines
from mlprun.training.optimizer import GROUP_NAME

HERE = __name__
BODY = '+optim.groups.body={params:"0",lr:0.01}'
MATRICES = ["+optim@optim.groups.matrices=muon", "+optim.groups.matrices.ndim=2"]


class Counting(torch.optim.SGD):
    """Saves more than torch's optimizers do."""

    def state_dict(self):
        return {**super().state_dict(), "count": 1}


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


def config_of(*words: str):
    return check(Composer().compose(["batch_size=all", *words]))


def train(model: nn.Module, optimizer: torch.optim.Optimizer, num_steps: int = 3) -> nn.Module:
    inputs = torch.linspace(-1, 1, 32).reshape(8, 4)
    for _ in range(num_steps):
        optimizer.zero_grad()
        model(inputs).square().sum().backward()
        optimizer.step()
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("optim", ["adam", "adagrad", "momentum", "muon"])
def test_a_group_with_other_arguments_has_the_bits_of_torchs_own_groups(optim: str) -> None:
    grouped = network()
    optimizer = build_optimizer(config_of(f"optim={optim}", BODY), grouped)
    assert [group.get(GROUP_NAME) for group in optimizer.param_groups][-1] == "body"
    plain = network()
    config = config_of(f"optim={optim}")
    cls = type(build_optimizer(config, plain))
    node = {key: value for key, value in config.optim.items() if key != "_target_"}
    parts = [{"params": [*plain[2].parameters()]}, {"params": [*plain[0].parameters()], "lr": 0.01}]
    assert same(train(grouped, optimizer), train(plain, cls(parts, **node)))


def test_matrices_by_muon_and_the_rest_by_adamw_are_optim_muon() -> None:
    one, other = network(), network()
    shared = ["optim.lr=0.003", "optim.weight_decay=0.1"]
    train(one, build_optimizer(config_of("optim=adamw", *shared, *MATRICES), one))
    train(other, build_optimizer(config_of("optim=muon", *shared), other))
    assert same(one, other)


@pytest.mark.parametrize("words", [["optim=adagrad", BODY], ["optim=muon", BODY], ["optim=momentum", BODY, *MATRICES]])
def test_a_saved_optimizer_goes_on_with_the_same_bits(words: list[str]) -> None:
    whole, resumed = network(), network()
    optimizer = build_optimizer(config_of(*words), whole)
    train(whole, optimizer)
    state, weights = copy.deepcopy((optimizer.state_dict(), whole.state_dict()))
    resumed.load_state_dict(weights)
    again = build_optimizer(config_of(*words), resumed)
    again.load_state_dict(state)
    assert same(train(whole, optimizer), train(resumed, again))


def test_every_schedule_scales_each_group_from_its_own_rate() -> None:
    config = config_of("steps=4", "optim.lr=1.0", BODY, "scheduler=linear", "trainer.decay_all=false")
    rates = scheduled(config, network(), build_plan(config, steps_per_epoch=1), range(4))
    assert [[rate for rate, _ in step] for step in rates] == [
        pytest.approx([factor, factor, 0.01 * factor, 0.01 * factor]) for factor in (1, 0.75, 0.5, 0.25)
    ]


def test_the_first_group_that_matches_takes_a_parameter() -> None:
    config = config_of("trainer.freeze=[2.bias]", BODY, *MATRICES, "+optim.groups.late={params:['*'],lr:1,ndim:1}")
    plan = build_plan(config, steps_per_epoch=1)
    assert group_lines(config_of(), network(), plan) == []
    with pytest.raises(ConfigError, match="late: all its parameters are in the groups before it: body"):
        group_lines(config, network(), plan)
    config = config_of("trainer.freeze=[2.bias]", '+optim.groups.head={params:["2","0.bias"],lr:2,weight_decay:0.5}')
    assert group_lines(config, network(), plan) == [
        "head: lr 2, weight_decay 0.5; 9 parameters: 0.bias, 2.weight",
        "the others: 12 parameters: 0.weight",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+optim.groups.a.lr=1"], "optim.groups.a={lr:1}: does not say which parameters are in it"),
        (["+optim.groups.a.ndim=2"], "optim.groups.a={ndim:2}: has no argument of its own"),
        (["+optim.groups=1"], "optim.groups=1: must be groups of parameters by name"),
        (["+optim.groups.a=1"], "optim.groups.a=1: must be a group of parameters"),
        (["+optim.groups.a={params:[],lr:1}"], "optim.groups.a.params=[]: must be a pattern"),
        (["+optim.groups.a={params:1.0,lr:1}"], "optim.groups.a.params=1.0: must be a pattern"),
        (["+optim.groups.a={params:zero,lr:1}"], "optim.groups.a.params=zero: there is no parameter of that name"),
        (["+optim.groups.a={ndim:3,lr:1}"], "optim.groups.a.ndim=3: no parameter has so many dimensions"),
        (["+optim.groups.a={ndim:two,lr:1}"], "optim.groups.a.ndim=two: must be a whole number"),
        (["+optim.groups.a={ndim:2,lr:-1}"], "optim.groups.a.lr=-1: must be a finite number"),
        (["+optim.groups.a={ndim:2,lrr:1}"], "optim.groups.a.lrr=1: torch.optim.Adam takes no argument of that name"),
        (["+optim.groups.a={ndim:2,weight_decay:-1}"], "optim.groups.a: torch.optim.Adam: Invalid weight_decay value"),
        (["+optim.groups.a={ndim:2,_target_:torch.optim.Sgd}"], "did you mean 'torch.optim.SGD'?"),
        (["+optim.groups.a={ndim:2,_target_:torch.nn.ReLU}"], "optim.groups.a._target_=torch.nn.ReLU: "),
        (["+optim.groups.a={params:'*',lr:1}"], "optim.groups=a: take all trained parameters, and leave none to optim"),
        (["+optim.groups.a={params:'0',lr:1}", "trainer.freeze=['0']"], "all its parameters are frozen"),
        (["optim=lbfgs", BODY], "optim._target_=torch.optim.LBFGS: cannot be one of several optimizers"),
        (["+optim@optim.groups.a=lbfgs", "+optim.groups.a.ndim=2"], "optim.groups.a._target_=torch.optim.LBFGS: can"),
        ([f"+optim.groups.a={{ndim:2,_target_:{HERE}.Counting}}"], "its class has a state_dict of its own"),
        (["+optim@optim.groups.a=adm"], "optim=adm: there is no optim of that name"),
    ],
)  # fmt: skip
def test_what_is_no_group_is_refused(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_optimizer(config_of(*words), network())
    assert message in str(caught.value)
