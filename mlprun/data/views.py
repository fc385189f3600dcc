"""Examples under the random transformations of training, several draws of each: for test-time augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from mlprun import randomness
from mlprun.data.augment import augment
from mlprun.data.batches import EvalBatches
from mlprun.data.loading import Positioned, read_batches
from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.parts import size
from mlprun.data.source import Examples, Part


def augmented(part: Part, crop: int, flip: bool) -> Part | None:
    """Lazy examples under `data.augment`; those in memory as they are; None if the data set cannot."""
    if isinstance(part, Examples):
        return part
    if isinstance(part, Subset):
        inner = augmented(part.dataset, crop, flip)
        return None if inner is None else Subset(inner, part.indices)  # type: ignore[arg-type]  # no Examples
    made = getattr(part, "augmented", None)
    return made(crop, flip) if callable(made) else None


class ViewBatches(EvalBatches):
    """A split in its own order; inputs are (num_views, N, *input_shape).

    What view v of example i draws is a function of (seed, v, i).

    Args:
        crop, flip: of images held in memory; lazy data does its own.
        how: the other arguments of `EvalBatches`.
    """

    def __init__(self, *args: Any, seed: int, num_views: int, crop: int, flip: bool, **how: Any) -> None:
        super().__init__(*args, **how)
        self.seed, self.num_views, self.crop, self.flip = seed, num_views, crop, flip

    def _from_memory(self, part: Examples, first: int, step: int) -> Iterator[Batch]:
        for rows in self._rows(part)[first::step]:
            chosen = part[rows]
            views = []
            for view in range(self.num_views):
                generator = randomness.generator(self.seed, "view", view, rows.start)
                images = augment(chosen.inputs, self.crop, self.flip, generator, rows.stop - rows.start)
                views.append(self._batch(images, chosen.targets, 0, 0))
            yield Batch(torch.stack([view.inputs for view in views]), views[0].targets)

    def _from_loader(self, part: Dataset[Any], first: int, step: int) -> Iterator[AnyBatch]:
        indices = torch.arange(size(part) or 0).split(self.batch_size)
        positions = [[(view, i) for view in range(self.num_views) for i in chunk.tolist()] for chunk in indices]
        dataset = Positioned(part, randomness.mix(self.seed, "view"))
        loader = self._loader(dataset, self.num_workers, torch.Generator(), batch_sampler=positions[first::step])
        with randomness.preserved():
            for examples in read_batches(loader):
                batch = self._loaded(examples, 0, 0)
                assert isinstance(batch, Batch)
                inputs, targets = batch.inputs.unflatten(0, (self.num_views, -1)), batch.targets
                yield Batch(inputs, targets[: inputs.shape[1]])
