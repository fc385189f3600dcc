"""Who goes where, what is refused, and that only the training split is measured for the scaling."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset

from mlprun.data.normalize import STATISTICS_SAMPLE, Normalizer, make_normalizer
from mlprun.data.parts import size
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.errors import ConfigError, DataError, UserError


class Listed(Dataset[Any]):
    """A map-style data set over given examples."""

    def __init__(self, examples: list[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Any:
        return self.examples[index]


class Streamed(IterableDataset[Any]):
    """An iterable-style data set over given examples."""

    def __init__(self, examples: list[Any]) -> None:
        self.examples = examples

    def __iter__(self) -> Any:
        return iter(self.examples)


class Unsized(Dataset[Any]):
    """A map-style data set without __len__."""

    def __getitem__(self, index: int) -> Any:
        return torch.zeros(2), 0


def numbered(count: int, classes: int = 3, first: int = 0) -> Examples:
    """Examples whose two features are their own number, so that a split shows which ones it holds."""
    number = torch.arange(first, first + count)
    return Examples(number.float()[:, None].repeat(1, 2), number % classes)


def pairs(count: int, classes: int = 3, first: int = 0) -> list[Any]:
    examples = numbered(count, classes, first)
    return list(zip(examples.inputs, examples.targets.tolist(), strict=True))


def split(source: Source | Examples | Dataset[Any], **changed: Any) -> Splits:
    """`make_splits` of three classes with two features, unless changed."""
    settings = {
        "val": None, "task": "classification", "input_shape": [2], "num_outputs": 3, "val_fraction": 0.1,
        "test_fraction": 0.1, "split_seed": 0, "normalize": "none", "limit": None, "limit_eval": None,
    }  # fmt: skip
    return make_splits(source if isinstance(source, Source) else Source(source), **{**settings, **changed})


def numbers(part: Any) -> list[int]:
    """Which of the numbered examples a part holds, in its own order."""
    inputs = part.inputs if isinstance(part, Examples) else torch.stack([x for x, _ in part])
    return inputs[:, 0].int().tolist()


# ------------------------------------------------------------------------------------------ who goes where


@pytest.mark.parametrize(
    ("count", "fraction", "train", "val"),
    [
        (60_000, 0.1, 54_000, 6_000),
        (50_000, 0.1, 45_000, 5_000),
        (60_000, 0.25, 45_000, 15_000),
        (1_437, 0.1, 1_293, 144),
        (9, 0.01, 8, 1),  # never an empty val
    ],
)
def test_val_is_an_exact_share_of_the_training_part(count, fraction, train, val):
    parts = split(Source(numbered(count), test=numbered(300)), val_fraction=fraction)
    assert (size(parts.train), size(parts.val), size(parts.test)) == (train, val, 300)
    assert sorted(numbers(parts.train) + numbers(parts.val)) == list(range(count))


def test_val_is_drawn_from_everywhere_and_keeps_the_order_of_the_data():
    val = numbers(split(numbered(6_000)).val)
    assert val == sorted(val)
    assert 2_700 < sum(val) / len(val) < 3_300
    assert val != list(range(val[0], val[0] + len(val)))


@pytest.mark.parametrize("kind", ["memory", "lazy", "stream"])
def test_the_split_follows_from_split_seed_alone(kind):
    source = {"memory": numbered(200), "lazy": Listed(pairs(200)), "stream": Streamed(pairs(200))}[kind]

    def seen(split_seed: int) -> tuple[list[int], ...]:
        parts = split(source, split_seed=split_seed)
        return numbers(parts.train), numbers(parts.val), numbers(parts.test)

    torch.manual_seed(1)  # a run's own seed, or any other use of the global generator
    first = seen(0)
    torch.manual_seed(2)
    assert seen(0) == first
    assert all(a != b for a, b in zip(seen(1), first, strict=True))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_test_part_of_the_data_sets_own_is_left_alone(lazy):
    own = Listed(pairs(50, first=1_000)) if lazy else numbered(50, first=1_000)
    source = Source(Listed(pairs(300)) if lazy else numbered(300), test=own)
    for seed in (0, 1):
        parts = split(source, split_seed=seed, test_fraction=0.5)
        assert parts.test is own
        assert sorted(numbers(parts.train) + numbers(parts.val)) == list(range(300))


def test_a_carved_test_part_holds_each_class_by_its_share():
    targets = torch.tensor([0] * 700 + [1] * 200 + [2] * 100)
    part = Examples(torch.arange(1000.0)[:, None].repeat(1, 2), targets)
    for seed in range(3):
        parts = split(part, test_fraction=0.2, split_seed=seed)
        assert parts.test.targets.bincount().tolist() == [140, 40, 20]
        everything = numbers(parts.train) + numbers(parts.val) + numbers(parts.test)
        assert sorted(everything) == list(range(1000))  # none lost, none twice
        assert (size(parts.val), size(parts.train)) == (80, 720)


def test_lazy_data_with_targets_is_stratified_too():
    lazy = Listed(pairs(300))
    lazy.targets = [label for _, label in lazy.examples]
    test = split(lazy, test_fraction=0.1).test
    assert torch.tensor([label for _, label in test]).bincount().tolist() == [10, 10, 10]


def test_a_val_part_of_the_users_own_leaves_the_training_part_whole():
    own = Listed(pairs(20, first=500))
    parts = split(Source(Listed(pairs(60)), test=Listed(pairs(9))), val=own)
    assert parts.val is own
    assert numbers(parts.train) == list(range(60))


def test_random_transformations_are_for_training_only():
    """`augmented` holds the same examples in the same order; val and the statistics see the plain ones."""
    plain = pairs(100)
    source = Source(Listed(plain), test=Listed(pairs(9)), augmented=Listed([(-x, y) for x, y in plain]))
    parts = split(source, normalize="standardize")
    assert sorted([-n for n in numbers(parts.train)] + numbers(parts.val)) == list(range(100))
    assert parts.normalizer.shift.min() > 0


@pytest.mark.parametrize("kind", ["memory", "lazy", "stream"])
def test_limits(kind):
    """`limit` is a part of the training split, `limit_eval` of val and test; nobody changes sides."""
    make = {"memory": numbered, "lazy": lambda n: Listed(pairs(n)), "stream": lambda n: Streamed(pairs(n))}[kind]
    whole, some = split(make(400)), split(make(400), limit=50, limit_eval=7)
    for name, count in (("train", 50), ("val", 7), ("test", 7)):
        chosen, everything = numbers(getattr(some, name)), numbers(getattr(whole, name))
        assert len(chosen) == count
        assert set(chosen) < set(everything)
        assert chosen == [n for n in everything if n in set(chosen)]  # in the data's own order
    generous = split(make(400), limit=10_000, limit_eval=10_000)
    assert [numbers(p) for p in (generous.train, generous.val, generous.test)] == [
        numbers(p) for p in (whole.train, whole.val, whole.test)
    ]


@pytest.mark.parametrize("own_val", [False, True])
def test_limits_do_not_take_one_class_of_data_sorted_by_class(own_val):
    """Folders of images come class by class: the first hundred would be one class."""

    def by_class(count: int) -> Listed:
        return Listed([(torch.zeros(2), label) for label in range(3) for _ in range(count)])

    source = Source(by_class(200), test=by_class(100))
    parts = split(source, val=by_class(100) if own_val else None, limit=60, limit_eval=60)
    for part in (parts.train, parts.val, parts.test):
        assert torch.tensor([label for _, label in part]).bincount(minlength=3).min() >= 10


def test_a_stream_is_split_by_position():
    parts = split(Streamed(pairs(2_000)), val_fraction=0.2, test_fraction=0.1)
    train, val, test = numbers(parts.train), numbers(parts.val), numbers(parts.test)
    assert sorted(train + val + test) == list(range(2_000))  # disjoint and complete
    assert (train, val, test) == (
        numbers(parts.train),
        numbers(parts.val),
        numbers(parts.test),
    )  # in every pass
    assert (len(val), len(test)) == (pytest.approx(400, abs=60), pytest.approx(200, abs=45))
    assert size(parts.train) is None


def test_a_streams_own_test_part_leaves_the_rest_to_train_and_val():
    own = Streamed(pairs(30, first=5_000))
    parts = split(Source(Streamed(pairs(300)), test=own))
    assert parts.test is own
    assert sorted(numbers(parts.train) + numbers(parts.val)) == list(range(300))


# ---------------------------------------------------------------------------------------------- the scaling


@pytest.mark.parametrize("how", ["standardize", "minmax"])
def test_statistics_come_from_the_training_split_alone(how):
    before = split(numbered(300), normalize=how)
    spoiled = numbered(300)
    for part in (before.val, before.test):
        spoiled.inputs[numbers(part)] += 1e6
    after = split(spoiled, normalize=how)
    assert torch.equal(before.normalizer.shift, after.normalizer.shift)
    assert torch.equal(before.normalizer.scale, after.normalizer.scale)
    # … and the training split does decide them.
    spoiled.inputs[numbers(before.train)[0]] += 1e6
    assert not torch.equal(before.normalizer.scale, split(spoiled, normalize=how).normalizer.scale)


def test_limit_limits_the_statistics_too():
    parts = split(numbered(300), normalize="standardize", limit=20)
    assert parts.normalizer.shift[0] == parts.train.inputs[:, 0].mean()


def test_standardize_features():
    inputs = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50.0, 1e-3])
    inputs += torch.tensor([0.0, -7.0, 1e-2])
    normalizer = make_normalizer(Examples(inputs, torch.zeros(500)), "standardize", None)
    assert normalizer.shift.shape == (3,)
    scaled = normalizer(inputs)
    assert torch.allclose(scaled.mean(0), torch.zeros(3), atol=1e-5)
    assert torch.allclose(scaled.std(0, correction=0), torch.ones(3), atol=1e-5)


def test_standardize_images_by_channel():
    generator = torch.Generator().manual_seed(0)
    images = torch.stack([torch.randint(0, top, (5_000, 4, 6), generator=generator) for top in (256, 100, 10)], 1)
    images = images.to(torch.uint8)
    normalizer = make_normalizer(Examples(images, torch.zeros(5_000)), "standardize", (0, 255))
    assert normalizer.shift.shape == normalizer.scale.shape == (3, 1, 1)
    exact = images.double()
    assert torch.allclose(normalizer.shift.flatten().double(), exact.mean((0, 2, 3)), rtol=1e-6)
    assert torch.allclose(normalizer.scale.flatten().double(), exact.std((0, 2, 3), correction=0), rtol=1e-6)
    scaled = normalizer(images)
    assert scaled.dtype == torch.float32
    assert torch.allclose(scaled.mean((0, 2, 3)), torch.zeros(3), atol=1e-4)


@pytest.mark.parametrize("how", ["standardize", "minmax"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6, 3e-8])
def test_a_feature_without_variance_counts_as_variance_one(how, constant):
    inputs = torch.stack([torch.full((999,), constant), torch.arange(999.0)], 1)
    normalizer = make_normalizer(Examples(inputs, torch.zeros(999)), how, None)
    assert normalizer.scale[0] == 1
    assert torch.all(normalizer(inputs)[:, 0].abs() < 1e-6 + abs(constant) * 1e-6)


def test_minmax_of_images_goes_by_their_format():
    """A dark picture stays dark: 255 is white, whatever the data holds."""
    images = torch.randint(0, 100, (20, 1, 4, 4)).to(torch.uint8)
    normalizer = make_normalizer(Examples(images, torch.zeros(20)), "minmax", (0, 255))
    assert torch.equal(normalizer(images), images.float() / 255)


def test_minmax_of_features_goes_by_the_training_split():
    train = torch.tensor([[2.0, -1.0], [4.0, 3.0], [3.0, 1.0]])
    normalizer = make_normalizer(Examples(train, torch.zeros(3)), "minmax", None)
    assert normalizer(train).tolist() == [[0.0, 0.0], [1.0, 1.0], [0.5, 0.5]]
    assert normalizer(torch.tensor([[6.0, -3.0]])).tolist() == [[2.0, -0.5]]  # others may lie outside


def test_none_keeps_the_stored_values():
    stored = torch.arange(256).to(torch.uint8).reshape(4, 1, 8, 8)
    normalizer = make_normalizer(Examples(stored, torch.zeros(4)), "none", (0, 255))
    assert normalizer(stored).dtype == torch.float32
    assert normalizer(stored).flatten().tolist() == list(range(256))


def test_token_ids_are_not_scaled():
    tokens = Examples(torch.randint(0, 1000, (30, 12)), torch.zeros(30))
    assert torch.equal(make_normalizer(tokens, "none", None)(tokens.inputs), tokens.inputs)
    for how in ("minmax", "standardize"):
        with pytest.raises(ConfigError, match=f"data.normalize={how}: is for quantities"):
            make_normalizer(tokens, how, None)


def test_lazy_data_is_measured_by_a_sample_that_the_seed_chooses():
    part = Listed(pairs(STATISTICS_SAMPLE + 500))
    one, again, other = (make_normalizer(part, "standardize", None, seed) for seed in (0, 0, 1))
    assert torch.equal(one.shift, again.shift)
    assert not torch.equal(one.shift, other.shift)
    small = Listed(pairs(100))  # small enough to be read whole
    whole = make_normalizer(numbered(100), "standardize", None)
    assert torch.equal(make_normalizer(small, "standardize", None, 3).scale, whole.scale)


def test_a_normalizer_leaves_its_input_alone():
    inputs = torch.ones(3, 2)
    Normalizer(torch.ones(2), torch.full((2,), 2.0))(inputs)
    assert torch.equal(inputs, torch.ones(3, 2))


# ----------------------------------------------------------------------------------------------- the checks


def with_nan(count: int = 30) -> Examples:
    examples = numbered(count)
    examples.inputs[17, 1] = torch.nan
    return examples


def labelled(*labels: float) -> Examples:
    return Examples(torch.zeros(len(labels), 2), torch.tensor(labels))


class Wordy(Listed):
    """A data set that gives dictionaries, as Hugging Face's do."""

    def __getitem__(self, index: int) -> Any:
        return {"image": torch.zeros(2), "label": 0}


REGRESSION = {"task": "regression", "num_outputs": 1}
PICTURE = Listed([(Image.new("L", (2, 2)), 0)])

REFUSED: dict[str, tuple[Any, dict[str, Any], type[UserError], list[str]]] = {
    "NaN in the inputs": (with_nan(), {}, DataError, ["example 17 of the training part has NaN"]),
    "infinity in the test part": (
        Source(numbered(30), test=Examples(torch.full((4, 2), torch.inf), torch.zeros(4).long())),
        {},
        DataError,
        ["example 0 of the test part has NaN or infinite inputs"],
    ),
    "NaN in lazy data": (Listed([(torch.full((2,), torch.nan), 0)]), {}, DataError, ["NaN or infinite inputs"]),
    "label too large": (
        labelled(0, 1, 2, 5),
        {},
        ConfigError,
        ["data.num_outputs=3: the labels of the training part go from 0 to 5", "data.num_outputs=6"],
    ),
    "label too large in the test part": (
        Source(numbered(30), test=labelled(0, 3)),
        {},
        ConfigError,
        ["the labels of the test part go from 0 to 3"],
    ),
    "label below zero": (labelled(-1, 0, 1, 2), {}, ConfigError, ["go from -1 to 2", "renumber them"]),
    "label too large in lazy data": (Listed([(torch.zeros(2), 3)]), {}, ConfigError, ["data.num_outputs=4"]),
    "empty class": (labelled(0, 0, 2), {}, DataError, ["class 1 has no training example (data.num_outputs=3)"]),
    "empty class with a name": (
        Source(labelled(0, 0, 2), class_names=("ant", "bee", "cat")),
        {},
        DataError,
        ["class 1 (bee) has no training example"],
    ),
    "wrong shape": (
        Examples(torch.zeros(9, 1, 28, 28), torch.arange(9) % 3),
        {},
        ConfigError,
        ["data.input_shape=[2]: the examples have shape [1, 28, 28]", "set data.input_shape=[1,28,28];"],
    ),
    "wrong shape of lazy data": (
        Listed([(torch.zeros(5), 0)]),
        {},
        ConfigError,
        ["data.input_shape=[2]: the examples have shape [5]", "set data.input_shape=[5];"],
    ),
    "wrong shape of a stream": (Streamed([(torch.zeros(5), 0)]), {}, ConfigError, ["set data.input_shape=[5];"]),
    "classes for a regression": (
        numbered(9),
        REGRESSION,
        ConfigError,
        ["data.num_outputs=1: the targets are class indices", "data.task"],
    ),
    "two values where one is expected": (
        Examples(torch.zeros(9, 2), torch.zeros(9, 2)),
        REGRESSION,
        ConfigError,
        ["data.num_outputs=1: the targets are 2 values per example"],
    ),
    "NaN in the targets": (
        Examples(torch.zeros(3, 2), torch.tensor([0.0, torch.nan, 1.0])),
        REGRESSION,
        DataError,
        ["example 1 of the training part has NaN or infinite targets"],
    ),
    "values for a classification": (
        labelled(0.0, 0.5),
        {},
        ConfigError,
        ["data.task=classification: the targets have dtype torch.float32", "data.task=regression loss=mse"],
    ),
    "not a pair": (Listed([torch.zeros(2)]), {}, DataError, ["must be a pair (input, target), not Tensor"]),
    "a triple": (Listed([(torch.zeros(2), 0, 1)]), {}, DataError, ["must be a pair (input, target), not tuple"]),
    "a dictionary": (Wordy([0]), {}, DataError, ["must be a pair (input, target), not dict"]),
    "a picture": (
        PICTURE,
        {},
        DataError,
        ["must be (tensor, tensor or number), not (Image, int)", "PILToTensor"],
    ),
    "a text for a target": (Listed([(torch.zeros(2), "cat")]), {}, DataError, ["not (Tensor, str)"]),
    "no length": (Unsized(), {}, DataError, ["needs __len__"]),
    "empty stream": (Streamed([]), {}, DataError, ["the training stream is empty"]),
    "empty map-style data": (Listed([]), {}, DataError, ["the training part is empty"]),
    "empty data in memory": (numbered(0), {}, DataError, ["the training part is empty"]),
    "nothing left to train on": (
        labelled(0, 1),
        {"num_outputs": 2, "val_fraction": 0.9, "test_fraction": 0.5},
        DataError,
        ["2 examples leave none to train on", "data.val_fraction"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    data, settings, kind, said = REFUSED[name]
    with pytest.raises(kind) as refusal:
        split(data, **settings)
    for words in said:
        assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 4


def test_a_part_of_the_users_own_is_checked_like_the_others():
    with pytest.raises(ConfigError, match=r"labels of the val part go from 0 to 7"):
        split(Source(numbered(30), test=numbered(6)), val=labelled(0, 7))


def test_one_output_is_enough_for_two_classes():
    assert size(split(labelled(*[0, 1] * 20), num_outputs=1).train) == 32


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_one_value_an_example_may_lack_its_axis(shape):
    assert size(split(Examples(torch.zeros(40, 2), torch.rand(shape)), **REGRESSION).train) == 32
