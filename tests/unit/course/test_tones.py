"""Made-up tones: balanced, and told apart by how their pitch goes alone."""

from __future__ import annotations

import pytest
import torch

from mlprun.course.tones import tones
from mlprun.data.source import Examples
from mlprun.errors import ConfigError
from tests.helpers.sounds import AUDIO


def examples(part: object) -> Examples:
    assert isinstance(part, Examples)
    return part


TONES = {**AUDIO, "num_mels": 40, "f_min": 100.0}


def test_tones_are_the_same_bits_for_the_same_seed_and_balanced():
    first, second, other = (examples(tones(TONES, 200, seed=seed).train) for seed in (3, 3, 4))
    assert torch.equal(first.inputs, second.inputs)
    assert not torch.equal(first.inputs, other.inputs)
    assert torch.bincount(first.targets).tolist() == [50] * 4
    assert first.inputs.shape == (200, 1, 40, 48)


def test_each_class_of_tones_goes_as_its_name_says():
    source = tones(TONES, 400, snr_db=30, seed=0)
    part = examples(source.train)
    for picture, target in zip(part.inputs[:, 0], part.targets, strict=True):
        there = picture.amax(0) > picture.amax(0).max() - 10
        pitch = 39 - picture.argmax(0)[there]  # band of each frame
        first, middle, last = (float(pitch[round(at * (len(pitch) - 1))]) for at in (0.1, 0.5, 0.9))
        found = "rising" if first < middle < last else "falling" if first > middle > last else (
            "hill" if middle > max(first, last) else "valley")  # fmt: skip
        assert found == source.class_names[target]


def test_the_mean_spectrum_does_not_tell_tones():
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    part = examples(tones(TONES, 2000, seed=0).train)
    means = StandardScaler().fit_transform(part.inputs[:, 0].mean(2).numpy())
    model = LogisticRegression(max_iter=500).fit(means[:1500], part.targets[:1500])
    assert model.score(means[1500:], part.targets[1500:]) < 0.33


@pytest.mark.parametrize(("argument", "value"), [("num_samples", 3), ("octaves", 0.0)])
def test_tones_that_cannot_be(argument, value):
    with pytest.raises(ConfigError, match=argument):
        tones(TONES, **{argument: value})
