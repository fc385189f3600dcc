"""Parts of a data set: their sizes, and the parts of a stream."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, Subset

from mlprun import randomness
from mlprun.data.source import Examples, Part


def size(part: Part) -> int | None:
    """Number of examples, or None if unknown."""
    try:
        return len(part)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def known_targets(part: Part) -> Tensor | None:
    """All targets of a part, if they are known without reading the examples: `targets`, torchvision's convention.

    None if that attribute does not hold a number, or some, for each example.
    """
    if isinstance(part, Examples):
        return part.targets
    if isinstance(part, Subset):
        of_all = known_targets(part.dataset)
        return None if of_all is None else of_all[torch.as_tensor(part.indices)]
    try:
        targets = torch.as_tensor(getattr(part, "targets", None))
    except (TypeError, ValueError, RuntimeError):  # missing, or such as names
        return None
    return targets if targets.dim() > 0 and len(targets) == size(part) else None


def take(part: Part, index: Tensor) -> Part:
    return part[index] if isinstance(part, Examples) else Subset(part, index.tolist())


def limit_examples(part: Part, limit: int | None, seed: int) -> Part:
    """At most `limit` examples: the first of a stream, else a random choice in the part's own order."""
    if limit is None:
        return part
    if isinstance(part, IterableDataset):
        return StreamHead(part, limit)
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
