"""Tokens that do not count are in no loss, metric or gradient."""

from __future__ import annotations

import math
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.data.nested import Batch
from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError, DataError
from mlprun.training.learner import Learner
from mlprun.training.schedule import FactorSchedule
from mlprun.training.schedules import constant
from tests.helpers.sequences import CLASSES, CPU, LENGTH
from tests.helpers.tasks import evaluate, make_task


def told() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(6, LENGTH, CLASSES, generator=generator)
    targets = torch.randint(CLASSES, (6, LENGTH), generator=generator)
    hidden = torch.rand(targets.shape, generator=generator) < 0.6
    hidden[:, 0] = False
    return outputs, targets.masked_fill(hidden, IGNORED)


@pytest.mark.parametrize("weight", [None, torch.arange(1.0, CLASSES + 1)], ids=["plain", "class weights"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_loss_and_metrics_are_those_of_the_tokens_that_count(reduction, weight):
    outputs, targets = told()
    kept = targets != IGNORED
    task = make_task(nn.CrossEntropyLoss(weight=weight, reduction=reduction), "token_classification", CLASSES, False)
    alone = F.cross_entropy(outputs[kept], targets[kept], weight=weight, reduction=reduction)
    assert task.loss(outputs, targets).item() == pytest.approx(alone.item(), rel=1e-6)
    # an uneven last batch weighs what it holds
    found = evaluate(task, [(outputs[some], targets[some]) for some in (slice(0, 1), slice(1, 6))]).compute()
    if reduction == "mean":
        assert found["loss"] == pytest.approx(alone.item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((outputs[kept].argmax(1) == targets[kept]).float().mean().item())


def test_a_sum_over_tokens_is_shown_as_a_mean_over_tokens():
    outputs, targets = told()
    task = make_task(nn.CrossEntropyLoss(reduction="sum"), "language_modeling", CLASSES, False)
    metrics = evaluate(task, [(outputs, targets)])
    mean = F.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    assert metrics.compute()["loss"] == pytest.approx(mean.item(), rel=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.3}, {"weight": torch.arange(1.0, CLASSES + 1)}])
def test_perplexity_is_of_the_cross_entropy_whatever_is_learnt(settings, reduction):
    """So runs with and without smoothed labels compare."""
    outputs, targets = told()
    kept = targets != IGNORED
    of = learner(criterion=nn.CrossEntropyLoss(**settings, reduction=reduction))
    of.model.forward = lambda ids: outputs[ids]
    batches = [Batch(torch.arange(6)[some], targets[some]) for some in (slice(0, 1), slice(1, 6))]
    plain = F.cross_entropy(outputs[kept], targets[kept])
    assert of.evaluate(batches).compute()["perplexity"] == pytest.approx(plain.exp().item(), rel=1e-6)


class Guess(nn.Module):
    """Logits of each token from itself."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(CLASSES + 1, CLASSES)

    def forward(self, ids: Tensor) -> Tensor:
        return self.table(ids)


def learner(accumulate: int = 1, criterion: nn.Module | None = None) -> Learner:
    model = Guess()
    task = make_task(criterion or nn.CrossEntropyLoss(), "token_classification", CLASSES, False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return Learner(
        model, task, optimizer, FactorSchedule(constant), CPU, seed=0,
        accumulate=accumulate,
    )  # fmt: skip


def test_accumulated_parts_weigh_the_tokens_that_they_count():
    _, targets = told()
    batch = Batch(torch.randint(CLASSES + 1, targets.shape, generator=torch.Generator().manual_seed(1)), targets)
    whole, parts = learner(), learner(accumulate=3)
    one, three = whole.train_step(batch, 0), parts.train_step(batch, 0)
    assert three.loss.item() == pytest.approx(one.loss.item(), rel=1e-6)
    assert int(three.sums["accuracy"]) == int(one.sums["accuracy"])
    assert int(one.num_targets) == int((targets != IGNORED).sum())
    torch.testing.assert_close(parts.model.table.weight, whole.model.table.weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"weight": torch.arange(1.0, CLASSES + 1)}, {"label_smoothing": 0.1}])
def test_sentences_with_nothing_to_tell_change_nothing(settings):
    outputs, targets = told()
    nothing = torch.full_like(targets, IGNORED)
    task = make_task(nn.CrossEntropyLoss(**settings), "token_classification", CLASSES, False)
    alone, beside = (evaluate(task, [(outputs, t) for t in some]) for some in ([targets], [nothing, targets, nothing]))
    assert math.isfinite(beside.compute()["loss"])
    assert beside.compute() == alone.compute()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_with_nothing_to_tell_leaves_the_weights(accumulate):
    ids = torch.ones(2, 3, dtype=torch.int64)
    of = learner(accumulate)
    before = of.model.table.weight.clone()
    update = of.train_step(Batch(ids, torch.full_like(ids, IGNORED)), 0)
    assert update.loss.item() == 0
    assert torch.equal(of.model.table.weight, before)


def test_a_micro_batch_with_nothing_to_tell_leaves_the_others_as_they_are():
    ids, targets = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, IGNORED], [IGNORED, IGNORED]])
    whole, parts = learner(), learner(accumulate=2)
    assert parts.train_step(Batch(ids, targets), 0).loss.item() == whole.train_step(Batch(ids, targets), 0).loss.item()
    assert torch.equal(parts.model.table.weight, whole.model.table.weight)


class Alone(Guess):
    """Does not work while its last outputs are still held."""

    last = staticmethod(lambda: None)

    def forward(self, ids: Tensor) -> Tensor:
        assert self.last() is None
        outputs = super().forward(ids)
        self.last = weakref.ref(outputs)
        return outputs


def test_accumulated_parts_need_the_room_of_one():
    of = learner(accumulate=3)
    of._forward = Alone()
    ids, targets = torch.ones(6, LENGTH, dtype=torch.int64), told()[1]
    for step in (0, 1):
        of.train_step(Batch(ids, targets), step)


def test_a_class_that_does_not_exist_is_named():
    batch = Batch(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0, 1, IGNORED], [0, CLASSES, 1]]))
    with pytest.raises(DataError, match=f"a label is {CLASSES}"):
        learner().train_step(batch, 0)


@pytest.mark.parametrize(
    ("criterion", "one_hot", "says"),
    [
        (nn.MSELoss(), False, "loss=cross_entropy"),
        (nn.BCEWithLogitsLoss(), True, "loss=cross_entropy"),
        (nn.MultiMarginLoss(), False, "loss=cross_entropy"),
        (nn.CrossEntropyLoss(), True, "loss.one_hot"),
        (nn.CrossEntropyLoss(ignore_index=3), False, "loss.ignore_index"),
    ],
)
def test_a_loss_that_cannot_leave_tokens_out_is_refused(criterion, one_hot, says):
    with pytest.raises(ConfigError, match=says):
        make_task(criterion, "language_modeling", CLASSES, one_hot)
