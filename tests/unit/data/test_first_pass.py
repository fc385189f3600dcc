"""What is lost of the examples: classes, cells, and what only a pass over lazy data shows."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.data.text.documents import text_folder
from mlprun.errors import ConfigError, DataError
from tests.helpers.files import write
from tests.helpers.texts import TEXT

CPU = torch.device("cpu")


class Lazy(Dataset[Any]):
    """An example for each target."""

    def __init__(self, wanted: list[Any], **attributes: Any) -> None:
        self.wanted = wanted
        vars(self).update(attributes)

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, index: int) -> Any:
        return torch.ones(2), self.wanted[index]


class Stream(IterableDataset[Any]):
    def __init__(self, lazy: Lazy) -> None:
        self.lazy = lazy

    def __iter__(self) -> Any:
        return map(self.lazy.__getitem__, range(len(self.lazy)))


def split(train: Any, task: str = "classification", **changed: Any) -> Splits:
    source = train if isinstance(train, Source) else Source(train)
    if source.test is None and not isinstance(train, Examples):
        source = Source(source.train, source.train, val=source.train, class_names=source.class_names)
    given: dict[str, Any] = {
        "val": None, "task": task, "input_shape": [2], "num_outputs": 3, "val_fraction": 0.1, "test_fraction": 0.2,
        "split_seed": 0, "normalize": "none", "limit": None, "limit_eval": None,
    }  # fmt: skip
    return make_splits(source, **given | changed)


def batches(splits: Splits) -> TrainBatches:
    how = splits.reading()
    return TrainBatches(splits.train, 4, splits.normalizer, CPU, 0, first_pass=splits.first_pass(), **how)


def read(splits: Splits, num_batches: int = 7, start: int = 0) -> None:
    given = batches(splits)
    list(islice(given.starting_at(start), num_batches))
    given.report()


def examples(targets: list[int]) -> Examples:
    return Examples(torch.ones(len(targets), 2), torch.tensor(targets))


TWO_OF_THREE = [0, 1] * 12
NAMED = ("ant", "bee", "cat")


@pytest.mark.parametrize(
    ("train", "changed", "said"),
    [
        (examples([*TWO_OF_THREE, 2]), {"split_seed": 9}, "val and test have all of theirs (data.split_seed=9)"),
        (examples([0, 1, 2] * 9), {"limit": 1}, "2 of 3 classes have no training example"),
        (examples([0, 1, 2] * 9), {"limit": 1}, "data.limit=1 leaves them out"),
        (Source(Lazy(TWO_OF_THREE, targets=TWO_OF_THREE), class_names=NAMED), {}, "1 of 3 classes have no training "),
        (Source(Lazy(TWO_OF_THREE, targets=TWO_OF_THREE), class_names=NAMED), {}, "example (cat)"),
        (Lazy(TWO_OF_THREE, targets=["ant", "bee"] * 12), {}, ""),  # known after a pass
        (examples([0, 1, 2] * 9), {}, ""),
    ],
)
def test_a_class_left_without_training_examples_is_reported_when_the_data_are_split(caplog, train, changed, said):
    split(train, **changed)
    assert said in caplog.text
    assert bool(said) == bool(caplog.records)


@pytest.mark.parametrize("kind", [Lazy, lambda targets: Stream(Lazy(targets))])
@pytest.mark.parametrize(
    ("targets", "task", "said"),
    [
        (TWO_OF_THREE, "classification", "1 of 3 classes have no training example (2)"),
        ([0, 1, 2] * 8, "classification", ""),
        ([torch.tensor([1.0, 0.0, i % 2]) for i in range(24)], "multi_label", "1 of 3 labels have no training"),
        ([torch.rand(3) for _ in range(24)], "regression", ""),
    ],
)
def test_a_class_that_lazy_data_lack_is_reported_after_a_pass(caplog, kind, targets, task, said):
    splits = split(kind(targets), task)
    assert caplog.records == []
    read(splits, 5)
    assert caplog.records == []  # a part of the data does not tell
    read(splits, 5, start=4)
    assert caplog.records == []
    read(splits)
    assert said in caplog.text
    assert len(caplog.records) == bool(said)


@pytest.mark.parametrize(
    ("targets", "task", "said"),
    [
        ([0, 1, 2, *[0] * 20, IGNORED], "classification", "1 of the 4 labels of a training batch are -100"),
        ([0, 1, 2, *[0] * 20, -1], "classification", "1 of the 4 labels of a training batch are -1"),
        ([torch.tensor([1.0, 0.0, 1.0])] * 9 + [torch.tensor([0.0, 1.0, 2.0])], "multi_label", "not all 0 or 1"),
    ],
)
def test_targets_that_a_loss_ignores_are_refused(targets, task, said):
    splits = split(Lazy(targets), task)
    with pytest.raises(DataError, match=said):
        read(splits)
    with pytest.raises(DataError, match=said.replace("training", "val or test").replace("of the 4", "of the .*")):
        list(EvalBatches(splits.test, 4, splits.normalizer, CPU, **splits.reading()))


@pytest.mark.parametrize("is_target", [False, True])
def test_nan_in_an_evaluation_is_refused_and_counted(is_target):
    splits = split(Lazy([torch.zeros(1)] * 24), "regression", num_outputs=1)
    inputs, targets = torch.ones(4, 2), torch.ones(4, 1)
    (targets if is_target else inputs)[2, 0] = torch.nan
    said = f"example 2 of a val or test batch has NaN or infinite {'targets' if is_target else 'inputs'} "
    with pytest.raises(DataError, match=said):
        splits.reading()["watch"](inputs, targets, 0)


def test_tokens_of_which_none_counts_are_refused_after_a_pass():
    counted, ignored = torch.tensor([0, 1]), torch.full((2,), IGNORED)
    lazy = Lazy([counted] + [ignored] * 7)
    splits = split(lazy, "token_classification")
    read(splits)
    lazy.wanted[0] = ignored
    with pytest.raises(DataError, match="all targets of the training part are -100"):
        read(splits)


@pytest.mark.parametrize("hold", ["files", "stream"])
def test_texts_that_are_read_lazily_are_counted_in_the_first_pass(tmp_path, caplog, hold):
    texts = {f"train/{c}/{i}.txt": f"word{i} " + "same " * (i % 3) * 8 for c in "ab" for i in range(8)}
    source = text_folder(write(tmp_path, texts | {f"test/{c}/0.txt": "same" for c in "ab"}), TEXT, hold)
    splits = split(Source(source.train, source.test, val=source.test, inputs=source.inputs), input_shape=[8])
    splits.inputs.options.update(TEXT | {"min_frequency": 2})
    read(splits, 5)
    assert "10 of the 16 texts of the first pass fill data.text.max_length=8" in caplog.text


@pytest.mark.parametrize("is_lazy", [False, True])
def test_cells_without_a_number_are_counted_by_column(is_lazy):
    inputs = torch.ones(40, 3)
    inputs[7::8, 1], inputs[9, 2] = torch.nan, torch.inf
    train: Any = Examples(inputs, torch.arange(40) % 3)
    said = "example 7 of the training part has NaN or infinite inputs"
    if is_lazy:
        train = Lazy(list(train.targets))
        train.__class__ = type("Table", (Lazy,), {"__getitem__": lambda self, i: (inputs[i], self.wanted[i])})
        said = "example 7 of 40 training examples has NaN or infinite inputs"
    with pytest.raises(DataError) as refusal:
        split(train, input_shape=[3], normalize="standardize")
    assert f"{said} (6 of 120 values, in 6 of 40 examples; columns, from 0: 1 (5), 2 (1))" in str(refusal.value)


def test_whole_numbers_are_token_ids_and_the_remedy_for_quantities_is_said():
    table = Examples(torch.arange(120).reshape(40, 3), torch.arange(40) % 3)
    layer = torch.nn.Linear(3, 3)
    assert "give them as float32: x.float()" in split(table, input_shape=[3]).inputs.remedy(
        "custom", table.inputs, layer
    )
    with pytest.raises(ConfigError, match=r"whole numbers \(int64\), taken for token ids\n.*x.float\(\)"):
        split(table, input_shape=[3], normalize="standardize")
