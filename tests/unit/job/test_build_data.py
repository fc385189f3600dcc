"""Keys that do not suit the kind of input are refused, whatever the data."""

from __future__ import annotations

import pytest

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.schema import Audio
from mlprun.errors import ConfigError
from mlprun.job.build_data import build_splits


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
