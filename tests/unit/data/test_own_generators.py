"""Who draws from a generator that nobody seeds."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.own_generators import warn_of_own_generators

OF_THE_MODULE = np.random.default_rng(0)


class Drawing(Dataset[Any]):
    """Examples of `draw(self, index)`."""

    def __init__(self, draw: Any, **attributes: Any) -> None:
        self.draw = draw
        vars(self).update(attributes)

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index), self.draw(self, index)]), index % 2


class Stream(IterableDataset[Any]):
    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __iter__(self) -> Any:
        return (torch.tensor([self.rng.random()]) for _ in range(5))


class Noise:
    def __init__(self) -> None:
        self.rng = random.Random(0)

    def __call__(self) -> float:
        return self.rng.random()


class Inner:
    def __init__(self) -> None:
        self.noise = Noise()


def reseeded(data: Any, index: int) -> float:
    data.rng.manual_seed(index)
    return float(torch.rand((), generator=data.rng))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Drawing(lambda d, i: d.rng.random(), rng=np.random.default_rng(0)), "self.rng"),
        (Drawing(lambda d, i: d.rng.rand(), rng=np.random.RandomState(0)), "self.rng"),
        (Drawing(lambda d, i: d.rng.random(), rng=random.Random(0)), "self.rng"),
        (Drawing(lambda d, i: torch.rand((), generator=d.rng), rng=torch.Generator()), "self.rng"),
        (Drawing(lambda d, i: d.transforms[0](), transforms=[Noise()]), "self.transforms[0].rng"),
        (Drawing(lambda d, i: d.inner.noise(), inner=Inner()), "self.inner.noise.rng"),
        (Drawing(lambda d, i: d.rng.random() if i > 4 else 0, rng=random.Random(0)), "self.rng"),  # not the first
        (Drawing(lambda d, i: OF_THE_MODULE.random()), "a generator or a state"),
        (Drawing(lambda d, i: int.from_bytes(os.urandom(3), "big")), "a generator or a state"),
        (Stream(), "self.rng"),
        (Drawing(lambda d, i: random.random() + np.random.rand() + float(torch.rand(()))), ""),
        (Drawing(lambda d, i: 1.0, rng=np.random.default_rng(0)), ""),  # of its constructor
        (Drawing(lambda d, i: np.random.default_rng(i).random()), ""),
        (Drawing(reseeded, rng=torch.Generator()), ""),
        (Drawing(lambda d, i: d.rng.random_sample(), rng=np.random.mtrand._rand), ""),  # the global one
        (Drawing(lambda d, i: float("nan")), ""),
        (None, ""),
    ],
)  # fmt: skip
def test_a_generator_that_nobody_seeds_is_named(caplog, data, said):
    warn_of_own_generators(data)
    assert said in caplog.text
    assert len(caplog.records) == bool(said)


def test_all_generators_are_left_as_they_were():
    own = np.random.default_rng(3)
    randomness.seed_all(1)
    warn_of_own_generators(Drawing(lambda d, i: d.rng.random() + random.random() + np.random.rand(), rng=own))
    after = own.random(), random.random(), np.random.rand(), float(torch.rand(()))
    randomness.seed_all(1)
    assert after == (np.random.default_rng(3).random(), random.random(), np.random.rand(), float(torch.rand(())))
