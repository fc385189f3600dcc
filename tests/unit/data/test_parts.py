"""What a data set of the user's own says about its targets and classes, by torchvision's conventions."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset

from mlprun.data.parts import known_targets, named_classes


class Own(Dataset):
    def __init__(self, **attributes):
        vars(self).update(attributes)

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.zeros(2), i % 2


@pytest.mark.parametrize(
    ("targets", "known"),
    [
        ([0, 1, 0, 1], True),
        (np.array([0, 1, 0, 1]), True),
        (torch.tensor([0, 1, 0, 1], dtype=torch.uint8), True),
        (["cat", "dog", "cat", "dog"], False),
        ([1, 2, 1, 2], False),  # numbered from 1, which __getitem__ corrects
        ([1, 0, 1, 0], False),  # before a target_transform
        ([0, 1], False),
        (7, False),
        ({"a": 0}, False),
        ([[0], [1, 2], [0], [1]], False),
        ([None] * 4, False),
    ],
)
def test_targets_are_used_where_they_are_those_of_the_examples(targets, known):
    found = known_targets(Own(targets=targets))
    assert (found is not None) == known
    part = known_targets(Subset(Own(targets=targets), [1, 3]))
    assert part is None if not known else part.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("classes", "names", "warned"),
    [
        (["cat", "dog"], ("cat", "dog"), False),
        (np.array(["cat", "dog"]), ("cat", "dog"), False),
        ([("tench", "Tinca tinca"), ("shark",)], ("tench, Tinca tinca", "shark"), False),  # ImageNet's
        ([3, 7], ("3", "7"), False),
        ({"cat": 0, "dog": 1}, (), False),
        (None, (), False),
        (2, (), False),
        (["cat"], (), True),
        (["cat", "cat"], (), True),
    ],
)
def test_the_names_of_classes(caplog, classes, names, warned):
    with caplog.at_level(logging.WARNING, "mlprun"):
        assert named_classes(Own(classes=classes), 2) == names
        assert named_classes(Subset(Own(classes=classes), [0]), 2) == names
    assert bool(caplog.records) == warned
