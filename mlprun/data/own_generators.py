"""Data sets that draw from a generator of their own, which nobody seeds for an example."""

from __future__ import annotations

import logging
import pickle
import random
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, default_collate

from mlprun import randomness
from mlprun.data.nested import iter_tensors
from mlprun.data.source import Examples, Part

log = logging.getLogger("mlprun")
MOST_ITEMS, DEEPEST = 100, 4  # of a container, and of attributes of attributes, that are searched
NUM_PROBED = 8  # examples of a data set that has a generator

# type, how to read its state and how to restore it
KINDS: tuple[tuple[type, Callable[[Any], Any], Callable[[Any, Any], None]], ...] = (
    (random.Random, lambda own: own.getstate(), lambda own, state: own.setstate(state)),
    (np.random.Generator, lambda own: own.bit_generator.state, lambda own, s: setattr(own.bit_generator, "state", s)),
    (np.random.RandomState, lambda own: own.get_state(), lambda own, state: own.set_state(state)),
    (torch.Generator, lambda own: own.get_state().numpy(), lambda own, s: own.set_state(torch.from_numpy(s))),
)


def warn_of_own_generators(part: Part | None) -> None:
    """Warn if an example of lazy data is another one when it is read again after the same seeding.

    The examples of a worker process, of a run that is resumed and of one that is not would differ. Generators are left
    as they were.
    """
    if part is None or isinstance(part, Examples):
        return
    own = dict(_generators(part, "self", DEEPEST))
    saved = {path: kind[1](generator) for path, (generator, kind) in own.items()}
    drawn, differs = set(), False

    def read(index: int) -> tuple[dict[str, bytes], list[Tensor]]:
        randomness.seed_all(0, "own generators")
        example = next(iter(part)) if isinstance(part, IterableDataset) else part[index]
        states = {path: pickle.dumps(kind[1](generator)) for path, (generator, kind) in own.items()}
        return states, list(iter_tensors(default_collate([example])))

    with randomness.preserved():
        for index in _probed(part, has_generators=bool(own)):
            (before, first), (after, second) = read(index), read(index)
            drawn |= {path for path in own if before[path] != after[path]}
            differs = differs or not all(map(_is_same, first, second))
    for path, (generator, kind) in own.items():
        kind[2](generator, saved[path])
    if drawn or differs:
        source = f"a generator of its own ({', '.join(sorted(drawn))})" if drawn else "a generator or a state"
        log.warning(
            "%s draws from %s that mlprun does not seed: workers draw the same numbers, and a resumed run others"
            "\n  draw from torch, numpy.random or random, which are seeded by (seed, epoch, index) for every example",
            type(part).__qualname__,
            source,
        )


def _probed(part: Any, *, has_generators: bool) -> list[int]:
    """Examples to read twice; of a stream the first, and only if there is a reason, for it may be slow to open."""
    if isinstance(part, IterableDataset):
        return [0] * has_generators
    count = min(len(part), NUM_PROBED) if has_generators else 1
    return [i * len(part) // count for i in range(count)]


def _generators(value: Any, path: str, depth: int) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Generators in the attributes of an object, by path."""
    for kind in KINDS:
        if isinstance(value, kind[0]) and not isinstance(value, random.SystemRandom):
            yield path, (value, kind)
            return
    if depth == 0 or isinstance(value, str | bytes | Tensor | np.ndarray | nn.Module | type):
        return
    if isinstance(value, dict):
        items = [(f"{path}[{key!r}]", item) for key, item in islice(value.items(), MOST_ITEMS)]
    elif isinstance(value, list | tuple):
        items = [(f"{path}[{i}]", item) for i, item in enumerate(value[:MOST_ITEMS])]
    else:
        items = [(f"{path}.{name}", item) for name, item in getattr(value, "__dict__", {}).items()]
    for name, item in items:
        yield from _generators(item, name, depth - 1)


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one != one)).all())
