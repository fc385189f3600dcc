"""One optimizer step: what it equals, when it refuses, and that it continues bit by bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from mlprun.analysis.diff import compare_tensors
from mlprun.data.nested import Batch
from mlprun.errors import ConfigError, RunError
from mlprun.training import learner as learning
from mlprun.training.learner import Learner
from mlprun.training.muon import MuonWithAdamW
from mlprun.training.optimizer import needs_closure
from mlprun.training.schedule import FactorSchedule, Schedule
from mlprun.training.schedules import Plateau, constant, cosine
from mlprun.training.torch_schedules import TorchSchedule
from tests.helpers.runs import through_a_file
from tests.helpers.tasks import make_task

CPU = torch.device("cpu")
Optimizer = Callable[[Any], torch.optim.Optimizer]


def mlp(dropout: float = 0.0, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 16), *([nn.BatchNorm1d(16)] if norm else []), nn.Tanh(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Linear(16, 3))


def batch(count: int = 24, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 6, generator=generator)
    return Batch(inputs, torch.randint(0, 3, (count,), generator=generator))


BROKEN = Batch(torch.full((4, 6), torch.nan), torch.zeros(4, dtype=torch.int64))


def sgd(parameters: Any, lr: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=lr, momentum=0.9)


def learner(
    model: nn.Module | None = None,
    optimizer: Optimizer = sgd,
    schedule: Schedule | Callable[[torch.optim.Optimizer], Schedule] | None = None,
    reduction: str = "mean",
    **how: Any,
) -> Learner:
    model = mlp() if model is None else model
    built = optimizer(model.parameters())
    if schedule is not None and not isinstance(schedule, Schedule):
        schedule = schedule(built)
    task = make_task(nn.CrossEntropyLoss(reduction=reduction), "classification", 3, False)
    settings = {"seed": 0, **how}
    return Learner(model, task, built, schedule or FactorSchedule(constant), CPU, **settings)


def weights(of: Learner) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in of.model.state_dict().values()])


# ------------------------------------------------------------------------------------------------ one step


def test_a_step_is_the_textbooks():
    ours, theirs, data = learner(), mlp(), batch()
    optimizer = sgd(theirs.parameters())
    for step in range(3):
        told = ours.train_step(data, step)
        optimizer.zero_grad()
        outputs = theirs(data.inputs)
        loss = nn.functional.cross_entropy(outputs, data.targets)
        loss.backward()
        norm = torch.cat([p.grad.flatten() for p in theirs.parameters()]).norm()
        optimizer.step()
        assert told.loss == loss
        assert told.grad_norm == pytest.approx(norm.item(), rel=1e-6)
        assert (int(told.sums["accuracy"]), told.num_examples) == (int((outputs.argmax(1) == data.targets).sum()), 24)
    assert torch.equal(weights(ours), torch.cat([p.detach().flatten() for p in theirs.parameters()]))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("count", [24, 23, 5, 3], ids=lambda n: f"batch of {n}")
def test_accumulate_gives_the_large_batchs_weights(count, reduction):
    """Also where the micro-batches are uneven, and where there are fewer examples than micro-batches."""
    lr = 0.5 if reduction == "mean" else 0.02
    whole, parts = (
        learner(optimizer=lambda p: sgd(p, lr), reduction=reduction, accumulate=n, grad_clip=0.7) for n in (1, 4)
    )
    for step in range(5):
        one, four = whole.train_step(batch(count, step), step), parts.train_step(batch(count, step), step)
        assert four.loss.item() == pytest.approx(one.loss.item(), rel=1e-6)
        assert four.grad_norm.item() == pytest.approx(one.grad_norm.item(), rel=1e-5)
        assert (int(four.sums["accuracy"]), four.num_examples) == (int(one.sums["accuracy"]), one.num_examples)
    assert not torch.allclose(weights(whole), weights(learner()), atol=1e-2)
    assert torch.allclose(weights(whole), weights(parts), rtol=0, atol=1e-6)


def test_grad_clip_bounds_the_step_and_reports_the_norm_before():
    clipped, free = (learner(optimizer=lambda p: torch.optim.SGD(p, lr=1.0), grad_clip=c) for c in (0.01, None))
    start = weights(clipped)
    one, other = clipped.train_step(batch(), 0), free.train_step(batch(), 0)
    assert one.grad_norm == other.grad_norm > 0.1
    moved = weights(clipped) - start
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)
    direction = weights(free) - start
    assert torch.allclose(moved / moved.norm(), direction / direction.norm(), atol=1e-4)
    gentle = learner(grad_clip=1e6)
    plain = learner()
    gentle.train_step(batch(), 0), plain.train_step(batch(), 0)
    assert torch.equal(weights(gentle), weights(plain))


def test_the_schedule_sets_the_rate_of_each_step():
    scheduled, rates = learner(schedule=FactorSchedule(cosine, 2, length=4, min_factor=0.0)), []
    for step in range(6):
        scheduled.train_step(batch(), step)
        rates.append(scheduled.lr)
    falling = [0.5 * (1 + math.cos(math.pi * s / 4)) / 2 for s in range(4)]
    assert rates == pytest.approx([0.5 / 3, 1 / 3, *falling])


def test_lbfgs_finds_the_optimum_of_a_softmax_regression():
    def lbfgs(parameters):
        return torch.optim.LBFGS(parameters, lr=1.0, line_search_fn="strong_wolfe")

    torch.manual_seed(0)
    found = learner(nn.Linear(6, 3), lbfgs)
    losses = [found.train_step(batch(60), step).loss.item() for step in range(8)]
    assert losses == sorted(losses, reverse=True)
    last = found.train_step(batch(60), 8)
    assert last.grad_norm < 1e-4  # convex: a vanishing gradient is the optimum


class Midpoint(torch.optim.Optimizer):
    """A user's optimizer whose step is along the gradient half a step ahead, so it needs the loss twice."""

    def __init__(self, parameters: Any, lr: float) -> None:
        super().__init__(parameters, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], torch.Tensor]) -> torch.Tensor:
        group = self.param_groups[0]
        start = [p.clone() for p in group["params"]]
        for share in (0.5, 1.0):
            with torch.enable_grad():
                loss = closure()
            for p, old in zip(group["params"], start, strict=True):
                p.copy_(old - share * group["lr"] * p.grad)
        return loss


class NeverCalls(torch.optim.SGD):
    def step(self, closure: Callable[[], torch.Tensor]) -> None:
        super().step()


def test_an_optimizer_that_never_calls_its_closure_is_refused():
    idle = learner(mlp(), lambda p: NeverCalls(p, lr=0.1))
    with pytest.raises(ConfigError, match=r"NeverCalls: requires a closure in step\(\) but never calls it"):
        idle.train_step(batch(), 0)


class Swallowing(torch.optim.SGD):
    def step(self, *args: Any, **kwargs: Any) -> Any:
        return super().step(*args, **kwargs)


@pytest.mark.parametrize(
    ("optimizer", "needed"),
    [(torch.optim.SGD, False), (torch.optim.Adam, False), (torch.optim.LBFGS, True), (MuonWithAdamW, False),
     (Midpoint, True), (Swallowing, False)],
)  # fmt: skip
def test_the_signature_of_step_says_who_needs_a_closure(optimizer, needed):
    built = optimizer(mlp().parameters(), lr=0.1)
    assert needs_closure(built) is needed
    torch.optim.lr_scheduler.StepLR(built, 1)  # wraps the optimizer's step
    assert needs_closure(built) is needed


def test_a_users_optimizer_gets_the_closure_that_it_requires():
    updated, again = learner(optimizer=lambda p: Midpoint(p, 0.5)), learner()
    loss = nn.CrossEntropyLoss()
    with torch.no_grad():
        for share in (0.5, 1.0):
            grads = torch.func.grad(
                lambda w: loss(torch.func.functional_call(again.model, w, batch().inputs), batch().targets)
            )(dict(again.model.named_parameters()))
            for p, start, grad in zip(again.model.parameters(), mlp().parameters(), grads.values(), strict=True):
                p.copy_(start - share * 0.5 * grad)
    assert updated.train_step(batch(), 0).applied
    torch.testing.assert_close(weights(updated), weights(again))


# ------------------------------------------------------------------------------------------- not finite


def lbfgs(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.LBFGS(parameters, lr=0.1, max_iter=3)


@pytest.mark.parametrize("optimizer", [sgd, lbfgs])
def test_a_step_that_is_not_finite_stops_before_the_weights_change(optimizer):
    stopped = learner(optimizer=optimizer)
    stopped.train_step(batch(), 0)
    before = weights(stopped)
    with pytest.raises(RunError) as stop:
        stopped.train_step(BROKEN, 1)
    assert torch.equal(weights(stopped), before)
    message = str(stop.value)
    assert message.startswith(
        "step 1: loss or gradient is not finite (loss nan, gradient norm nan); step 0 still had loss 1."
    )
    assert "data: inputs of this batch are NaN" in message
    assert "trainer.on_nan=skip" in message


def test_an_infinite_gradient_behind_a_finite_loss_stops_too():
    class Root(nn.Module):
        """The square root of 0: a finite value with an infinite slope."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs[:, :3] * 0 + self.weight.sqrt()

    stopped = learner(Root())
    with pytest.raises(
        RunError, match=r"step 7: loss or gradient is not finite \(loss 1.09861, gradient norm (inf|nan)\)"
    ):
        stopped.train_step(batch(), 7)
    assert torch.equal(weights(stopped), torch.zeros(3))


@pytest.mark.parametrize("optimizer", [sgd, lbfgs])
def test_skip_passes_over_bad_steps(optimizer):
    """The good steps are as if the bad one had not been there."""
    skipping, spared = learner(optimizer=optimizer, on_nan="skip"), learner(optimizer=optimizer)
    for step in (0, 1, 2, 3):
        told = skipping.train_step(BROKEN if step == 2 else batch(seed=step), step)
        assert math.isnan(told.loss) is (step == 2)
        if step != 2:
            spared.train_step(batch(seed=step), step)
    assert torch.equal(weights(skipping), weights(spared))


def test_skip_gives_up_after_too_many_in_a_row(monkeypatch):
    monkeypatch.setattr(learning, "MAX_SKIPPED", 5)
    skipping = learner(on_nan="skip")
    for step in range(20):  # a good step between them starts the count anew
        skipping.train_step(BROKEN if step % 5 else batch(), step)
    skipping.train_step(BROKEN, 20)
    with pytest.raises(RunError, match=r"5 steps in a row .* the last one step 21"):
        skipping.train_step(BROKEN, 21)


# -------------------------------------------------------------------------------- continuing, bit by bit


def plateau() -> Schedule:
    return Plateau(patience=0, gamma=0.5, min_delta=0.0, cooldown=0, min_factor=0.0)


def muon(parameters: Any) -> torch.optim.Optimizer:
    return MuonWithAdamW(parameters, lr=0.02)


CONTINUED: dict[str, dict[str, Any]] = {
    "momentum": {},
    "adam": {"optimizer": lambda p: torch.optim.Adam(p, lr=0.01)},
    "amsgrad": {"optimizer": lambda p: torch.optim.AdamW(p, lr=0.01, amsgrad=True)},
    "rmsprop": {"optimizer": lambda p: torch.optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5)},
    "nadam": {"optimizer": lambda p: torch.optim.NAdam(p, lr=0.01)},
    "muon": {"optimizer": muon},
    "lbfgs": {"optimizer": lbfgs},
    "batch norm": {"norm": True},
    "average": {"norm": True, "ema": 0.9},
    "average, lbfgs": {"optimizer": lbfgs, "ema": 0.9},
    "bf16": {"precision": "bf16"},
    "accumulate": {"accumulate": 3, "grad_clip": 0.5},
    "cosine": {"schedule": lambda _: FactorSchedule(cosine, 1, length=6, min_factor=0.01)},
    "plateau": {"schedule": lambda _: plateau(), "optimizer": lambda p: torch.optim.Adam(p, lr=0.01)},
    "torch's schedule": {"schedule": lambda o: TorchSchedule(torch.optim.lr_scheduler.CyclicLR(o, 0.01, 0.1, 2), 1)},
}


@pytest.mark.parametrize("case", CONTINUED)
def test_continuing_gives_the_same_bits(case):
    """Steps 0-5, against a learner of its own that starts from the state after 3; dropout in all of them."""
    how = dict(CONTINUED[case])
    norm = how.pop("norm", False)

    def fresh() -> Learner:
        return learner(mlp(0.5, norm), **how)

    def train(of: Learner, steps: range) -> None:
        of.model.train()
        for step in steps:
            of.train_step(batch(seed=step), step)
            of.schedule.observe(float(step), "min")  # ever worse, for the plateau

    whole, first = fresh(), fresh()
    train(whole, range(6))
    train(first, range(3))
    state = through_a_file(first.state_dict())
    resumed = fresh()
    torch.rand(9)  # the global generators are elsewhere by now
    resumed.load_state_dict(state)
    train(resumed, range(3, 6))
    assert compare_tensors(resumed.state_dict(), whole.state_dict()) == []
    assert resumed.lr == whole.lr
    if case in ("cosine", "plateau"):
        assert resumed.lr != first.optimizer.param_groups[0]["initial_lr"]


def test_a_skipped_step_is_in_no_average():
    skipping, spared = (learner(mlp(norm=True), on_nan="skip", ema=0.5) for _ in range(2))
    for step in (0, 1, 2, 3):
        skipping.train_step(BROKEN if step == 2 else batch(seed=step), step)
        if step != 2:
            spared.train_step(batch(seed=step), step)
    ours, theirs = skipping.state_dict(), spared.state_dict()
    assert ours["ema"]["num_updates"] == 3
    assert compare_tensors([ours["model"], ours["ema"]], [theirs["model"], theirs["ema"]]) == []


@pytest.mark.parametrize("ema", [None, 0.5])
def test_weights_that_are_not_finite_are_found_behind_an_average(ema):
    """The average after a step lies between the weights, and would be the last to show it."""
    diverging = learner(optimizer=lambda p: torch.optim.SGD(p, lr=0.1), ema=ema)
    diverging.train_step(batch(), 0)
    with torch.no_grad():
        diverging.model[0].weight[0, 0] = torch.inf
    with pytest.raises(RunError, match="step 0"):
        diverging.check_finite()


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32():
    seen = []
    model = mlp()
    model[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
    low = learner(model, precision="bf16")
    low.train_step(batch(), 0)
    low.evaluate([batch()])
    assert seen == [torch.bfloat16] * 2
    assert {p.dtype for p in model.parameters()} == {torch.float32}


# ----------------------------------------------------------------------------------------- evaluation


def test_evaluate_touches_nothing():
    evaluated = learner(mlp(0.5, norm=True))
    evaluated.model.train()
    evaluated.train_step(batch(), 0)
    before, state = weights(evaluated), torch.get_rng_state()
    scores = [evaluated.evaluate([batch(), batch(7, 1)]).compute() for _ in range(2)]
    assert scores[0] == scores[1]  # no dropout
    assert evaluated.model.training
    assert torch.equal(weights(evaluated), before)  # running means of the batch norm included
    assert torch.equal(torch.get_rng_state(), state)
    evaluated.model.eval()
    evaluated.evaluate([batch()])
    assert not evaluated.model.training


def test_a_model_that_keeps_a_layer_at_rest_is_asked():
    """Fine-tuning with a frozen batch norm overrides `train`, and evaluation goes through it."""

    class Frozen(nn.Sequential):
        def train(self, mode: bool = True) -> nn.Module:
            super().train(mode)
            self[1].eval()
            return self

    model = Frozen(*mlp(norm=True)).train()
    learner(model).evaluate([batch()])
    assert [m.training for m in model] == [True, False, True, True, True]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_evaluate_averages_by_example(reduction):
    data = batch(50)
    pieces = [Batch(i, t) for i, t in zip(data.inputs.split(16), data.targets.split(16), strict=True)]
    evaluated = learner(reduction=reduction)
    outputs = evaluated.model(data.inputs)
    values = evaluated.evaluate(pieces).compute()
    assert values["loss"] == pytest.approx(nn.functional.cross_entropy(outputs, data.targets).item(), rel=1e-6)
    assert values["accuracy"] == (outputs.argmax(1) == data.targets).double().mean().item()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_on_a_gpu_the_first_bad_step_is_named_at_the_next_check(precision):
    cuda = torch.device("cuda")
    model = mlp().to(cuda)
    task = make_task(nn.CrossEntropyLoss(), "classification", 3, False)
    remote = Learner(
        model, task, sgd(model.parameters(), 0.1), FactorSchedule(constant), cuda,
        seed=0, precision=precision,
    )  # fmt: skip
    for step in range(5):
        data = BROKEN if step >= 3 else batch()
        remote.train_step(Batch(data.inputs.to(cuda), data.targets.to(cuda)), step)
        if step == 2:
            remote.check_finite()
    with pytest.raises(RunError, match="step 3: not finite"):
        remote.check_finite()
