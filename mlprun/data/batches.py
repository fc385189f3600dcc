"""Batches as a function of the step."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.augment import augment
from mlprun.data.loading import Positioned, PositionedStream, live_with_run, read_batches
from mlprun.data.nested import AnyBatch, Batch, NestedBatch
from mlprun.data.normalize import Normalizer
from mlprun.data.parts import Part, size
from mlprun.data.sequences import cut_padding, cut_to, lengths
from mlprun.data.source import Examples, Perturb

# Evaluation needs no gradients, so its batches may be larger than those of training; bounded by memory.
EVAL_EXAMPLES, EVAL_VALUES = 1024, 4_000_000
VALUES_PER_TOKEN = 64  # a token id becomes a vector in the model


class TrainBatches:
    """The training split, batch by batch: `starting_at(step)` continues anywhere.

    Args:
        part: the training split.
        batch_size: examples a step, or `all`; the last batch of an epoch may be smaller.
        normalizer: scales the inputs on the device.
        device: where batches go; data in memory moves there at once where it fits.
        seed: of the run.
        crop, flip: random changes of images held in memory (lazy data brings its own).
        num_workers: processes that read lazy data.
        targets: scales the targets of a regression; None leaves them as they are.
        padding: the token id that fills sequences up; batches are cut to their longest. None: no such sequences.
        perturb: changes each batch at random.
        bucketing: so many batches' examples are sorted by length together, of sequences in memory; 0: none.
        nested: examples are not pairs of input and target, and are only moved to the device.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int | str,
        normalizer: Normalizer,
        device: torch.device,
        seed: int,
        *,
        crop: int = 0,
        flip: bool = False,
        num_workers: int = 0,
        targets: Normalizer | None = None,
        padding: int | None = None,
        perturb: Perturb | None = None,
        bucketing: int = 0,
        nested: bool = False,
    ) -> None:
        self.nested = nested
        self.num_examples = size(part)
        if self.num_examples is None and batch_size == "all":
            raise TypeError("batch_size=all needs data of a known length")
        self.batch_size = int(self.num_examples if batch_size == "all" else batch_size)  # type: ignore[arg-type]
        if self.num_examples is not None:
            self.batch_size = min(self.batch_size, self.num_examples)
        in_memory = isinstance(part, Examples) and padding is not None
        self._lengths = lengths(part.inputs, padding) if in_memory else None  # type: ignore[union-attr, arg-type]
        if bucketing and self._lengths is None:
            raise TypeError("sorting by length needs sequences in memory")
        self.part = _moved(part, device) if isinstance(part, Examples) else part
        self.normalizer = normalizer.to(device)
        self.target_normalizer = None if targets is None else targets.to(device)
        self.device, self.seed, self.num_workers = device, seed, num_workers
        self.crop, self.flip = crop, flip
        self.padding, self.perturb, self.bucketing = padding, perturb, bucketing

    @property
    def steps_per_epoch(self) -> int | None:
        """Batches in a pass, or None where the data does not tell its length."""
        return None if self.num_examples is None else math.ceil(self.num_examples / self.batch_size)

    def noise_scale(self, lr: float) -> dict[str, float]:
        """`optim/noise_scale`, lr (N/B - 1) for N examples in batches of B; empty where N is not known.

        How far the noise of the batches moves a run of plain SGD (Smith and Le, 2018, section 4); with momentum m
        it is 1/(1 - m) times that. 0 for full batches.
        """
        if self.num_examples is None:
            return {}
        return {"optim/noise_scale": lr * (self.num_examples / self.batch_size - 1)}

    @property
    def is_stream(self) -> bool:
        """Whether a later step is reached only by reading up to it."""
        return isinstance(self.part, IterableDataset)

    def starting_at(self, step: int) -> Iterator[AnyBatch]:
        """The batches of steps `step`, `step + 1`, … without end."""
        if isinstance(self.part, Examples):
            return self._from_memory(step)
        if self.is_stream:
            return self._from_stream(step)
        return self._from_loader(step)

    def _orders(self, step: int) -> Iterator[tuple[int, Tensor]]:
        """(epoch, indices) of each batch from `step` on; the order of an epoch is a function of (seed, epoch)."""
        assert self.num_examples is not None
        assert self.steps_per_epoch is not None
        epoch, skip = divmod(step, self.steps_per_epoch)
        while True:
            order = torch.randperm(self.num_examples, generator=randomness.generator(self.seed, "order", epoch))
            for index in (self._by_length(order, epoch) if self.bucketing else order.split(self.batch_size))[skip:]:
                yield epoch, index
            epoch, skip = epoch + 1, 0

    def _by_length(self, order: Tensor, epoch: int) -> list[Tensor]:
        """The batches of an epoch, each of examples of about one length, in random order."""
        assert self._lengths is not None
        pools = order.split(self.bucketing * self.batch_size)
        pools = tuple(pool[self._lengths[pool].argsort(stable=True)] for pool in pools)
        batches = [index for pool in pools for index in pool.split(self.batch_size)]
        places = torch.randperm(len(batches), generator=randomness.generator(self.seed, "buckets", epoch))
        return [batches[place] for place in places.tolist()]

    def _from_memory(self, step: int) -> Iterator[Batch]:
        assert isinstance(self.part, Examples)
        where = self.part.inputs.device
        for position, (epoch, index) in enumerate(self._orders(step), start=step):
            chosen = self.part[index.to(where, non_blocking=True)]
            inputs, targets = chosen.inputs, chosen.targets
            if self.crop or self.flip:
                inputs = augment(inputs, self.crop, self.flip, randomness.generator(self.seed, "augment", position))
            if self._lengths is not None:
                inputs, targets = cut_to(inputs, targets, int(self._lengths[index].max()))
            yield self._batch(inputs, targets, epoch, position)

    def _from_loader(self, step: int) -> Iterator[AnyBatch]:
        assert isinstance(self.part, Dataset)
        positions = ([(epoch, i) for i in index.tolist()] for epoch, index in self._orders(step))
        epochs = (epoch for epoch, _ in self._orders(step))
        loader = self._loader(Positioned(self.part, self.seed), batch_sampler=positions)
        for position, (epoch, examples) in enumerate(zip(epochs, read_batches(loader), strict=False), start=step):
            yield self._of_loader(examples, epoch, position)

    def _from_stream(self, step: int) -> Iterator[AnyBatch]:
        """A stream is read from its start, and what lies before `step` is dropped."""
        assert isinstance(self.part, Dataset)
        position = 0
        for epoch in itertools.count():
            found = False
            stream = PositionedStream(self.part, self.seed, epoch)
            # One worker at most: how a stream divides itself over several is the user's own affair.
            loader = self._loader(stream, batch_size=self.batch_size, num_workers=min(self.num_workers, 1))
            for examples in read_batches(loader):
                found = True
                if position >= step:
                    yield self._of_loader(examples, epoch, position)
                position += 1
            if not found:
                return

    def _loader(self, dataset: Any, num_workers: int | None = None, **how: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=self.num_workers if num_workers is None else num_workers,
            pin_memory=self.device.type == "cuda",
            generator=randomness.generator(self.seed, "workers"),
            worker_init_fn=functools.partial(live_with_run, os.getpid()),
            **how,
        )

    def _of_loader(self, examples: Any, epoch: int, position: int) -> AnyBatch:
        if self.nested:
            return _nested(examples, epoch, self.device)
        inputs, targets = cut_padding(examples[0], examples[1], self.padding)
        return self._batch(inputs, targets, epoch, position)

    def _batch(self, inputs: Tensor, targets: Tensor, epoch: int, position: int) -> Batch:
        batch = _finished(inputs, targets, epoch, self.normalizer, self.target_normalizer, self.device)
        if self.perturb is None:
            return batch
        generator = randomness.generator(self.seed, "perturb", position)
        return Batch(*self.perturb(batch.inputs, batch.targets, generator), epoch)


class EvalBatches:
    """A split in its own order, once an iteration; the last batch may be smaller.

    Args:
        part: the split.
        batch_size: of training; data in memory is read in larger ones.
        normalizer, device, num_workers, targets: as for training.
        indices: the examples to read, None for all; not for a stream.
        padding, perturb: as for training; the same change of an example in every evaluation of every run.
        num_outputs: of each token, where a token has outputs of its own: those, too, must fit into memory.
        nested: as for training.
    """

    def __init__(
        self,
        part: Part,
        batch_size: int,
        normalizer: Normalizer,
        device: torch.device,
        num_workers: int = 0,
        targets: Normalizer | None = None,
        indices: Sequence[int] | None = None,
        padding: int | None = None,
        perturb: Perturb | None = None,
        num_outputs: int = 0,
        nested: bool = False,
    ) -> None:
        self.nested = nested
        if isinstance(part, Examples):
            if perturb is not None:  # all at once, so that it does not depend on the size of a batch
                generator = randomness.generator(0, "perturb")
                part = Examples(*perturb(part.inputs.long(), part.targets.long(), generator))
                perturb = None
            part = part if indices is None else part[torch.tensor(indices)]
        # Where the examples still are: a GPU would be waited for in every batch. (mypy does not look into `in_memory`.)
        in_memory = isinstance(part, Examples) and padding is not None
        self._lengths = lengths(part.inputs, padding) if in_memory else None  # type: ignore[union-attr, arg-type]
        self.padding, self.perturb, self._num_outputs = padding, perturb, num_outputs
        self.indices = indices
        self.part = _moved(part, device) if isinstance(part, Examples) else part
        self.batch_size, self.num_workers = batch_size, num_workers
        self.normalizer, self.device = normalizer.to(device), device
        self.target_normalizer = None if targets is None else targets.to(device)

    def __iter__(self) -> Iterator[Any]:  # of Batch, or with `nested` of NestedBatch
        if isinstance(self.part, Examples):
            values = max(1, self.part.inputs[:1].numel())
            if self.part.inputs.dtype in (torch.int32, torch.int64):
                values *= max(VALUES_PER_TOKEN, self._num_outputs)
            many = max(1, min(EVAL_EXAMPLES, EVAL_VALUES // values))
            for start in range(0, len(self.part), many):
                some = slice(start, start + many)
                inputs, targets = self.part.inputs[some], self.part.targets[some]
                if self._lengths is not None:
                    inputs, targets = cut_to(inputs, targets, int(self._lengths[some].max()))
                yield _finished(inputs, targets, 0, self.normalizer, self.target_normalizer, self.device)
            return
        # Data that draws gives every evaluation of every run the same, and takes nothing from the training.
        seed, workers = randomness.mix(0, "evaluation"), self.num_workers
        part: Dataset[Any] = Positioned(self.part, seed)
        chosen = range(size(self.part) or 0) if self.indices is None else self.indices
        order: list[Any] | None = [(0, index) for index in chosen]
        if isinstance(self.part, IterableDataset):
            part, order, workers = PositionedStream(self.part, seed, 0), None, min(workers, 1)
        loader = DataLoader(
            part, self.batch_size, sampler=order, num_workers=workers, pin_memory=self.device.type == "cuda",
            generator=torch.Generator(),  # else the loader draws its base seed from the global one
            worker_init_fn=functools.partial(live_with_run, os.getpid()),
        )  # fmt: skip
        with randomness.preserved():
            for number, examples in enumerate(read_batches(loader)):
                if self.nested:
                    yield _nested(examples, 0, self.device)
                    continue
                inputs, targets = cut_padding(examples[0], examples[1], self.padding)
                batch = _finished(inputs, targets, 0, self.normalizer, self.target_normalizer, self.device)
                if self.perturb is not None:
                    generator = randomness.generator(0, "perturb", number)
                    batch = Batch(*self.perturb(batch.inputs, batch.targets, generator))
                yield batch


def fits_in_memory(examples: Examples, device: torch.device) -> bool:
    """Whether the examples take at most half of the device's free memory, so that they are held there."""
    num_bytes = examples.inputs.nbytes + examples.targets.nbytes
    return device.type != "cuda" or num_bytes <= torch.cuda.mem_get_info(device)[0] / 2


def _moved(examples: Examples, device: torch.device) -> Examples:
    """The examples on the device, if they fit."""
    if device.type == "cpu":
        return examples
    if not fits_in_memory(examples, device):
        return Examples(examples.inputs.pin_memory(), examples.targets.pin_memory())
    return Examples(examples.inputs.to(device), examples.targets.to(device))


def _finished(
    inputs: Tensor,
    targets: Tensor,
    epoch: int,
    normalizer: Normalizer,
    target_normalizer: Normalizer | None,
    device: torch.device,
) -> Batch:
    inputs = normalizer(inputs.to(device, non_blocking=True))
    inputs = inputs.long() if inputs.dtype == torch.int32 else inputs
    targets = targets.to(device, non_blocking=True)
    targets = targets.long() if targets.dtype == torch.int32 else targets
    if targets.is_floating_point():
        targets = targets.to(torch.float32)
        targets = targets[:, None] if targets.dim() == 1 else targets
        targets = targets if target_normalizer is None else target_normalizer(targets)
    return Batch(inputs, targets, epoch)


def _nested(examples: Any, epoch: int, device: torch.device) -> NestedBatch:
    return NestedBatch(examples, epoch).map(lambda tensor: tensor.to(device, non_blocking=True))
