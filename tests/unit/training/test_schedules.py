from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from mlprun.config import durations
from mlprun.errors import ConfigError
from mlprun.training import schedules
from mlprun.training.schedule import FactorSchedule, Warmup
from mlprun.training.schedules import (
    Constant,
    Cosine,
    CosineRestarts,
    ExpRange,
    Inverse,
    Linear,
    MultiStep,
    OneCycle,
    Plateau,
    Polynomial,
    RangeTest,
    Step,
    Triangular,
    Triangular2,
)
from mlprun.training.torch_schedules import TorchSchedule, lengths_in_steps
from tests.helpers.files import REPOSITORY
from tests.helpers.runs import through_a_file

LR = 0.5
YAMLS = sorted(file for file in (REPOSITORY / "conf" / "scheduler").glob("*.yaml") if file.stem != "custom")


def make_optimizer(*rates: float) -> torch.optim.SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates or (LR,)]
    return torch.optim.SGD(groups, lr=LR)


def rates_of_torch(cls: Callable[..., Any], num_steps: int, **arguments: Any) -> list[float]:
    optimizer = make_optimizer()
    scheduler = cls(optimizer, **arguments)
    rates = []
    for _ in range(num_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


ONE_CYCLE = {
    "max_lr": LR,
    "total_steps": 40,
    "div_factor": 5.0,
    "final_div_factor": 7.0,
    "cycle_momentum": False,
}
CYCLE = {"base_lr": 0.2 * LR, "max_lr": LR, "step_size_up": 6, "cycle_momentum": False}
SAME_AS_TORCH = [
    (Step(10, 0.3), torch_lr.StepLR, {"step_size": 10, "gamma": 0.3}),
    (Step(1, 0.9), torch_lr.ExponentialLR, {"gamma": 0.9}),
    (MultiStep([20, 5, 20], 0.3), torch_lr.MultiStepLR, {"milestones": [20, 5, 20], "gamma": 0.3}),
    (Polynomial(30, 2.5, 0.0), torch_lr.PolynomialLR, {"total_iters": 30, "power": 2.5}),
    (
        Linear(30, 1.0, 0.2),
        torch_lr.LinearLR,
        {"total_iters": 30, "start_factor": 1.0, "end_factor": 0.2},
    ),
    (
        Linear(30, 0.1, 1.0),
        torch_lr.LinearLR,
        {"total_iters": 30, "start_factor": 0.1, "end_factor": 1.0},
    ),
    (Cosine(39, 0.2), torch_lr.CosineAnnealingLR, {"T_max": 39, "eta_min": 0.2 * LR}),
    (
        CosineRestarts(7, 1, 0.2),
        torch_lr.CosineAnnealingWarmRestarts,
        {"T_0": 7, "T_mult": 1, "eta_min": 0.2 * LR},
    ),
    (
        CosineRestarts(3, 3, 0.0),
        torch_lr.CosineAnnealingWarmRestarts,
        {"T_0": 3, "T_mult": 3},
    ),
    (Triangular(6, 0.2), torch_lr.CyclicLR, {**CYCLE, "mode": "triangular"}),
    (Triangular2(6, 0.2), torch_lr.CyclicLR, {**CYCLE, "mode": "triangular2"}),
    (ExpRange(6, 0.2, 0.97), torch_lr.CyclicLR, {**CYCLE, "mode": "exp_range", "gamma": 0.97}),
    (OneCycle(40, 12, 5.0, 7.0), torch_lr.OneCycleLR, {**ONE_CYCLE, "pct_start": 0.3}),
    (OneCycle(40, 20, 5.0, 7.0), torch_lr.OneCycleLR, {**ONE_CYCLE, "pct_start": 0.5}),
]


@pytest.mark.parametrize(("ours", "cls", "arguments"), SAME_AS_TORCH, ids=lambda v: getattr(v, "__name__", None))
def test_equals_torch(ours: FactorSchedule, cls: type, arguments: dict[str, Any]) -> None:
    theirs = rates_of_torch(cls, 40, **arguments)
    assert [LR * ours.factor(step) for step in range(40)] == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown", "floor"), [(0, 0, 0.0), (2, 0, 0.0), (1, 3, 0.0), (1, 0, 0.2)])
def test_plateau_equals_torch(mode: Any, patience: int, cooldown: int, floor: float) -> None:
    generator = torch.Generator().manual_seed(1)
    values = torch.randint(-5, 5, (60,), generator=generator).tolist()
    optimizer = make_optimizer()
    theirs = torch_lr.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience, threshold=1.5, threshold_mode="abs",
        cooldown=cooldown, min_lr=floor * LR, eps=0,
    )  # fmt: skip
    ours = Plateau(patience, 0.5, 1.5, cooldown, floor)
    for step, value in enumerate(values):
        theirs.step(value)
        ours.observe(float(value), mode)
        assert LR * ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.factor(0) < 1


def test_plateau_state_goes_on_where_it_was() -> None:
    values = [3.0, 2.0, 2.0, math.nan, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    arguments: dict[str, Any] = {
        "patience": 1,
        "gamma": 0.5,
        "min_delta": 0.0,
        "cooldown": 1,
        "min_factor": 0.0,
    }
    whole, first, second = (Plateau(**arguments) for _ in range(3))
    for value in values:
        whole.observe(value, "min")
    for value in values[:4]:
        first.observe(value, "min")
    second.load_state_dict(through_a_file(first.state_dict()))
    for value in values[4:]:
        second.observe(value, "min")
    assert second.state_dict() == whole.state_dict()
    assert second.factor(0) == whole.factor(0) < 1


def test_nan_never_improves() -> None:
    plateau = Plateau(0, 0.5, 0.0, 0, 0.0)
    plateau.observe(math.nan, "min")
    assert plateau.factor(0) == 0.5
    plateau.observe(1e9, "min")
    assert plateau.factor(0) == 0.5


@pytest.mark.parametrize(
    ("ours", "step", "factor"),
    [
        (Constant(), 10**9, 1.0),
        (Step(10, 0.5), 9, 1.0),
        (Step(10, 0.5), 10, 0.5),
        (MultiStep([], 0.5), 100, 1.0),
        (Inverse(10, 0.5), 0, 1.0),
        (Inverse(10, 0.5), 20, 0.5),
        (Polynomial(10, 2.0, 0.1), 5, 0.1 + 0.9 * 0.25),
        (Polynomial(10, 2.0, 0.1), 11, 0.1),
        (Linear(10, 1.0, 0.0), 11, 0.0),
        (Cosine(10, 0.1), 10, 0.1),
        (Cosine(10, 0.1), 10**6, 0.1),
        (CosineRestarts(10, 2, 0.1), 10, 1.0),
        (CosineRestarts(10, 2, 0.1), 30, 1.0),
        (CosineRestarts(10, 2, 0.1), 20, 0.55),
        (Triangular(10, 0.25), 0, 0.25),
        (Triangular(10, 0.25), 10, 1.0),
        (Triangular(10, 0.25), 10**6 * 20 + 10, 1.0),
        (Triangular2(10, 0.0), 30, 0.5),
        (Triangular2(1, 0.0), 10**6 + 1, 0.0),
        (OneCycle(10, 3, 25, 1e4), 0, 1 / 25),
        (OneCycle(10, 3, 25, 1e4), 2, 1.0),
        (OneCycle(10, 3, 25, 1e4), 9, 1 / 25e4),
        (OneCycle(10, 3, 25, 1e4), 1000, 1 / 25e4),
        (OneCycle(10, 1, 25, 1e4), 0, 1.0),
        (OneCycle(10, 10, 25, 1e4), 9, 1.0),
        (OneCycle(1, 1, 25, 1e4), 0, 1.0),
        (RangeTest(7, 1e-6), 0, 1e-6),
        (RangeTest(7, 1e-6), 1, 1e-5),
        (RangeTest(7, 1e-6), 6, 1.0),
        (RangeTest(7, 1e-6), 100, 1.0),
        (RangeTest(1, 1e-6), 0, 1.0),
    ],
)
def test_by_hand(ours: FactorSchedule, step: int, factor: float) -> None:
    assert ours.factor(step) == pytest.approx(factor, abs=1e-15)


LENGTH = st.integers(1, 10_000)
FRACTION = st.floats(0, 1)
GAMMA = st.floats(0, 1, exclude_min=True)
# Each with the step at which the factor is documented to be exactly 1.
SCHEDULES = st.one_of(
    st.tuples(st.builds(Constant), st.just(0)),
    st.tuples(st.builds(Step, LENGTH, GAMMA), st.just(0)),
    st.tuples(st.builds(MultiStep, st.lists(LENGTH), GAMMA), st.just(0)),
    st.tuples(st.builds(Inverse, LENGTH, st.floats(0, 1e300)), st.just(0)),
    st.tuples(st.builds(Polynomial, LENGTH, st.floats(1e-3, 100), FRACTION), st.just(0)),
    st.tuples(st.builds(Linear, LENGTH, st.just(1.0), FRACTION), st.just(0)),
    st.tuples(st.builds(Cosine, LENGTH, FRACTION), st.just(0)),
    st.tuples(st.builds(CosineRestarts, LENGTH, st.integers(1, 5), FRACTION), st.just(0)),
    st.tuples(st.builds(ExpRange, LENGTH, FRACTION, GAMMA), st.none()),
    LENGTH.flatmap(lambda n: st.tuples(st.builds(Linear, st.just(n), FRACTION, st.just(1.0)), st.just(n))),
    LENGTH.flatmap(lambda n: st.tuples(st.builds(Triangular, st.just(n), FRACTION), st.just(n))),
    LENGTH.flatmap(lambda n: st.tuples(st.builds(Triangular2, st.just(n), FRACTION), st.just(n))),
    LENGTH.flatmap(
        lambda n: st.tuples(
            st.builds(OneCycle, st.integers(n, 20_000), st.just(n), st.floats(1, 1e6), st.floats(1, 1e6)),
            st.just(n - 1),
        )
    ),
    LENGTH.flatmap(
        lambda n: st.tuples(st.builds(RangeTest, st.just(n), st.floats(1e-300, 1, exclude_max=True)), st.just(n - 1))
    ),
)


@given(SCHEDULES, st.integers(0, 10**7))
def test_factor_is_a_fraction_and_its_peak_is_one(drawn: tuple[FactorSchedule, int | None], step: int) -> None:
    ours, peak = drawn
    assert 0 <= ours.factor(step) <= 1
    if peak is not None:
        assert ours.factor(peak) == 1


@pytest.mark.parametrize(
    ("cls", "arguments", "key"),
    [
        (Step, {"period": 0, "gamma": 0.1}, "period"),
        (Step, {"period": "10 epochs", "gamma": 0.1}, "period"),
        (Step, {"period": True, "gamma": 0.1}, "period"),
        (Step, {"period": 1, "gamma": 0}, "gamma"),
        (Step, {"period": 1, "gamma": 1.5}, "gamma"),
        (Step, {"period": 1, "gamma": "0.1"}, "gamma"),
        (MultiStep, {"milestones": "5 steps", "gamma": 0.1}, "milestones"),
        (MultiStep, {"milestones": [0], "gamma": 0.1}, "milestones"),
        (Inverse, {"period": 1, "decay": -1}, "decay"),
        (Inverse, {"period": 1, "decay": math.inf}, "decay"),
        (Polynomial, {"length": 1, "power": 0, "min_factor": 0}, "power"),
        (Polynomial, {"length": 1, "power": 1, "min_factor": -0.1}, "min_factor"),
        (Linear, {"length": 1, "start_factor": 0.5, "end_factor": 0.1}, "start_factor"),
        (Linear, {"length": 1, "start_factor": 1, "end_factor": 2}, "end_factor"),
        (Cosine, {"length": 0, "min_factor": 0}, "length"),
        (Cosine, {"length": 1, "min_factor": math.nan}, "min_factor"),
        (CosineRestarts, {"period": 1, "period_mult": 1.5, "min_factor": 0}, "period_mult"),
        (Triangular, {"step_size": -1, "min_factor": 0}, "step_size"),
        (ExpRange, {"step_size": 1, "min_factor": 0, "gamma": 2}, "gamma"),
        (OneCycle, {"length": 5, "rise": 6, "div_factor": 25, "final_div_factor": 1}, "rise"),
        (OneCycle, {"length": 5, "rise": 2, "div_factor": 0.5, "final_div_factor": 1}, "div_factor"),
        (RangeTest, {"length": 0, "start_factor": 0.1}, "length"),
        (RangeTest, {"length": 9, "start_factor": 0}, "start_factor"),
        (RangeTest, {"length": 9, "start_factor": 1}, "start_factor"),
        (Plateau, {"patience": -1}, "patience"),
        (Plateau, {"gamma": 1}, "gamma"),
        (Plateau, {"min_delta": -1}, "min_delta"),
        (Plateau, {"cooldown": 0.5}, "cooldown"),
    ],
)
def test_bad_arguments_name_their_key(cls: type, arguments: dict[str, Any], key: str) -> None:
    if cls is Plateau:
        arguments = {"patience": 1, "gamma": 0.5, "min_delta": 0, "cooldown": 0, "min_factor": 0, **arguments}
    with pytest.raises(ConfigError) as caught:
        cls(**arguments)
    assert caught.value.key == key
    assert str(caught.value.value) in str(arguments[key])


def test_apply_scales_each_group_by_its_own_rate() -> None:
    optimizer = make_optimizer(0.5, 0.1)
    cosine = Cosine(10, 0.0)
    for step in (0, 5, 5, 2):  # a closed form may jump
        cosine.apply(optimizer, step)
        factor = cosine.factor(step)
        assert [g["lr"] for g in optimizer.param_groups] == [0.5 * factor, 0.1 * factor]


def test_a_resumed_optimizer_keeps_its_peak_rate() -> None:
    first, second = make_optimizer(), make_optimizer()
    cosine = Cosine(10, 0.0)
    cosine.apply(first, 4)
    second.load_state_dict(through_a_file(first.state_dict()))
    cosine.apply(second, 5)
    assert second.param_groups[0]["lr"] == pytest.approx(LR * cosine.factor(5))


def test_warmup_rises_to_the_schedule() -> None:
    warm = Warmup(Step(2, 0.5), 3)
    assert [warm.factor(step) for step in range(7)] == [0.25, 0.5, 0.75, 1, 1, 0.5, 0.5]
    assert Warmup(Triangular(5, 0.1), 0).factor(5) == 1


def test_warmup_of_a_schedule_that_rises_by_itself_leads_to_its_start() -> None:
    for rising in (Triangular(5, 0.1), OneCycle(20, 6, 25.0, 1e4)):
        warm = Warmup(rising, 3)
        start = rising.factor(0)
        assert [warm.factor(s) for s in range(4)] == pytest.approx([start / 4, start / 2, start * 3 / 4, start])
        assert [warm.factor(s + 3) for s in range(10)] == [rising.factor(s) for s in range(10)]


def test_warmup_passes_evaluations_and_state_on() -> None:
    warm, other = (Warmup(Plateau(0, 0.5, 0.0, 0, 0.0), 2) for _ in range(2))
    for value in (1.0, 1.0):
        warm.observe(value, "min")
    other.load_state_dict(warm.state_dict())
    assert other.factor(2) == warm.factor(2) == 0.5
    assert warm.factor(0) == pytest.approx(0.5 / 3)  # what it lost, it has lost during the warmup too


# Torch's own schedulers ---------------------------------------------------------------------------


def to_steps(key: str, value: object) -> int:
    return durations.parse(value, key=key).steps(steps_per_epoch=5, total_steps=40)


TORCH = [
    (torch_lr.StepLR, {"step_size": "2 epochs"}),
    (torch_lr.MultiStepLR, {"milestones": ["2 epochs", "50%"]}),
    (torch_lr.ConstantLR, {"total_iters": "5 steps"}),
    (torch_lr.LinearLR, {"total_iters": "50%"}),
    (torch_lr.PolynomialLR, {"total_iters": "100%", "power": 2.0}),
    (torch_lr.CosineAnnealingLR, {"T_max": "100%"}),
    (torch_lr.CosineAnnealingWarmRestarts, {"T_0": "1 epoch", "T_mult": 2}),
    (
        torch_lr.CyclicLR,
        {"base_lr": 0.1, "max_lr": LR, "step_size_up": "1 epoch", "step_size_down": "2 epochs"},
    ),
    (torch_lr.CyclicLR, {"base_lr": 0.1, "max_lr": LR, "step_size_up": "1 epoch", "mode": "exp_range"}),
    (torch_lr.OneCycleLR, {"max_lr": LR, "total_steps": "100%"}),
    (torch_lr.LambdaLR, {"lr_lambda": lambda step: 1 / (step + 1)}),
    (torch_lr.MultiplicativeLR, {"lr_lambda": lambda step: 0.9}),
]


@pytest.mark.parametrize(("cls", "arguments"), TORCH, ids=lambda v: getattr(v, "__name__", None))
@pytest.mark.parametrize("warmup", [0, 4])
def test_torch_scheduler_is_stepped_once_an_update_also_after_a_resume(
    cls: Any, arguments: dict[str, Any], warmup: int
) -> None:
    arguments = lengths_in_steps(cls, arguments, to_steps)

    def build() -> tuple[torch.optim.Optimizer, TorchSchedule]:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
        return optimizer, TorchSchedule(cls(optimizer, **arguments), warmup)

    def train(optimizer: torch.optim.Optimizer, ours: TorchSchedule, steps: range) -> list[float]:
        rates = []
        for step in steps:
            ours.apply(optimizer, step)
            ours.apply(optimizer, step)  # again changes nothing
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        return rates

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = train(*build(), range(40))
        reference = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR, momentum=0.9)
        scheduler = cls(reference, **arguments)
        expected = []
        for _ in range(40 - warmup):
            expected.append(reference.param_groups[0]["lr"])
            reference.step()
            scheduler.step()
        rise = [expected[0] * (step + 1) / (warmup + 1) for step in range(warmup)]
        assert whole[:warmup] == pytest.approx(rise)
        assert whole[warmup:] == expected

        for stop in (2, 17):  # inside and after the warmup
            optimizer, ours = build()
            before = train(optimizer, ours, range(stop))
            state = through_a_file([optimizer.state_dict(), ours.state_dict()])
            optimizer, ours = build()
            optimizer.load_state_dict(state[0])
            ours.load_state_dict(state[1])
            assert before + train(optimizer, ours, range(stop, 40)) == whole


class Own(torch_lr.LRScheduler):
    """A user's scheduler, with a state of its own."""

    def __init__(self, optimizer: torch.optim.Optimizer, T_max: int, sharpness: int = 3) -> None:  # noqa: N803
        self.T_max = T_max
        self.sharpness = sharpness
        super().__init__(optimizer)


def test_a_users_torch_scheduler_gets_its_lengths_in_steps() -> None:
    assert lengths_in_steps(Own, {"T_max": "50%", "sharpness": 2}, to_steps) == {"T_max": 20, "sharpness": 2}


@pytest.mark.parametrize(
    ("cls", "arguments", "message"),
    [
        (torch_lr.StepLR, {"step_size": 10}, "step_size=10: has no unit\n  write '10 steps' or '10 epochs'"),
        (torch_lr.CosineAnnealingLR, {"T_max": 10}, "T_max=10: has no unit"),
        (torch_lr.CosineAnnealingWarmRestarts, {"T_0": 10}, "T_0=10: has no unit"),
        (torch_lr.OneCycleLR, {"max_lr": 1, "total_steps": 10}, "total_steps=10: has no unit"),
        (torch_lr.OneCycleLR, {"max_lr": 1}, "total_steps: is needed"),
        (torch_lr.OneCycleLR, {"max_lr": 1, "epochs": 10, "steps_per_epoch": 5}, "write total_steps='100%'"),
        (torch_lr.CyclicLR, {"base_lr": 0, "max_lr": 1}, "step_size_up: is needed: torch's default, 2000,"),
        (
            torch_lr.CyclicLR,
            {"step_size_up": "1 epoch", "step_size_down": 10},
            "step_size_down=10: has no unit",
        ),
        (torch_lr.MultiStepLR, {"milestones": ["1 epoch", 30]}, "milestones=30: has no unit"),
        (torch_lr.LinearLR, {}, "total_iters: is needed: torch's default, 5,"),
        (torch_lr.ConstantLR, {"total_iters": 5}, "total_iters=5: has no unit"),
        (torch_lr.PolynomialLR, {"total_iters": "0"}, "at least one step"),
        (torch_lr.StepLR, {"step_size": "1 epoch", "last_epoch": 3}, "last_epoch=3: is set by mlprun"),
        (torch_lr.ReduceLROnPlateau, {}, "write scheduler=plateau"),
        (torch_lr.ExponentialLR, {"gamma": 0.9}, "write scheduler=exponential"),
        (torch_lr.SequentialLR, {}, "write scheduler.warmup"),
        (Own, {"T_max": 10}, "T_max=10: has no unit"),
        (Step, {"period": 10, "gamma": 0.1}, "period=10: has no unit"),
        (Step, {"period": "0 epochs", "gamma": 0.1}, "at least one step"),
    ],
)
def test_lengths_without_a_unit_are_refused(cls: type, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        lengths_in_steps(cls, arguments, to_steps)
    assert message in str(caught.value)


# The YAML -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
def test_yaml_builds(path: Path) -> None:
    node = yaml.safe_load(path.read_text())
    cls = getattr(schedules, node.pop("_target_").removeprefix("mlprun.training.schedules."))
    assert node.pop("warmup") == 0
    ours = cls(**lengths_in_steps(cls, node, to_steps))
    assert max(ours.factor(step) for step in range(40)) == pytest.approx(1, abs=1e-3)


def test_every_schedule_has_a_yaml() -> None:
    used = {yaml.safe_load(path.read_text())["_target_"].rpartition(".")[2] for path in YAMLS}
    here = {
        name
        for name, cls in vars(schedules).items()
        if isinstance(cls, type) and issubclass(cls, FactorSchedule) and cls not in (FactorSchedule, Warmup)
    }
    assert used == here
