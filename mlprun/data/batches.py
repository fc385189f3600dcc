"""Batches as a function of the step."""

from __future__ import annotations

import functools
import itertools
import math
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.augment import augment
from mlprun.data.digest import Digest
from mlprun.data.first_pass import FirstPass
from mlprun.data.loading import Positioned, PositionedStream, live_with_run, read_batches
from mlprun.data.nested import AnyBatch, Batch, NestedBatch
from mlprun.data.normalize import Normalizer
from mlprun.data.parts import size
from mlprun.data.sequences import cut_padding, cut_to, lengths
from mlprun.data.source import Examples, Part, Perturb

# Evaluation needs no gradients, so its batches may be larger than those of training; bounded by memory.
EVAL_EXAMPLES, EVAL_VALUES = 1024, 4_000_000
Watch = Callable[[Tensor, Tensor, int], None]
VALUES_PER_TOKEN = 64  # a token id becomes a vector in the model


class _Batches:
    """What training and evaluation share: where the examples are, how they are read and scaled.

    Args:
        device: of the batches; data in memory moves there at once if it fits.
        targets: scales the targets of a regression; None leaves them as they are.
        padding: the token id that fills sequences up; batches are cut to their longest sequence. None: no sequences.
        perturb: changes each batch at random.
        nested: examples have any structure of tensors, and are only moved to the device.
        watch: gets inputs, targets and epoch of each batch of lazy data on the CPU, before it moves to the device.
    """

    def __init__(
        self,
        part: Part,
        normalizer: Normalizer,
        device: torch.device,
        seed: int,
        num_workers: int = 0,
        targets: Normalizer | None = None,
        padding: int | None = None,
        perturb: Perturb | None = None,
        nested: bool = False,
        watch: Watch = lambda inputs, targets, epoch: None,
    ) -> None:
        self._lengths: Tensor | None = None
        if isinstance(part, Examples):
            if padding is not None:  # before they move to a GPU, which every batch would wait for
                self._lengths = lengths(part.inputs, padding)
            part = _moved(part, device)
        self.part, self.device, self.seed, self.num_workers = part, device, seed, num_workers
        self.normalizer = normalizer.to(device)
        self.target_normalizer = None if targets is None else targets.to(device)
        self.padding, self.perturb, self.nested, self.watch = padding, perturb, nested, watch

    def _loader(self, dataset: Any, num_workers: int, generator: torch.Generator, **arguments: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
            num_workers=num_workers,
            pin_memory=self.device.type == "cuda",
            generator=generator,
            worker_init_fn=functools.partial(live_with_run, os.getpid()),
            **arguments,
        )

    def _loaded(self, examples: Any, epoch: int, position: int) -> AnyBatch:
        """A batch of what a DataLoader yields."""
        if self.nested:
            return NestedBatch(examples, epoch).map(lambda tensor: tensor.to(self.device, non_blocking=True))
        self.watch(examples[0], examples[1], epoch)
        inputs, targets = cut_padding(examples[0], examples[1], self.padding)
        return self._batch(inputs, targets, epoch, position)

    def _batch(self, inputs: Tensor, targets: Tensor, epoch: int, position: int) -> Batch:
        inputs = self.normalizer(inputs.to(self.device, non_blocking=True))
        inputs = inputs.long() if inputs.dtype == torch.int32 else inputs
        targets = targets.to(self.device, non_blocking=True)
        targets = targets.long() if targets.dtype == torch.int32 else targets
        if targets.is_floating_point():
            targets = targets.to(torch.float32)
            targets = targets[:, None] if targets.dim() == 1 else targets
            targets = targets if self.target_normalizer is None else self.target_normalizer(targets)
        if self.perturb is not None:
            inputs, targets = self.perturb(inputs, targets, randomness.generator(self.seed, "perturb", position))
        return Batch(inputs, targets, epoch)


class _Classes:
    """Draws examples with replacement, so that each class that occurs is equally likely."""

    def __init__(self, classes: Tensor) -> None:
        self._members = classes.argsort(stable=True)  # by class
        counts = torch.bincount(classes)
        self._counts = counts[counts > 0]
        self._starts = self._counts.cumsum(0) - self._counts

    def __call__(self, count: int, *, generator: torch.Generator) -> Tensor:
        chosen = torch.randint(len(self._counts), (count,), generator=generator)
        share = torch.rand(count, generator=generator, dtype=torch.float64)  # float32 has 2^24 values
        return self._members[self._starts[chosen] + (share * self._counts[chosen]).long()]


class TrainBatches(_Batches):
    """The training split, batch by batch: `starting_at(step)` continues anywhere.

    Args:
        batch_size: examples per step, or `all`; the last batch of an epoch may be smaller.
        crop, flip: random changes of images held in memory (lazy data does its own).
        bucketing: sort the examples of so many batches by length, for sequences in memory; 0: none.
        classes: of each example, int64 (N,): an epoch is N draws with replacement, each class equally likely; None:
            every example once.
        first_pass: counts the batches of lazy data.
        share: (i, n), to yield the i-th of n shares of each batch, which may be empty; what is drawn for a batch is
            drawn for the whole.
        how: the other arguments of `_Batches`.
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
        bucketing: int = 0,
        classes: Tensor | None = None,
        first_pass: FirstPass | None = None,
        share: tuple[int, int] = (0, 1),
        **how: Any,
    ) -> None:
        super().__init__(part, normalizer, device, seed, **how)
        self._share, self._num_shares = share
        self.first_pass, self.watch = first_pass, first_pass or self.watch
        self.num_examples = size(part)
        if self.num_examples is None and batch_size == "all":
            raise TypeError("batch_size=all needs data of a known length")
        # None and `all` are refused above
        self.batch_size = int(self.num_examples if batch_size == "all" else batch_size)  # type: ignore[arg-type]
        if self.num_examples is not None:
            self.batch_size = min(self.batch_size, self.num_examples)
        if bucketing and self._lengths is None:
            raise TypeError("sorting by length needs sequences in memory")
        self.crop, self.flip, self.bucketing = crop, flip, bucketing
        self._classes = None if classes is None else _Classes(classes)
        # Not if what is done to an example depends on its place in the batch, or on the others.
        alone = self.padding is None and self.perturb is None and classes is None
        self._reads_share = alone and not (crop or flip)

    @property
    def steps_per_epoch(self) -> int | None:
        """None if the length of the data is unknown."""
        return None if self.num_examples is None else math.ceil(self.num_examples / self.batch_size)

    def report(self) -> None:
        """Report what the batches have shown so far, if that was less than a whole pass."""
        if self.first_pass is not None:
            self.first_pass.report()

    def noise_scale(self, lr: float) -> dict[str, float]:
        """`optim/noise_scale`, lr (N/B - 1) for N examples in batches of B; empty if N is unknown.

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
        """The batches of steps `step`, `step + 1`, … without end, or this process's share of each."""
        if isinstance(self.part, Examples):
            return self._from_memory(self.part, step)
        if self.first_pass is not None:
            self.first_pass.start(step)
        return self._from_stream(self.part, step) if self.is_stream else self._from_loader(self.part, step)

    def _cut(self, batch: AnyBatch) -> AnyBatch:
        return batch.map(self._cut_tensor)

    def _cut_tensor(self, tensor: Tensor) -> Tensor:
        return tensor if self._num_shares == 1 else tensor.tensor_split(self._num_shares)[self._share]

    def _shares(self, step: int) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(epoch, indices, those to read) from `step` on: of the share, unless it is cut from the whole batch later."""
        for epoch, index in self._orders(step):
            cuts = self._reads_share and len(index) >= self._num_shares  # a DataLoader cannot read no example
            yield epoch, index, self._cut_tensor(index) if cuts else index

    def _orders(self, step: int) -> Iterator[tuple[int, Tensor]]:
        """(epoch, indices) of each batch from `step` on; the order of an epoch is a function of (seed, epoch)."""
        assert self.num_examples is not None
        assert self.steps_per_epoch is not None
        epoch, skip = divmod(step, self.steps_per_epoch)
        while True:
            generator, draw = randomness.generator(self.seed, "order", epoch), self._classes or torch.randperm
            order = draw(self.num_examples, generator=generator)
            for index in (self._by_length(order, epoch) if self.bucketing else order.split(self.batch_size))[skip:]:
                yield epoch, index
            epoch, skip = epoch + 1, 0

    def _by_length(self, order: Tensor, epoch: int) -> list[Tensor]:
        """The batches of an epoch, each of examples of similar length, in random order."""
        assert self._lengths is not None
        pools = order.split(self.bucketing * self.batch_size)
        pools = tuple(pool[self._lengths[pool].argsort(stable=True)] for pool in pools)
        batches = [index for pool in pools for index in pool.split(self.batch_size)]
        places = torch.randperm(len(batches), generator=randomness.generator(self.seed, "buckets", epoch))
        return [batches[place] for place in places.tolist()]

    def _from_memory(self, part: Examples, step: int) -> Iterator[Batch]:
        for position, (epoch, whole, index) in enumerate(self._shares(step), start=step):
            chosen = part[index.to(part.inputs.device, non_blocking=True)]
            inputs, targets = chosen.inputs, chosen.targets
            if self.crop or self.flip:
                inputs = augment(inputs, self.crop, self.flip, randomness.generator(self.seed, "augment", position))
            if self._lengths is not None:
                inputs, targets = cut_to(inputs, targets, int(self._lengths[whole].max()))
            batch = self._batch(inputs, targets, epoch, position)
            yield batch if len(index) < len(whole) else self._cut(batch)  # type: ignore[misc]  # a Batch as well

    def _from_loader(self, part: Dataset[Any], step: int) -> Iterator[AnyBatch]:
        positions: Iterator[list[tuple[int, ...]]]
        positions = ([(epoch, i) for i in index.tolist()] for epoch, _, index in self._shares(step))
        if self._classes is not None:  # an example that is drawn again is transformed anew
            positions = ([(*p, step, i) for i, p in enumerate(batch)] for step, batch in enumerate(positions, step))
        dataset, generator = Positioned(part, self.seed), randomness.generator(self.seed, "workers")
        loader = self._loader(dataset, self.num_workers, generator, batch_sampler=positions)
        shares = zip(self._shares(step), read_batches(loader), strict=False)
        for position, ((epoch, whole, index), examples) in enumerate(shares, start=step):
            batch = self._loaded(examples, epoch, position)
            yield batch if len(index) < len(whole) else self._cut(batch)

    def _from_stream(self, part: Dataset[Any], step: int) -> Iterator[AnyBatch]:
        """A stream is read from its start, and the batches before `step` are dropped."""
        position = 0
        for epoch in itertools.count():
            first = position
            stream, generator = PositionedStream(part, self.seed, epoch), randomness.generator(self.seed, "workers")
            # One worker at most: only the user's own code can divide a stream over several.
            loader = self._loader(stream, min(self.num_workers, 1), generator, batch_size=self.batch_size)
            for examples in read_batches(loader):
                if position >= step:
                    yield self._cut(self._loaded(examples, epoch, position))
                position += 1
            if position == first:
                return


class EvalBatches(_Batches):
    """A split in its own order, one pass per iteration; the last batch may be smaller.

    Args:
        batch_size: of training; data in memory is read in larger batches.
        indices: the examples to read, None for all; not for a stream.
        perturb: changes each example in the same way in every evaluation of every run.
        num_outputs: per token, for models with outputs per token: they, too, must fit into memory.
        how: the other arguments of `_Batches`.

    Attributes:
        digest: if set, takes the examples of lazy data as they are read, before they are scaled.
    """

    digest: Digest | None = None

    def __init__(
        self,
        part: Part,
        batch_size: int,
        normalizer: Normalizer,
        device: torch.device,
        *,
        indices: Sequence[int] | None = None,
        perturb: Perturb | None = None,
        num_outputs: int = 0,
        **how: Any,
    ) -> None:
        if isinstance(part, Examples):
            if perturb is not None:  # all at once, so that it does not depend on the size of a batch
                part = Examples(*perturb(part.inputs.long(), part.targets.long(), randomness.generator(0, "perturb")))
                perturb = None
            part = part if indices is None else part[torch.tensor(indices)]
        super().__init__(part, normalizer, device, 0, perturb=perturb, **how)
        self.batch_size, self.indices, self._num_outputs = batch_size, indices, num_outputs

    def __iter__(self) -> Iterator[Any]:  # of Batch, or with `nested` of NestedBatch
        return self.every(0, 1)

    def every(self, first: int, step: int) -> Iterator[Any]:
        """Batch `first`, `first + step`, …; the others are read only if that cannot be avoided."""
        if isinstance(self.part, Examples):
            return self._from_memory(self.part, first, step)
        return self._from_loader(self.part, first, step)

    def _rows(self, part: Examples) -> list[slice]:
        """The examples of each batch."""
        values = max(1, part.inputs[:1].numel())
        if part.inputs.dtype in (torch.int32, torch.int64):
            values *= max(VALUES_PER_TOKEN, self._num_outputs)
        count = max(1, min(EVAL_EXAMPLES, EVAL_VALUES // values))
        return [slice(start, start + count) for start in range(0, len(part), count)]

    def _from_memory(self, part: Examples, first: int, step: int) -> Iterator[Batch]:
        for rows in self._rows(part)[first::step]:
            inputs, targets = part.inputs[rows], part.targets[rows]
            if self._lengths is not None:
                inputs, targets = cut_to(inputs, targets, int(self._lengths[rows].max()))
            yield self._batch(inputs, targets, 0, 0)

    def _from_loader(self, part: Dataset[Any], first: int, step: int) -> Iterator[AnyBatch]:
        reads_all = isinstance(part, IterableDataset) or self.digest is not None
        # Data that draws gives every evaluation of every run the same, and leaves the training's draws alone.
        seed = randomness.mix(0, "evaluation")
        generator = torch.Generator()  # else the loader draws its base seed from the global one
        if isinstance(part, IterableDataset):
            stream = PositionedStream(part, seed, 0)
            loader = self._loader(stream, min(self.num_workers, 1), generator, batch_size=self.batch_size)
        else:
            chosen = range(size(part) or 0) if self.indices is None else self.indices
            order = [
                [(0, i) for i in chosen[at : at + self.batch_size]] for at in range(0, len(chosen), self.batch_size)
            ]
            order = order if reads_all else order[first::step]
            loader = self._loader(Positioned(part, seed), self.num_workers, generator, batch_sampler=order)
        with randomness.preserved():
            for number, examples in enumerate(read_batches(loader)):
                if self.digest is not None:
                    self.digest.update(examples)
                if not reads_all:
                    yield self._loaded(examples, 0, first + number * step)
                elif number % step == first:
                    yield self._loaded(examples, 0, number)


def fits_in_memory(examples: Examples, device: torch.device) -> bool:
    """Whether the examples take at most half of the device's free memory, so that they are held there."""
    num_bytes = examples.inputs.nbytes + examples.targets.nbytes
    return device.type != "cuda" or num_bytes <= torch.cuda.mem_get_info(device)[0] / 2


def _moved(examples: Examples, device: torch.device) -> Examples:
    if device.type == "cpu":
        return examples
    if not fits_in_memory(examples, device):
        return Examples(examples.inputs.pin_memory(), examples.targets.pin_memory())
    return Examples(examples.inputs.to(device), examples.targets.to(device))
