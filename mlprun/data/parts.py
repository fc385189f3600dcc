"""Parts of a data set: their sizes, and the parts of a stream."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, IterableDataset, Subset

from mlprun import randomness
from mlprun.data.source import Examples, Part
from mlprun.data.transforms import Transformed

log = logging.getLogger("mlprun")


def size(part: Part) -> int | None:
    """Number of examples, or None if unknown."""
    try:
        return len(part)  # type: ignore[arg-type]  # torch's Dataset declares no length
    except (TypeError, NotImplementedError):
        return None


def known_targets(part: Part) -> Tensor | None:
    """All targets of a part, if they are known without reading the examples: `targets`, torchvision's convention.

    None if that attribute does not hold a number, or some, for each example, or if its first or last are not what the
    data set gives with the example.
    """
    if isinstance(part, Examples):
        return part.targets
    if isinstance(part, Transformed):
        return known_targets(part.dataset)
    if isinstance(part, Subset):
        of_all = known_targets(part.dataset)
        return None if of_all is None else of_all[torch.as_tensor(part.indices)]
    if isinstance(part, ConcatDataset):
        known = [targets for each in part.datasets if (targets := known_targets(each)) is not None]
        return torch.cat(known) if len(known) == len(part.datasets) else None
    try:
        targets = torch.as_tensor(getattr(part, "targets", None))
    except (TypeError, ValueError, RuntimeError):  # missing, or such as names
        return None
    if targets.dim() == 0 or len(targets) != size(part):
        return None
    with randomness.preserved(), suppress(Exception):  # else a batch of these examples is what fails
        if all(torch.equal(torch.as_tensor(part[i][1]).to(targets), targets[i]) for i in (0, len(targets) - 1)):
            return targets
    return None


def named_classes(part: Part, count: int) -> tuple[str, ...]:
    """The names of `count` classes, if a data set has them: `classes`, torchvision's convention."""
    classes = getattr(part, "classes", None)
    if classes is None and isinstance(part, Subset | Transformed):
        return named_classes(part.dataset, count)
    if not isinstance(classes, list | tuple | np.ndarray):
        return ()
    names = tuple(", ".join(map(str, name)) if isinstance(name, list | tuple) else str(name) for name in classes)
    if len(set(names)) == len(names) == count:
        return names
    problem = f"has {len(names)} classes" if len(names) != count else "has several classes of one name"
    log.warning(
        "the names of %s.classes are not used: it %s, and data.num_outputs gives %s",
        type(part).__name__,
        problem,
        count,
    )
    return ()


def take(part: Part, index: Tensor) -> Part:
    if isinstance(part, Transformed):
        return Transformed(take(part.dataset, index), part.chain)
    return part[index] if isinstance(part, Examples) else Subset(part, index.tolist())


def limit_examples(part: Part, limit: int | None, seed: int) -> Part:
    """At most `limit` examples: the first of a stream, else a random choice in the part's own order."""
    if limit is None:
        return part
    if isinstance(part, IterableDataset):
        return StreamHead(part, limit)
    # no stream here, so it has a length
    order = torch.randperm(len(part), generator=randomness.generator(seed, "limit"))  # type: ignore[arg-type]
    return take(part, order[:limit].sort().values)


class StreamPart(IterableDataset[Any]):
    """The examples of a stream whose position falls into one of three shares, drawn from (seed, position)."""

    def __init__(self, stream: IterableDataset[Any], shares: tuple[float, float], part: str, seed: int) -> None:
        self.stream, self.shares, self.part, self.seed = stream, shares, part, seed

    def __iter__(self) -> Iterator[Any]:
        val, test = self.shares
        for position, example in enumerate(self.stream):
            draw = randomness.mix(self.seed, "stream", position) / 2**63
            part = "val" if draw < val else "test" if draw < val + test else "train"
            if part == self.part:
                yield example


class StreamHead(IterableDataset[Any]):
    def __init__(self, stream: IterableDataset[Any], count: int) -> None:
        self.stream, self.count = stream, count

    def __iter__(self) -> Iterator[Any]:
        return islice(self.stream, self.count)
