"""Sequences in the one loop: batches cut to their longest, buckets, random changes, targets that do not count."""

from __future__ import annotations

import itertools
import math
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, IterableDataset

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.sequences import Batch, lengths
from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import make_splits
from mlprun.errors import ConfigError, DataError
from mlprun.training.learner import Learner
from mlprun.training.losses import Loss
from mlprun.training.metrics import Metrics
from mlprun.training.schedules import Constant

CPU = torch.device("cpu")
AS_STORED = Normalizer(torch.zeros(()), torch.ones(()))
LENGTH, CLASSES = 12, 7


def documents(count: int = 23, *, by_token: bool = False) -> Examples:
    """Sequence i is 1 + i % 11 tokens of the id i + 1; its class is i, or that of each token its id."""
    ids = torch.zeros(count, LENGTH, dtype=torch.int32)
    for i in range(count):
        ids[i, : 1 + i % 11] = i + 1
    return Examples(ids, ids.clone() if by_token else torch.arange(count))


class Lazy(Dataset):
    def __init__(self) -> None:
        self.held = documents()

    def __len__(self) -> int:
        return len(self.held)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.held.inputs[i], int(self.held.targets[i])


class Stream(IterableDataset):
    def __iter__(self):
        return (Lazy()[i] for i in range(23))


def add_noise(inputs: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    return inputs + 100 * torch.randint(1, 1000, inputs.shape, generator=generator), targets


def batches(part=None, size: int = 5, **how) -> TrainBatches:
    return TrainBatches(documents() if part is None else part, size, AS_STORED, CPU, 0, padding=0, **how)


# ------------------------------------------------------------------------------------------------- batches


def test_the_length_of_a_sequence_ends_before_its_padding():
    ids = torch.tensor([[3, 4, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0], [1, 1, 1, 1]])
    assert lengths(ids, padding=0).tolist() == [2, 3, 1, 4]  # padding within belongs to it, and none is empty


@pytest.mark.parametrize("part", [documents(), Lazy(), Stream()], ids=["memory", "map-style", "stream"])
def test_a_batch_is_as_wide_as_its_longest(part):
    seen = list(itertools.islice(batches(part).starting_at(0), 10))
    assert all(batch.inputs.dtype == torch.int64 for batch in seen)
    assert [batch.inputs.shape[1] for batch in seen] == [int(lengths(b.inputs, 0).max()) for b in seen]
    for batch in seen:  # and nothing of a sequence is lost
        assert [int(n) for n in lengths(batch.inputs, 0)] == [1 + int(i) % 11 for i in batch.targets]
    whole = list(EvalBatches(part, 5, AS_STORED, CPU, padding=0))
    assert sorted(torch.cat([batch.targets for batch in whole]).tolist()) == list(range(23))


def test_targets_of_tokens_are_cut_with_them():
    for batch in itertools.islice(batches(documents(by_token=True)).starting_at(0), 8):
        assert torch.equal(batch.targets, batch.inputs)
        assert batch.targets.dtype == torch.int64


def test_the_values_of_a_regression_are_not_cut():
    values = torch.rand(23, 20)  # more of them than a short text has tokens
    part = Examples(documents().inputs, values)
    batch = next(batches(part).starting_at(0))
    assert batch.inputs.shape[1] <= 11
    assert batch.targets.shape == (5, 20)
    whole = torch.cat([b.targets for b in EvalBatches(part, 5, AS_STORED, CPU, padding=0)])
    assert torch.equal(whole, values)


def test_whole_numbers_that_are_no_padded_sequences_are_not_cut():
    part = documents()
    (whole,) = EvalBatches(part, 5, AS_STORED, CPU)
    assert whole.inputs.shape == (23, LENGTH)
    assert next(TrainBatches(part, 5, AS_STORED, CPU, 0).starting_at(0)).inputs.shape == (5, LENGTH)


def test_buckets_need_less_padding_and_hold_every_example_once():
    plain, sorted_by_length = batches(), batches(bucketing=3)
    assert sorted_by_length.steps_per_epoch == plain.steps_per_epoch == 5

    def epoch(of: TrainBatches, number: int) -> list[Batch]:
        return list(itertools.islice(of.starting_at(5 * number), 5))

    def padding(of: TrainBatches) -> int:
        return sum(int((b.inputs == 0).sum()) for b in epoch(of, 0))

    for number in (0, 1):
        assert sorted(torch.cat([b.targets for b in epoch(sorted_by_length, number)]).tolist()) == list(range(23))
    assert padding(sorted_by_length) < padding(plain) / 2
    orders = [torch.cat([b.targets for b in epoch(sorted_by_length, number)]).tolist() for number in (0, 1)]
    assert orders[0] != orders[1]
    widths = [b.inputs.shape[1] for b in epoch(sorted_by_length, 0)]
    assert widths != sorted(widths)  # short ones do not always come first


@pytest.mark.parametrize(
    "how",
    [{"bucketing": 2}, {"perturb": add_noise}, {"bucketing": 3, "perturb": add_noise}, {"part": Lazy()},
     {"part": Lazy(), "perturb": add_noise}, {"part": Stream(), "perturb": add_noise}],
    ids=["buckets", "perturb", "both", "lazy", "lazy, perturb", "stream, perturb"],
)  # fmt: skip
@pytest.mark.parametrize("step", [1, 5, 7])
def test_every_step_can_be_continued_at(how, step):
    whole = list(itertools.islice(batches(**how).starting_at(0), 12))
    rest = list(itertools.islice(batches(**how).starting_at(step), 12 - step))
    for one, other in zip(whole[step:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.targets, other.targets)
        assert one.epoch == other.epoch


def test_training_changes_each_pass_anew_and_every_evaluation_the_same():
    noisy = batches(size=23, perturb=add_noise)
    first, second = itertools.islice(noisy.starting_at(0), 2)
    assert not torch.equal(first.inputs.sort(0).values, second.inputs.sort(0).values)
    of_val = [EvalBatches(documents(), size, AS_STORED, CPU, padding=0, perturb=add_noise) for size in (5, 23)]
    ones, others = (torch.cat([b.inputs for b in of]) for of in of_val)
    assert torch.equal(ones, others)
    assert not torch.equal(ones, documents().inputs.long())
    chosen = EvalBatches(documents(), 5, AS_STORED, CPU, padding=0, perturb=add_noise, indices=[3, 20])
    assert torch.equal(next(iter(chosen)).inputs, ones[[3, 20], : next(iter(chosen)).inputs.shape[1]])


def test_an_evaluation_does_not_ask_a_device_for_lengths():
    nowhere = torch.device("meta")  # has no values to look at
    widths = [b.inputs.shape[1] for b in EvalBatches(documents(), 5, AS_STORED, nowhere, padding=0)]
    assert widths == [b.inputs.shape[1] for b in EvalBatches(documents(), 5, AS_STORED, CPU, padding=0)]


def test_an_evaluation_has_room_for_the_outputs_of_its_tokens():
    part = Examples(torch.ones(64, 100, dtype=torch.int32), torch.ones(64, 100, dtype=torch.int32))
    sizes = [len(b.targets) for b in EvalBatches(part, 64, AS_STORED, CPU, padding=0, num_outputs=10_000)]
    assert max(sizes) * 100 * 10_000 <= 4_000_000


# ----------------------------------------------------------------------------------- what does not count


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
    loss = Loss(nn.CrossEntropyLoss(weight=weight, reduction=reduction), "token_classification", CLASSES, False)
    alone = F.cross_entropy(outputs[kept], targets[kept], weight=weight, reduction=reduction)
    assert loss(outputs, targets).item() == pytest.approx(alone.item(), rel=1e-6)

    metrics = Metrics("token_classification", CLASSES, CPU)
    for some in (slice(0, 1), slice(1, 6)):  # an uneven last batch weighs what it holds
        size = loss.size(targets[some])
        value = loss(outputs[some], targets[some])
        metrics.update(outputs[some], targets[some], value, mean=reduction == "mean", size=size)
    found = metrics.compute()
    if reduction == "mean":
        assert found["loss"] == pytest.approx(alone.item(), rel=1e-6)
    assert found["accuracy"] == pytest.approx((outputs[kept].argmax(1) == targets[kept]).float().mean().item())


def test_a_sum_over_tokens_is_shown_as_a_mean_over_tokens():
    outputs, targets = told()
    loss = Loss(nn.CrossEntropyLoss(reduction="sum"), "language_modeling", CLASSES, False)
    metrics = Metrics("language_modeling", CLASSES, CPU)
    metrics.update(outputs, targets, loss(outputs, targets), mean=False, size=loss.size(targets))
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
    loss = Loss(criterion or nn.CrossEntropyLoss(), "token_classification", CLASSES, False)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    return Learner(
        model, loss, optimizer, Constant(), CPU, task="token_classification", num_outputs=CLASSES, seed=0,
        accumulate=accumulate,
    )  # fmt: skip


def test_accumulated_parts_weigh_the_tokens_that_they_count():
    _, targets = told()
    batch = Batch(torch.randint(CLASSES + 1, targets.shape, generator=torch.Generator().manual_seed(1)), targets)
    whole, parts = learner(), learner(accumulate=3)
    one, three = whole.update(batch, 0), parts.update(batch, 0)
    assert three.loss.item() == pytest.approx(one.loss.item(), rel=1e-6)
    assert int(three.correct) == int(one.correct)
    assert int(one.num_tokens) == int((targets != IGNORED).sum())
    torch.testing.assert_close(parts.model.table.weight, whole.model.table.weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"weight": torch.arange(1.0, CLASSES + 1)}, {"label_smoothing": 0.1}])
def test_sentences_with_nothing_to_tell_change_nothing(settings):
    outputs, targets = told()
    nothing = torch.full_like(targets, IGNORED)
    loss = Loss(nn.CrossEntropyLoss(**settings), "token_classification", CLASSES, False)
    alone, beside = (Metrics("token_classification", CLASSES, CPU) for _ in range(2))
    for metrics, batches in ((alone, (targets,)), (beside, (nothing, targets, nothing))):
        for batch in batches:
            value, size = loss(outputs, batch), loss.size(batch)
            metrics.update(outputs, batch, value, mean=True, size=size)
    assert math.isfinite(beside.compute()["loss"])
    assert beside.compute() == alone.compute()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_with_nothing_to_tell_leaves_the_weights(accumulate):
    ids = torch.ones(2, 3, dtype=torch.int64)
    of = learner(accumulate)
    before = of.model.table.weight.clone()
    update = of.update(Batch(ids, torch.full_like(ids, IGNORED)), 0)
    assert update.loss.item() == 0
    assert torch.equal(of.model.table.weight, before)


def test_a_micro_batch_with_nothing_to_tell_leaves_the_others_as_they_are():
    ids, targets = torch.tensor([[1, 2], [3, 4]]), torch.tensor([[1, IGNORED], [IGNORED, IGNORED]])
    whole, parts = learner(), learner(accumulate=2)
    assert parts.update(Batch(ids, targets), 0).loss.item() == whole.update(Batch(ids, targets), 0).loss.item()
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
        of.update(Batch(ids, targets), step)


def test_a_class_that_does_not_exist_is_named():
    batch = Batch(torch.zeros(2, 3, dtype=torch.int64), torch.tensor([[0, 1, IGNORED], [0, CLASSES, 1]]))
    with pytest.raises(DataError, match=f"a label is {CLASSES}"):
        learner().update(batch, 0)


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
        Loss(criterion, "language_modeling", CLASSES, one_hot)


# ---------------------------------------------------------------------------------------------------- data


def split(source: Source, task: str = "token_classification", num_outputs: int = 24):
    return make_splits(
        source, val=None, task=task, input_shape=[LENGTH], num_outputs=num_outputs, val_fraction=0.2,
        test_fraction=0.2, split_seed=0, normalize="none", limit=None, limit_eval=None,
    )  # fmt: skip


def test_a_data_sets_own_val_part_is_taken():
    own = documents(3, by_token=True)
    parts = split(Source(documents(by_token=True), test=documents(4, by_token=True), val=own, padding=0))
    assert parts.val is own
    assert len(parts.train) == 23
    assert parts.padding == 0


def changed(where: tuple[int, ...] | slice, value: int) -> Examples:
    part = documents(by_token=True)
    part.targets[where] = value
    return part


@pytest.mark.parametrize(
    ("part", "error", "says"),
    [
        (changed((3, 1), 24), ConfigError, "go from 0 to 24"),
        (changed((3, 1), -1), ConfigError, "go from -1"),
        (changed(slice(None), IGNORED), DataError, "nothing to tell"),
        (documents(), ConfigError, "each of the"),
        (Examples(documents().inputs, documents().inputs.float()), ConfigError, "dtype torch.float32"),
    ],
    ids=["too high", "negative", "all ignored", "one an example", "no whole numbers"],
)
def test_targets_of_tokens_that_cannot_be(part, error, says):
    with pytest.raises(error, match=says):
        split(Source(part, padding=0))
