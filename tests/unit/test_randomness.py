"""Randomness is a function of (seed, position); nothing else that draws can move it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
import torch

from mlprun import randomness
from tests.helpers.lines import run_code

POSITIONS = [(), ("order", 0), ("order", 1), ("noise", 0), ("noise", 1), ("example", 0, 1), ("example", 1, 0)]


def test_mix_tells_every_seed_and_position_apart():
    keys = [(seed, *position) for seed in (0, 1, 2, 12345) for position in POSITIONS]
    seeds = [randomness.mix(*key) for key in keys]
    assert len(set(seeds)) == len(keys)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [randomness.mix(*key) for key in keys]
    # Digits that run together, or a number beside its text, are other positions.
    assert randomness.mix(1, 11) != randomness.mix(11, 1)
    assert randomness.mix(0, "1") != randomness.mix(0, 1)


def test_mix_is_the_same_in_another_process(tmp_path):
    """Python's own hash would not be: it is salted by process."""
    line = "from mlprun import randomness; print(randomness.mix(3, 'order', 7))"
    assert int(run_code(tmp_path, line).out) == randomness.mix(3, "order", 7)


def test_seeds_of_neighbouring_positions_are_unrelated():
    bits = [randomness.mix(0, "noise", step) for step in range(400)]
    differing = [(a ^ b).bit_count() for a, b in itertools.pairwise(bits)]
    assert 30 < np.mean(differing) < 33  # half of 63


def test_generator_has_a_state_of_its_own():
    before = torch.get_rng_state()
    drawn = torch.rand(5, generator=randomness.generator(0, "order", 3))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(drawn, torch.rand(5, generator=randomness.generator(0, "order", 3)))
    assert not torch.equal(drawn, torch.rand(5, generator=randomness.generator(0, "order", 4)))


def test_seed_torch_is_what_manual_seed_would_be():
    randomness.seed_torch(5, "noise", 2)
    drawn = torch.rand(4), torch.randn(3), torch.randperm(10)
    torch.manual_seed(randomness.mix(5, "noise", 2))
    again = torch.rand(4), torch.randn(3), torch.randperm(10)
    assert all(map(torch.equal, drawn, again))


def test_seed_all_seeds_python_numpy_and_torch():
    def draw(*key: object) -> tuple[float, float, float]:
        randomness.seed_all(*key)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    assert draw(0, "example", 1) == draw(0, "example", 1)
    assert all(a != b for a, b in zip(draw(0, "example", 1), draw(0, "example", 2), strict=True))
    assert all(a != b for a, b in zip(draw(0, "example", 1), draw(1, "example", 1), strict=True))


@pytest.mark.parametrize("deterministic", [True, False])
def test_set_determinism_switches_everything(tmp_path, deterministic):
    program = (
        "import os, torch\n"
        "from mlprun import randomness\n"
        "os.environ.pop('CUBLAS_WORKSPACE_CONFIG', None)\n"
        f"randomness.set_determinism({deterministic})\n"
        "print(torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark)\n"
        "print(os.environ.get('CUBLAS_WORKSPACE_CONFIG'), torch.utils.deterministic.fill_uninitialized_memory)\n"
    )
    workspace = ":4096:8" if deterministic else "None"
    assert run_code(tmp_path, program).out.split() == [str(deterministic), str(not deterministic), workspace, "False"]
