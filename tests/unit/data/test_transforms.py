"""Transforms of one input at a time: what they draw, where they act, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset
from torchvision.transforms import v2

from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.source import Examples, Source
from mlprun.data.splits import Splits, make_splits
from mlprun.data.transforms import Chain, Transforms
from mlprun.errors import ConfigError, UserError

CPU = torch.device("cpu")
IMAGES = Examples(
    torch.randint(0, 256, (40, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(40) % 2,
)


class Lazy(Dataset[Any]):
    targets = IMAGES.targets

    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> Any:
        return IMAGES.inputs[index], int(IMAGES.targets[index])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return (Lazy()[index] for index in range(40))


def chain(*steps: Any, key: str = "train", shape: tuple[int, ...] = (3, 12, 12)) -> Chain:
    return Chain(f"data.transforms.{key}", [(type(step).__name__, step) for step in steps], shape)


def split(source: Any, **lists: Chain) -> Splits:
    chosen: Chain = next(iter(lists.values()))
    return make_splits(
        source if isinstance(source, Source) else Source(source, value_range=(0, 255)), val=None,
        task="classification", input_shape=list(chosen.input_shape), num_outputs=2, val_fraction=0.2,
        test_fraction=0.2, split_seed=0, normalize="standardize", limit=None, limit_eval=None,
        transforms=Transforms(**lists),
    )  # fmt: skip


def batches_of(splits: Splits, start: int, count: int, **how: Any) -> list[torch.Tensor]:
    batches = iter(TrainBatches(splits.train, 7, splits.normalizer, CPU, 0, **how).starting_at(start))
    return [next(batches).inputs for _ in range(count)]


DRAWING = (v2.RandAugment(), v2.GaussianBlur(3), v2.RandomErasing(p=0.5))


@pytest.mark.parametrize("source", [IMAGES, Lazy(), Stream()], ids=["memory", "lazy", "stream"])
def test_what_is_drawn_depends_on_the_place_alone(source):
    """Neither on where a run was resumed, nor on the number of workers, nor on what else is drawn."""
    splits = split(source, train=chain(*DRAWING))
    whole = batches_of(splits, 0, 9)
    torch.rand(3)
    assert all(map(torch.equal, batches_of(splits, 5, 4), whole[5:]))
    assert all(map(torch.equal, batches_of(splits, 5, 4, num_workers=2), whole[5:]))
    assert not torch.equal(whole[0].sort(0).values, whole[4].sort(0).values)  # another epoch draws others


def test_in_memory_and_lazily_the_same_is_drawn():
    one, other = (split(source, train=chain(*DRAWING)) for source in (IMAGES, Lazy()))
    assert all(map(torch.equal, batches_of(one, 3, 3), batches_of(other, 3, 3)))


def test_a_transform_in_place_leaves_the_stored_examples_as_they_are():
    before = IMAGES.inputs.clone()
    batches_of(split(IMAGES, train=chain(lambda image: image.zero_())), 0, 5)
    assert torch.equal(IMAGES.inputs, before)


@pytest.mark.parametrize("source", [IMAGES, Lazy(), Stream()], ids=["memory", "lazy", "stream"])
def test_evaluations_and_statistics_see_the_evaluations_transforms(source):
    shape = (3, 8, 8)
    last = chain(v2.CenterCrop(8), v2.ConvertImageDtype(), key="eval", shape=shape)
    splits = split(source, train=chain(v2.RandomCrop(8), v2.ConvertImageDtype(), shape=shape), eval=last)
    for part in (splits.val, splits.test):
        inputs = torch.cat([batch.inputs for batch in EvalBatches(part, 5, splits.normalizer, CPU)])
        assert inputs.shape[1:] == shape
        raw = splits.normalizer.inverse(inputs)
        stored = {image[:, 2:10, 2:10].numpy().tobytes() for image in IMAGES.inputs}
        assert {(image * 255).round().to(torch.uint8).numpy().tobytes() for image in raw} <= stored
    assert isinstance(splits.test, Examples) == (source is IMAGES)  # transformed once
    assert 0.3 < float(splits.normalizer.shift.mean()) < 0.7
    assert splits.image_format()["transformed"] == {"shape": [3, 12, 12], "range": None}


def test_an_empty_list_for_training_is_the_evaluations():
    splits = split(IMAGES, eval=chain(v2.CenterCrop(8), key="eval", shape=(3, 8, 8)))
    assert isinstance(splits.train, Examples)
    assert splits.train.inputs.shape[1:] == (3, 8, 8)


def test_a_random_transform_draws_the_same_in_every_evaluation():
    splits = split(Lazy(), eval=chain(v2.RandomCrop(8), key="eval", shape=(3, 8, 8)))
    batches = EvalBatches(splits.val, 5, splits.normalizer, CPU)
    one, other = (torch.cat([batch.inputs for batch in batches]) for _ in range(2))
    assert torch.equal(one, other)
    in_memory = split(IMAGES, eval=chain(v2.RandomCrop(8), key="eval", shape=(3, 8, 8)))
    assert torch.equal(torch.cat([b.inputs for b in EvalBatches(in_memory.val, 5, splits.normalizer, CPU)]), one)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda image: None, "[1]=function: returns None"),
        (lambda image: image.long(), "[1]=function: returns a tensor of type int64"),
        (lambda image: image / 0, "[1]=function: returns NaN or infinity"),
        (lambda image: image[:, :5], "gives inputs of shape [3,5,12], and data.input_shape=[3,12,12]"),
        (v2.ToPILImage(), "[1]=ToPILImage: ends the list with an object of type Image"),
        (v2.Normalize([0.5], [0.5]), "[1]=Normalize: fails with a tensor of type uint8"),
    ],
)  # fmt: skip
def test_a_result_that_is_no_input_names_the_transform(step, message):
    with pytest.raises(ConfigError) as caught:
        split(IMAGES, train=chain(v2.RandomHorizontalFlip(), step))
    assert message in str(caught.value)
    assert str(caught.value).startswith("data.transforms.train[1]")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("source", [IMAGES, Lazy()], ids=["memory", "lazy"])
def test_an_error_of_a_later_example_names_it_in_one_message(source, num_workers):
    def fails_later(image: torch.Tensor) -> torch.Tensor:
        return image / 0 if later and torch.rand(()) < 0.5 else image

    later = False
    splits = split(source, train=chain(v2.RandomHorizontalFlip(), fails_later))
    later = True
    with pytest.raises(UserError) as caught:
        batches_of(splits, 0, 9, num_workers=num_workers)
    said = (
        r"data\.transforms\.train\[1\]=function: returns NaN or infinity \(example \d+\)\n  correct it, or leave it out"
    )
    assert re.fullmatch(said, str(caught.value))
    assert caught.value.exit_status == 2


def test_bytes_in_one_list_and_floats_in_the_other_are_refused():
    with pytest.raises(ConfigError, match="gives float32, and evaluations see uint8"):
        split(IMAGES, train=chain(v2.ConvertImageDtype()))


def test_targets_of_data_in_memory_are_checked_as_without_transforms():
    wrong = Examples(IMAGES.inputs, IMAGES.targets + 1)
    with pytest.raises(ConfigError, match=r"data\.num_outputs"):
        split(wrong, eval=chain(v2.RandomHorizontalFlip(), key="eval"))
