"""Sequences: batches cut to their longest, buckets, random changes, targets of tokens."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.nested import Batch
from mlprun.data.sequences import lengths
from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import make_splits
from mlprun.data.text.inputs import TokenIds
from mlprun.errors import ConfigError, DataError
from tests.helpers.sequences import AS_STORED, CPU, LENGTH, batches, documents


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


def split(source: Source, task: str = "token_classification", num_outputs: int = 24):
    return make_splits(
        source, val=None, task=task, input_shape=[LENGTH], num_outputs=num_outputs, val_fraction=0.2,
        test_fraction=0.2, split_seed=0, normalize="none", limit=None, limit_eval=None,
    )  # fmt: skip


def test_a_data_sets_own_val_part_is_taken():
    own = documents(3, by_token=True)
    parts = split(Source(documents(by_token=True), test=documents(4, by_token=True), val=own, inputs=TokenIds()))
    assert parts.val is own
    assert len(parts.train) == 23
    assert parts.inputs.padding == 0


def changed(where: tuple[int, ...] | slice, value: int) -> Examples:
    part = documents(by_token=True)
    part.targets[where] = value
    return part


@pytest.mark.parametrize(
    ("part", "error", "says"),
    [
        (changed((3, 1), 24), ConfigError, "go from 0 to 24"),
        (changed((3, 1), -1), ConfigError, "go from -1"),
        (changed(slice(None), IGNORED), DataError, "no target counts"),
        (documents(), ConfigError, "each of the"),
        (Examples(documents().inputs, documents().inputs.float()), ConfigError, "dtype torch.float32"),
    ],
    ids=["too high", "negative", "all ignored", "one an example", "no whole numbers"],
)
def test_targets_of_tokens_that_cannot_be(part, error, says):
    with pytest.raises(error, match=says):
        split(Source(part, inputs=TokenIds()))
