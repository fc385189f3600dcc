"""The schedules by formula, against torch's, and as the config's arguments make them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as torch_lr

from mlprun.config import durations
from mlprun.errors import ConfigError
from mlprun.training import schedules
from mlprun.training.schedule import FactorSchedule, Schedule, Steps, checked_arguments
from mlprun.training.schedules import (
    Plateau,
    constant,
    cosine,
    cosine_restarts,
    exp_range,
    inverse,
    linear,
    multistep,
    one_cycle,
    polynomial,
    range_test,
    step_decay,
    triangular,
    triangular2,
)
from tests.helpers.files import REPOSITORY
from tests.helpers.runs import through_a_file

LR = 0.5
Factor = Callable[..., float]


def make_optimizer(*rates: float) -> torch.optim.SGD:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates or (LR,)]
    return torch.optim.SGD(groups, lr=LR)


def rates(schedule: Schedule, steps: range) -> list[float]:
    optimizer, found = make_optimizer(1.0), []
    for step in steps:
        schedule.apply(optimizer, step)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def to_steps(key: str, value: object) -> int:
    return durations.parse(value, key=key).steps(steps_per_epoch=5, total_steps=40)


# ------------------------------------------------------------------------------------------------- functions

CYCLE = {"base_lr": 0.2 * LR, "max_lr": LR, "step_size_up": 6, "cycle_momentum": False}
ONE_CYCLE = {"max_lr": LR, "total_steps": 40, "div_factor": 5.0, "final_div_factor": 7.0, "cycle_momentum": False}
RESTARTS = torch_lr.CosineAnnealingWarmRestarts
SAME_AS_TORCH: list[tuple[Factor, tuple[Any, ...], Any, dict[str, Any]]] = [
    (step_decay, (10, 0.3), torch_lr.StepLR, {"step_size": 10, "gamma": 0.3}),
    (step_decay, (1, 0.9), torch_lr.ExponentialLR, {"gamma": 0.9}),
    (multistep, ([20, 5, 20], 0.3), torch_lr.MultiStepLR, {"milestones": [20, 5, 20], "gamma": 0.3}),
    (polynomial, (30, 2.5, 0.0), torch_lr.PolynomialLR, {"total_iters": 30, "power": 2.5}),
    (linear, (30, 1.0, 0.2), torch_lr.LinearLR, {"total_iters": 30, "start_factor": 1.0, "end_factor": 0.2}),
    (linear, (30, 0.1, 1.0), torch_lr.LinearLR, {"total_iters": 30, "start_factor": 0.1, "end_factor": 1.0}),
    (cosine, (39, 0.2), torch_lr.CosineAnnealingLR, {"T_max": 39, "eta_min": 0.2 * LR}),
    (cosine_restarts, (7, 1, 0.2), RESTARTS, {"T_0": 7, "T_mult": 1, "eta_min": 0.2 * LR}),
    (cosine_restarts, (3, 3, 0.0), RESTARTS, {"T_0": 3, "T_mult": 3}),
    (triangular, (6, 0.2), torch_lr.CyclicLR, {**CYCLE, "mode": "triangular"}),
    (triangular2, (6, 0.2), torch_lr.CyclicLR, {**CYCLE, "mode": "triangular2"}),
    (exp_range, (6, 0.2, 0.97), torch_lr.CyclicLR, {**CYCLE, "mode": "exp_range", "gamma": 0.97}),
    (one_cycle, (40, 12, 5.0, 7.0), torch_lr.OneCycleLR, {**ONE_CYCLE, "pct_start": 0.3}),
    (one_cycle, (40, 20, 5.0, 7.0), torch_lr.OneCycleLR, {**ONE_CYCLE, "pct_start": 0.5}),
]


@pytest.mark.parametrize(("factor", "arguments", "cls", "theirs"), SAME_AS_TORCH)
def test_equals_torch(factor: Factor, arguments: tuple[Any, ...], cls: Any, theirs: dict[str, Any]) -> None:
    optimizer = make_optimizer()
    scheduler = cls(optimizer, **theirs)
    for step in range(40):
        assert LR * factor(step, *arguments) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-12)
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize(
    ("factor", "arguments", "expected"),
    [
        (constant, (), {0: 1, 10**9: 1}),
        (step_decay, (10, 0.5), {9: 1, 10: 0.5}),
        (multistep, ([], 0.5), {100: 1}),
        (inverse, (10, 0.5), {0: 1, 20: 0.5}),
        (polynomial, (10, 2.0, 0.1), {5: 0.1 + 0.9 * 0.25, 11: 0.1}),
        (linear, (10, 1.0, 0.0), {11: 0}),
        (cosine, (10, 0.1), {10: 0.1, 10**6: 0.1}),
        (cosine_restarts, (10, 2, 0.1), {10: 1, 20: 0.55, 30: 1}),
        (triangular, (10, 0.25), {0: 0.25, 10: 1, 10**6 * 20 + 10: 1}),
        (triangular2, (10, 0.0), {30: 0.5}),
        (triangular2, (1, 0.0), {10**6 + 1: 0}),
        (one_cycle, (10, 3, 25, 1e4), {0: 1 / 25, 2: 1, 9: 1 / 25e4, 1000: 1 / 25e4}),
        (one_cycle, (10, 1, 25, 1e4), {0: 1}),
        (one_cycle, (10, 10, 25, 1e4), {9: 1}),
        (one_cycle, (1, 1, 25, 1e4), {0: 1}),
        (range_test, (7, 1e-6), {0: 1e-6, 1: 1e-5, 6: 1, 100: 1}),
        (range_test, (1, 1e-6), {0: 1}),
    ],
)
def test_by_hand(factor: Factor, arguments: tuple[Any, ...], expected: dict[int, float]) -> None:
    assert {step: factor(step, *arguments) for step in expected} == pytest.approx(expected, abs=1e-15)


LENGTH = st.integers(1, 10_000)
FRACTION = st.floats(0, 1)
GAMMA = st.floats(0, 1, exclude_min=True)
# With the step at which the factor is documented to be exactly 1, as a function of the first argument; None: nowhere.
DRAWN: list[tuple[Factor, tuple[Any, ...], Callable[[Any], int] | None]] = [
    (step_decay, (LENGTH, GAMMA), lambda _: 0),
    (multistep, (st.lists(LENGTH), GAMMA), lambda _: 0),
    (inverse, (LENGTH, st.floats(0, 1e300)), lambda _: 0),
    (polynomial, (LENGTH, st.floats(1e-3, 100), FRACTION), lambda _: 0),
    (linear, (LENGTH, st.just(1.0), FRACTION), lambda _: 0),
    (linear, (LENGTH, FRACTION, st.just(1.0)), lambda length: length),
    (cosine, (LENGTH, FRACTION), lambda _: 0),
    (cosine_restarts, (LENGTH, st.integers(1, 5), FRACTION), lambda _: 0),
    (triangular, (LENGTH, FRACTION), lambda step_size: step_size),
    (triangular2, (LENGTH, FRACTION), lambda step_size: step_size),
    (exp_range, (LENGTH, FRACTION, GAMMA), None),
    (range_test, (LENGTH, st.floats(1e-300, 1, exclude_max=True)), lambda length: length - 1),
]


@pytest.mark.parametrize(("factor", "arguments", "peak"), DRAWN)
def test_factor_is_a_fraction_and_its_peak_is_one(factor: Factor, arguments: Any, peak: Any) -> None:
    @settings(max_examples=30)
    @given(st.tuples(*arguments), st.integers(0, 10**7))
    def holds(drawn: tuple[Any, ...], step: int) -> None:
        assert 0 <= factor(step, *drawn) <= 1
        assert peak is None or factor(peak(drawn[0]), *drawn) == 1

    holds()


@given(LENGTH, LENGTH, st.floats(1, 1e6), st.floats(1, 1e6), st.integers(0, 10**7))
def test_one_cycle_is_a_fraction_and_its_peak_is_one(rise: int, fall: int, div: float, last: float, step: int) -> None:
    assert 0 <= one_cycle(step, rise + fall, rise, div, last) <= 1
    assert one_cycle(rise - 1, rise + fall, rise, div, last) == 1


# --------------------------------------------------------------------------------------------------- plateau


def plateau(
    patience: int = 0, gamma: float = 0.5, min_delta: float = 0.0, cooldown: int = 0, floor: float = 0.0
) -> Any:
    return Plateau(patience, gamma, min_delta, cooldown, floor)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize(("patience", "cooldown", "floor"), [(0, 0, 0.0), (2, 0, 0.0), (1, 3, 0.0), (1, 0, 0.2)])
def test_plateau_equals_torch(mode: Any, patience: int, cooldown: int, floor: float) -> None:
    values = torch.randint(-5, 5, (60,), generator=torch.Generator().manual_seed(1)).tolist()
    optimizer = make_optimizer()
    theirs = torch_lr.ReduceLROnPlateau(
        optimizer, mode, factor=0.5, patience=patience, threshold=1.5, threshold_mode="abs",
        cooldown=cooldown, min_lr=floor * LR, eps=0,
    )  # fmt: skip
    ours = plateau(patience, 0.5, 1.5, cooldown, floor)
    for step, value in enumerate(values):
        theirs.step(value)
        ours.observe(float(value), mode)
        assert LR * ours.factor(step) == pytest.approx(optimizer.param_groups[0]["lr"])
    assert ours.factor(0) < 1


def test_plateau_state_goes_on_where_it_was() -> None:
    values = [3.0, 2.0, 2.0, math.nan, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    whole, first, second = (plateau(patience=1, cooldown=1) for _ in range(3))
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
    ours = plateau()
    ours.observe(math.nan, "min")
    assert ours.factor(0) == 0.5
    ours.observe(1e9, "min")
    assert ours.factor(0) == 0.5


# ----------------------------------------------------------------------------------------- to the optimizer


def test_apply_scales_each_group_by_its_own_rate() -> None:
    optimizer = make_optimizer(0.5, 0.1)
    ours = FactorSchedule(cosine, length=10, min_factor=0.0)
    for step in (0, 5, 5, 2):  # a closed form may jump
        ours.apply(optimizer, step)
        factor = cosine(step, 10, 0.0)
        assert [g["lr"] for g in optimizer.param_groups] == [0.5 * factor, 0.1 * factor]


def test_a_resumed_optimizer_keeps_its_peak_rate() -> None:
    first, second = make_optimizer(), make_optimizer()
    ours = FactorSchedule(cosine, length=10, min_factor=0.0)
    ours.apply(first, 4)
    second.load_state_dict(through_a_file(first.state_dict()))
    ours.apply(second, 5)
    assert second.param_groups[0]["lr"] == pytest.approx(LR * cosine(5, 10, 0.0))


def test_warmup_rises_to_the_first_rate_and_then_the_schedule_begins() -> None:
    warm = FactorSchedule(step_decay, 3, period=2, gamma=0.5)
    assert rates(warm, range(7)) == [0.25, 0.5, 0.75, 1, 1, 0.5, 0.5]
    for function, arguments in ((triangular, (5, 0.1)), (one_cycle, (20, 6, 25.0, 1e4))):
        names = list(inspect.signature(function).parameters)[1:]
        rising = FactorSchedule(function, 3, **dict(zip(names, arguments, strict=True)))
        own = [function(step, *arguments) for step in range(10)]
        assert rates(rising, range(3)) == pytest.approx([own[0] / 4, own[0] / 2, own[0] * 3 / 4])
        assert rates(rising, range(3, 13)) == own


def test_what_a_plateau_lost_it_has_lost_during_the_warmup_too() -> None:
    ours = plateau()
    ours.warmup_steps = 2
    for _ in range(2):
        ours.observe(1.0, "min")
    assert rates(ours, range(3)) == pytest.approx([0.5 / 3, 0.5 * 2 / 3, 0.5])


# ------------------------------------------------------------------------------------- the config's arguments


class Old(FactorSchedule):
    """As users wrote one for version one."""

    LENGTHS = ("length",)

    def __init__(self, length: int, power: int) -> None:
        self.length, self.power = length, power

    def factor(self, step: int) -> float:
        return max(0.0, 1 - step / self.length) ** self.power


def own(step: int, length: Steps, power: float = 1.0) -> float:
    return max(0.0, 1 - step / length) ** power


def unreadable(step: int, power: Missing) -> float:  # noqa: F821  the name is to be missing
    return float(power)


@pytest.mark.parametrize(
    ("target", "arguments", "expected"),
    [
        (multistep, {"milestones": ["50%", "1 epoch"], "gamma": 1}, {"milestones": [20, 5], "gamma": 1}),
        (Old, {"length": "2 epochs", "power": 2}, {"length": 10, "power": 2}),
        (own, {"length": "100%"}, {"length": 40}),
        (unreadable, {"power": 2}, {"power": 2}),
    ],
)
def test_durations_become_steps(target: Any, arguments: dict[str, Any], expected: dict[str, Any]) -> None:
    assert checked_arguments(target, arguments, to_steps) == expected


@pytest.mark.parametrize(
    ("target", "key", "value", "message"),
    [
        (step_decay, "period", 10, "has no unit"),
        (step_decay, "period", "0 epochs", "must last at least one step"),
        (step_decay, "period", True, "is not a duration"),
        (multistep, "milestones", [0], "must last at least one step"),
        (step_decay, "gamma", 0, "must be in (0, 1]"),
        (step_decay, "gamma", 1.5, "must be in (0, 1]"),
        (step_decay, "gamma", "0.1", "must be a number"),
        (step_decay, "gamma", True, "must be a number"),
        (inverse, "decay", -1, "must be in [0, infinity)"),
        (inverse, "decay", math.inf, "must be a number"),
        (polynomial, "power", 0, "must be in (0, infinity)"),
        (polynomial, "min_factor", -0.1, "must be in [0, 1]"),
        (cosine, "min_factor", math.nan, "must be a number"),
        (linear, "end_factor", 2, "must be in [0, 1]"),
        (cosine_restarts, "period_mult", 1.5, "must be a whole number >= 1"),
        (cosine_restarts, "period_mult", 0, "must be a whole number >= 1"),
        (exp_range, "gamma", 2, "must be in (0, 1]"),
        (one_cycle, "div_factor", 0.5, "must be in [1, infinity)"),
        (range_test, "start_factor", 0, "must be in (0, 1)"),
        (range_test, "start_factor", 1, "must be in (0, 1)"),
        (Plateau, "patience", -1, "must be a whole number >= 0"),
        (Plateau, "gamma", 1, "must be in (0, 1)"),
        (Plateau, "min_delta", -1, "must be in [0, infinity)"),
        (Plateau, "cooldown", 0.5, "must be a whole number >= 0"),
        (Old, "length", 10, "has no unit"),
        (own, "length", 10, "has no unit"),
    ],
)
def test_a_bad_argument_is_refused(target: Any, key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_arguments(target, {key: value}, to_steps)
    assert caught.value.key == key
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("factor", "arguments", "key"),
    [
        (multistep, {"milestones": 5, "gamma": 0.1}, "milestones"),
        (linear, {"length": 1, "start_factor": 0.5, "end_factor": 0.1}, "start_factor"),
        (one_cycle, {"length": 5, "rise": 6, "div_factor": 25, "final_div_factor": 1}, "rise"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(factor: Factor, arguments: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        factor(0, **arguments)
    assert (caught.value.key, caught.value.value) == (key, arguments[key])


# -------------------------------------------------------------------------------------------------- the YAML

YAMLS = {file.stem: yaml.safe_load(file.read_text()) for file in (REPOSITORY / "conf" / "scheduler").glob("*.yaml")}
del YAMLS["custom"]


def named_by(node: dict[str, Any]) -> Any:
    return getattr(schedules, node["_target_"].removeprefix("mlprun.training.schedules."))


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_builds(name: str) -> None:
    node = YAMLS[name]
    given = {key: value for key, value in node.items() if key not in ("_target_", "warmup")}
    target, arguments = named_by(node), checked_arguments(named_by(node), given, to_steps)
    ours = Plateau(**arguments) if target is Plateau else FactorSchedule(target, **arguments)
    assert max(rates(ours, range(40))) == pytest.approx(1, abs=1e-3)
    assert ours.may_diverge is (name == "range_test")
    assert node["warmup"] == 0


def test_every_schedule_has_a_yaml() -> None:
    public = {found for name, found in vars(schedules).items() if inspect.isfunction(found) and name[0] != "_"}
    assert {named_by(node) for node in YAMLS.values()} == public | {Plateau}
