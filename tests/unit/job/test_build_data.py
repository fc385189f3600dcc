"""Keys that do not suit the kind of input are refused, whatever the data."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.schema import Audio
from mlprun.errors import ConfigError
from mlprun.job.build_data import build_splits, build_train_batches


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data.text.max_length=9", "data.text.max_length=9: is for text, and digits is none\n  leave it out"),
        ("data=tones data.text.bucketing=2", "data.text.bucketing=2: is for text, and tones is none\n  leave it out"),
        ("data=tones data.augment.flip=true", "is for images: it would play sound backwards"),
        ("data=reviews data.augment.crop=1", "data.augment.crop=1: is for images, and these inputs have the shape 48"),
    ],
)
def test_keys_of_another_kind_of_input_are_refused(line, message):
    with pytest.raises(ConfigError) as error:
        build_splits(check(Composer().compose(line.split())))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("audio", "typed"), [(Audio(seconds=2.0), "data.audio.seconds=2.0"), (Audio(), "data.audio={}")]
)
def test_numbers_with_keys_of_sounds_are_refused(audio, typed):
    """As a YAML file of one's own may give them; `predict` would take its arguments for sounds."""
    config = check(Composer().compose([]))
    config.data.audio = audio
    with pytest.raises(ConfigError, match=f"{typed}: is for audio, and digits is none"):
        build_splits(config)


class Lazy(Dataset):
    """Its labels are unknown."""

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return torch.zeros(4), index % 5 % 3


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(torch.zeros(4), index % 3) for index in range(50)])


class Known(Lazy):
    targets = (0, 1, 2, 0, 1) * 10


OWN = ["data=iris", "data.normalize=none", f"data.dataset._target_={__name__}."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["data=diabetes"], "data.task=regression does not give each example one class"),
        ([*OWN[:2], OWN[2] + "Stream"], "a stream is read in its own order"),
        (
            [*OWN[:2], OWN[2] + "Lazy"],
            "are unknown until all examples are read\n  give the data set an attribute `targets`",
        ),
    ],
)
def test_classes_that_are_unknown_cannot_be_drawn_equally_often(line, message):
    config = check(Composer().compose([*line, "data.sampler=balanced"]))
    with pytest.raises(ConfigError) as caught:
        build_train_batches(config, build_splits(config), torch.device("cpu"))
    assert message in str(caught.value)


def test_known_classes_of_lazy_data_are_drawn_equally_often():
    config = check(Composer().compose([*OWN[:2], OWN[2] + "Known", "data.sampler=balanced"]))
    splits = build_splits(config)
    batches = build_train_batches(config, splits, torch.device("cpu"))
    assert batches.num_examples == len(splits.train)
    assert next(batches.starting_at(0)).targets.max() == 2
