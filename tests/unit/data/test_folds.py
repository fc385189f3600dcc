"""Folds are a partition by `split_seed`, stratified or by groups, and only the training folds are measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mlprun.data.folds import Folds
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError

TARGETS = torch.tensor([0] * 71 + [1] * 40 + [2] * 13)  # sorted, and no multiple of five
GROUPS = [f"patient {i % 17 if i % 3 else 0}" for i in range(124)]  # one is much larger than the others


class Lazy(Dataset[Any]):
    """A map-style data set whose inputs are numbered from `first`."""

    def __init__(self, targets: torch.Tensor, first: int = 0) -> None:
        self.targets, self.first, self.patient = targets, first, GROUPS[first : first + len(targets)]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> Any:
        return torch.full((2,), float(self.first + index)), int(self.targets[index])


def numbered(targets: torch.Tensor = TARGETS, first: int = 0) -> Examples:
    return Examples(torch.arange(first, first + len(targets)).float()[:, None].repeat(1, 2), targets)


def split(source: Source, fold: int, num_folds: int = 5, **changed: Any) -> Splits:
    settings: dict[str, Any] = {
        "val": None, "task": "classification", "input_shape": [2], "num_outputs": 3, "val_fraction": 0.1,
        "test_fraction": 0.2, "split_seed": 0, "normalize": "none", "limit": None, "limit_eval": None,
        "folds": Folds(num_folds, fold),
    }  # fmt: skip
    return make_splits(source, **{**settings, **changed})


def numbers(part: Any) -> list[int]:
    inputs = part.inputs if isinstance(part, Examples) else torch.stack([x for x, _ in part])
    return inputs[:, 0].int().tolist()


def own_test() -> Examples:
    return numbered(torch.tensor([0, 1, 2]), first=1_000)


SOURCES = {
    "memory": lambda: Source(numbered()),
    "lazy": lambda: Source(Lazy(TARGETS)),
    "own test": lambda: Source(numbered(), test=own_test()),
    "own val": lambda: Source(numbered(TARGETS[:115]), val=numbered(TARGETS[115:], 115), test=own_test()),
    "lazy, own val": lambda: Source(Lazy(TARGETS[:115]), val=Lazy(TARGETS[115:], 115)),
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("groups", [None, "patient"])
def test_each_example_is_val_once_and_the_test_split_stays_apart(kind, groups):
    source = SOURCES[kind]()
    if groups and isinstance(source.train, Examples):
        source = Source(**{**vars(source), "groups": {"patient": GROUPS}})
    parts = [split(source, fold, groups=groups) for fold in range(5)]
    tests = {tuple(numbers(each.test)) for each in parts}
    assert len(tests) == 1
    test = [] if source.test is not None else [*tests.pop()]
    everything = sorted({*range(124)} - {*test})
    assert sorted(number for each in parts for number in numbers(each.val)) == everything
    for each in parts:
        assert sorted(numbers(each.train) + numbers(each.val)) == everything
    sizes = [len(each.val) for each in parts]
    if groups is None:
        assert max(sizes) - min(sizes) <= 1
        counts = np.array([TARGETS[numbers(each.val)].bincount(minlength=3).numpy() for each in parts])
        assert (counts.max(0) - counts.min(0)).max() <= 1
    else:
        patients = [{GROUPS[number] for number in numbers(each.val)} for each in parts]
        assert sum(map(len, patients)) == len(set().union(*patients))  # none in two folds
        assert not {GROUPS[number] for number in test} & set().union(*patients)
        assert min(sizes) >= 8


def test_folds_follow_from_split_seed_alone():
    def val(seed: int) -> list[int]:
        return numbers(split(SOURCES["memory"](), 2, split_seed=seed).val)

    torch.manual_seed(1)
    first = val(0)
    torch.manual_seed(2)
    assert val(0) == first != val(1)


def test_only_the_training_folds_are_measured():
    for fold in range(5):
        parts = split(SOURCES["own test"](), fold, normalize="standardize")
        assert parts.normalizer.shift.tolist() == pytest.approx([np.mean(numbers(parts.train))] * 2)


@pytest.mark.parametrize("task", ["regression", "multi_label"])
def test_other_targets_are_divided_at_random(task):
    source = Source(Examples(numbered().inputs, (TARGETS[:, None] > 0).float()))
    val = [numbers(split(source, fold, 3, task=task, num_outputs=1).val) for fold in range(3)]
    assert len(set().union(*val)) == sum(map(len, val)) == 99
    assert all(20 < np.mean(each) < 100 for each in val)


def test_groups_are_in_one_split_without_folds_too():
    source = Source(numbered(), groups={"patient": GROUPS})
    for seed in range(4):
        parts = split(source, 0, folds=None, groups="patient", split_seed=seed, val_fraction=0.3)
        found = [{GROUPS[number] for number in numbers(each)} for each in (parts.train, parts.val, parts.test)]
        assert sum(map(len, found)) == len(set().union(*found)) == 17
        assert all(found)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([(torch.zeros(2), 0), (torch.ones(2), 1)])


def one_class_short() -> Source:
    return Source(numbered(torch.tensor([0] * 20 + [1] * 20 + [2] * 3)), test=own_test(), class_names=("a", "b", "cat"))


def with_vocabulary() -> Source:
    return Source(numbered(), inputs=TokenIds(Tokenizer.__new__(Tokenizer)))


@pytest.mark.parametrize(
    ("source", "changed", "message"),
    [
        (one_class_short, {}, "data.num_folds=5: class cat has 3 examples to divide\n  choose at most 3"),
        (SOURCES["memory"], {"task": "custom", "folds": Folds(200, 0)}, "num_folds=200: there are 99 examples"),
        (lambda: Source(Stream()), {}, "data.num_folds=5: a stream has no folds"),
        (with_vocabulary, {}, "data.num_folds=5: the vocabulary is that of all folds"),
        (lambda: Source(Lazy(TARGETS), val=Lazy(TARGETS), augmented=Lazy(TARGETS)), {}, "its augmentation leaves out"),
        (lambda: Source(numbered(), val=Lazy(TARGETS)), {}, "one of the train and val parts is in memory"),
        (SOURCES["lazy"], {"groups": "patients"}, "data.groups=patients: the data set has no such attribute"),
        (lambda: Source(numbered(), groups={"patient": GROUPS}), {"groups": "patiant"}, "did you mean 'patient'"),
        (lambda: Source(numbered(), groups={"p": [1, 2]}), {"groups": "p"}, r"shape \[2\], not one group .* 124"),
        (lambda: Source(numbered(), groups={"p": [np.nan] * 124}), {"groups": "p"}, "124 examples have no group"),
        (lambda: Source(numbered(), groups={"p": [1] * 124}), {"groups": "p"}, "one group is left to hold test out"),
        (
            lambda: Source(numbered(), test=own_test(), groups={"p": [1, 2] * 62}),
            {"groups": "p"},
            "data.num_folds=5: data.groups has 2 groups to divide\n  choose at most 2",
        ),
    ],
)
def test_what_cannot_be_divided_is_refused(source, changed, message):
    with pytest.raises(ConfigError, match=message):
        split(source(), 0, **changed)
