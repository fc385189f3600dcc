"""Randomness as a function of (seed, position), and the determinism switches.

Nothing carries a random state along. The weights, the order of epoch `e`, the noise of step `s` and the
transformation of example `i` in epoch `e` each come from a generator that is seeded for that position, so
a run that continues at step `s` draws what an uninterrupted one draws (as EDM2's training loop does).
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def mix(seed: int, *position: str | int) -> int:
    """A 63-bit seed for one purpose at one position, such as `mix(seed, "order", epoch)`."""
    digest = hashlib.blake2b(repr((seed, *position)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, *position: str | int) -> torch.Generator:
    """A CPU generator of its own for one purpose at one position."""
    return torch.Generator().manual_seed(mix(seed, *position))


def seed_torch(seed: int, *position: str | int) -> None:
    """Seed torch's global generators, on every device that is in use.

    Cheaper than `torch.manual_seed` (1 against 120 microseconds with a CUDA build), so that it can be
    done at every step.
    """
    value = mix(seed, *position)
    torch.default_generator.manual_seed(value)
    if torch.cuda.is_initialized():
        for device_generator in torch.cuda.default_generators:
            device_generator.manual_seed(value)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(value)


def seed_all(seed: int, *position: str | int) -> None:
    """Seed Python, NumPy and torch; for code of the user's that draws from any of them."""
    value = mix(seed, *position)
    random.seed(value)
    np.random.seed(value % 2**32)
    seed_torch(seed, *position)


@contextmanager
def preserved() -> Iterator[None]:
    """Give the global CPU generators back as they were, whatever draws from or seeds them meanwhile."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def set_determinism(deterministic: bool) -> None:
    """Ask torch for kernels that give the same bits again, or allow the others.

    An operation without a deterministic kernel then raises a RuntimeError that names it.
    """
    if deterministic:
        # cuBLAS reads this when its first handle is made; the value is the one its manual names.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    # Filling fresh memory with NaN finds bugs but costs time, and changes no result of correct code.
    # (torch sets the attribute on its module by a property, which a type checker cannot see)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
