"""Batches are a function of the step: a run that continues sees what the uninterrupted one would have seen."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import threading
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mlprun import signals
from mlprun.data import loading
from mlprun.data.augment import augment
from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.nested import Batch
from mlprun.data.normalize import Normalizer
from mlprun.data.source import Examples

CPU = torch.device("cpu")
AS_STORED = Normalizer(torch.zeros(()), torch.ones(()))


def memory(count: int = 23) -> Examples:
    """Examples that carry their own number."""
    return Examples(torch.arange(float(count))[:, None], torch.arange(count))


class Noisy(Dataset[Any]):
    """A lazy data set that draws from everywhere, as random transformations do: (number, three draws)."""

    def __init__(self, count: int = 23) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        drawn = [float(torch.rand(())), float(np.random.rand()), random.random()]
        return torch.tensor([float(index), *drawn]), index


class NoisyStream(IterableDataset[Any]):
    """The same as a stream, which also draws once at the start of each pass."""

    def __iter__(self) -> Any:
        return self._examples(float(torch.rand(())))

    def _examples(self, shift: float) -> Any:
        for index in range(23):
            drawn = [shift, float(np.random.rand()), random.random()]
            yield torch.tensor([float(index), *drawn]), index


RARE = torch.tensor([3] * 2 + [0] * 20 + [1])  # classes of 23 examples; none is of class 2

KINDS = {
    "memory": lambda **how: TrainBatches(memory(), 5, AS_STORED, CPU, seed=0, **how),
    "augmented": lambda **how: TrainBatches(
        Examples(torch.rand(23, 3, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(23)),
        5, AS_STORED, CPU, seed=0, crop=2, flip=True, **how,
    ),
    "lazy": lambda **how: TrainBatches(Noisy(), 5, AS_STORED, CPU, seed=0, **how),
    "lazy, 2 workers": lambda **how: TrainBatches(Noisy(), 5, AS_STORED, CPU, seed=0, num_workers=2, **how),
    "balanced": lambda **how: TrainBatches(memory(), 5, AS_STORED, CPU, seed=0, classes=RARE, **how),
    "balanced, by length": lambda **how: TrainBatches(
        Examples((torch.arange(23)[:, None] % 4 >= torch.arange(4)) * torch.arange(1, 24)[:, None], torch.arange(23)),
        5, AS_STORED, CPU, seed=0, classes=RARE, padding=0, bucketing=2, **how,
    ),
    "balanced, lazy": lambda **how: TrainBatches(Noisy(), 5, AS_STORED, CPU, seed=0, classes=RARE, **how),
    "balanced, lazy, 2 workers": lambda **how: TrainBatches(
        Noisy(), 5, AS_STORED, CPU, seed=0, classes=RARE, num_workers=2, **how
    ),
    "stream": lambda **how: TrainBatches(NoisyStream(), 5, AS_STORED, CPU, seed=0, **how),
    "stream, 1 worker": lambda **how: TrainBatches(NoisyStream(), 5, AS_STORED, CPU, seed=0, num_workers=2, **how),
}  # fmt: skip


def take(batches: TrainBatches, count: int, start: int = 0, *, disturb: bool = False) -> list[Batch]:
    """`count` batches; with `disturb` the global generators are used in between, as dropout does."""
    taken = []
    for batch in itertools.islice(batches.starting_at(start), count):
        taken.append(batch)
        if disturb:
            torch.rand(len(taken))
            np.random.rand(3)
            random.random()
    return taken


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.inputs, y.inputs) and torch.equal(x.targets, y.targets) and x.epoch == y.epoch
        for x, y in zip(a, b, strict=True)
    )


# ------------------------------------------------------------------------------------- a function of the step


@pytest.mark.parametrize("kind", KINDS)
def test_starting_at_continues_the_uninterrupted_run(kind):
    """Five batches an epoch; the starts lie inside an epoch, at its uneven last batch, at a border, far on."""
    whole = take(KINDS[kind](), 13)
    for start in (0, 3, 4, 5, 11):
        torch.manual_seed(start)
        assert same(take(KINDS[kind](), 13 - start, start, disturb=True), whole[start:]), f"from step {start}"


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_the_shares_of_a_step_are_its_batch_in_order(kind, count):
    """Also of the last batch, with three examples, and with more shares than examples."""
    shares = [take(KINDS[kind](share=(number, count)), 7, start=2) for number in range(count)]
    for whole, *parts in zip(take(KINDS[kind](), 7, start=2), *shares, strict=True):
        assert torch.equal(torch.cat([part.inputs for part in parts]), whole.inputs)
        assert torch.equal(torch.cat([part.targets for part in parts]), whole.targets)
        lengths = [part.num_examples for part in parts]
        assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("lazily", ["lazy", "balanced, lazy", "stream"])
def test_workers_change_nothing(lazily):
    """Each example's randomness, torch's, NumPy's and Python's, is a function of (seed, epoch, example)."""
    here, workers = (take(KINDS[k](), 7) for k in KINDS if k.startswith(lazily))
    assert same(here, workers)


@pytest.mark.parametrize("kind", ["augmented", "lazy", "lazy, 2 workers", "stream", "stream, 1 worker"])
def test_an_example_is_transformed_anew_in_every_epoch(kind):
    epochs: dict[int, dict[int, torch.Tensor]] = {0: {}, 1: {}}
    for batch in take(KINDS[kind](), 10):
        epochs[batch.epoch] |= dict(zip(batch.targets.tolist(), batch.inputs.flatten(1), strict=True))
    assert len(epochs[0]) == len(epochs[1]) == 23
    # Of the columns that are drawn none repeats; of images, most look different.
    changed = [bool((epochs[0][i] != epochs[1][i])[1:].any()) for i in range(23)]
    assert sum(changed) >= 18
    if kind != "augmented":
        assert all(bool((epochs[0][i][1:] != epochs[1][i][1:]).all()) for i in range(23))


def test_balanced_draws_each_class_equally_often_and_its_examples_too():
    batches = TrainBatches(memory(), 5, AS_STORED, CPU, seed=0, classes=RARE)
    drawn = torch.cat([batch.targets for batch in take(batches, 5 * 2000)])
    assert len(drawn) == 23 * 2000  # an epoch is as long as without
    counts = drawn.bincount(minlength=23)
    shares = torch.stack([counts[label == RARE].sum() for label in (0, 1, 3)]) / len(drawn)
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.01)  # five standard deviations
    assert counts[2:22].min() > 600  # of 767 on average
    assert counts[2:22].max() < 930
    assert not torch.equal(drawn[:23], drawn[23:46])


def test_an_example_that_is_drawn_twice_in_an_epoch_is_transformed_anew():
    batches = take(KINDS["balanced, lazy"](), 5)
    rare = torch.cat([batch.inputs[batch.targets == 22] for batch in batches])
    assert len(rare) > 2
    assert len(rare.unique(dim=0)) == len(rare)


@pytest.mark.parametrize("kind", ["memory", "lazy", "lazy, 2 workers"])
def test_every_epoch_is_another_permutation(kind):
    batches = take(KINDS[kind](), 15)
    orders = [torch.cat([b.targets for b in batches if b.epoch == epoch]).tolist() for epoch in range(3)]
    assert all(sorted(order) == list(range(23)) for order in orders)
    assert len({tuple(order) for order in [*orders, list(range(23))]}) == 4
    # Inputs and targets stay together.
    assert all(torch.equal(b.inputs[:, 0].long(), b.targets) for b in batches)


def test_the_order_follows_from_the_seed_and_the_epoch_alone():
    def order(seed: int, batch_size: int) -> list[int]:
        batches = TrainBatches(memory(), batch_size, AS_STORED, CPU, seed)
        return torch.cat([b.targets for b in take(batches, batches.steps_per_epoch)]).tolist()

    assert order(0, 5) == order(0, 7) == order(0, 23)
    assert order(0, 5) != order(1, 5)


def test_a_stream_keeps_its_order_and_starts_over():
    batches = take(KINDS["stream"](), 10)
    assert [b.epoch for b in batches] == [0] * 5 + [1] * 5
    assert torch.cat([b.targets for b in batches]).tolist() == 2 * list(range(23))


def test_a_stream_that_does_not_start_over_ends_the_batches():
    once = iter([(torch.zeros(1), 0)] * 7)

    class Once(IterableDataset[Any]):
        def __iter__(self) -> Any:
            return once

    batches = TrainBatches(Once(), 5, AS_STORED, CPU, seed=0)
    assert [len(b.targets) for b in batches.starting_at(0)] == [5, 2]


class Slow(Noisy):
    """Three examples; the one that comes last takes a minute."""

    def __init__(self, last: int) -> None:
        super().__init__(3)
        self.last = last

    def __getitem__(self, index: int) -> Any:
        time.sleep(60 * (index == self.last))
        return super().__getitem__(index)


ONE_BY_ONE = {
    "training": lambda: TrainBatches(Slow(0), 1, AS_STORED, CPU, seed=4, num_workers=2).starting_at(0),  # 1, 2, 0
    "evaluation": lambda: iter(EvalBatches(Slow(2), 1, AS_STORED, CPU, num_workers=2)),
}


@pytest.mark.parametrize("kind", ONE_BY_ONE)
def test_a_request_to_stop_waits_for_no_busy_worker(monkeypatch, kind):
    """Wherever it comes: here between two batches, while a worker reads a later one."""
    stream = ONE_BY_ONE[kind]()
    next(stream)
    monkeypatch.setattr(signals, "stop_requested_by", lambda: "SIGTERM")
    began = time.monotonic()
    stream.close()
    assert time.monotonic() - began < 4  # a DataLoader gives it 5 s
    assert not multiprocessing.active_children()


def test_drawing_batches_from_memory_leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    take(KINDS["augmented"](), 8)
    assert torch.equal(before, torch.get_rng_state())


# -------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("batch_size", "lengths"),
    [
        (5, [5, 5, 5, 5, 3]),
        (23, [23]),
        ("all", [23]),
        (1000, [23]),  # more than there is: the whole
        (1, [1] * 23),
    ],
)
@pytest.mark.parametrize("part", [memory(), Noisy()], ids=["memory", "lazy"])
def test_sizes(part, batch_size, lengths):
    batches = TrainBatches(part, batch_size, AS_STORED, CPU, seed=0)
    assert batches.steps_per_epoch == len(lengths)
    taken = take(batches, 2 * len(lengths))
    assert [len(b.targets) for b in taken] == 2 * lengths
    assert [b.epoch for b in taken] == [0] * len(lengths) + [1] * len(lengths)


def test_a_stream_has_no_known_length():
    assert KINDS["stream"]().steps_per_epoch is None
    with pytest.raises(TypeError, match="known length"):
        TrainBatches(NoisyStream(), "all", AS_STORED, CPU, seed=0)


# ----------------------------------------------------------------------------------- what a batch looks like


def test_inputs_are_scaled_and_targets_take_their_form():
    normalizer = Normalizer(torch.tensor([10.0]), torch.tensor([2.0]))
    classes = take(TrainBatches(memory(4), "all", normalizer, CPU, seed=0), 1)[0]
    assert classes.inputs.flatten().tolist() == [(t - 10) / 2 for t in classes.targets.tolist()]
    assert (classes.inputs.dtype, classes.targets.dtype) == (torch.float32, torch.int64)
    for values in (torch.rand(4), torch.rand(4, dtype=torch.float64), torch.rand(4, 1)):
        part = Examples(torch.zeros(4, 1), values)
        batch = take(TrainBatches(part, "all", AS_STORED, CPU, seed=0), 1)[0]
        assert (batch.targets.shape, batch.targets.dtype) == ((4, 1), torch.float32)


def test_token_ids_pass_as_they_are():
    tokens = torch.randint(0, 50_000, (12, 7))
    part = Examples(tokens, torch.arange(12))
    normalizer = Normalizer(torch.tensor(3.0), torch.tensor(2.0))
    for batch in [*take(TrainBatches(part, 5, normalizer, CPU, seed=0), 3), *EvalBatches(part, 5, normalizer, CPU)]:
        assert batch.inputs.dtype == torch.int64
        assert torch.equal(batch.inputs, tokens[batch.targets])


# ------------------------------------------------------------------------------------------- augmentation


def candidates(image: torch.Tensor, crop: int, flip: bool) -> dict[tuple[int, int, bool], torch.Tensor]:
    """Every picture that shifting by up to `crop` and mirroring can make of one, pixel by pixel."""
    channels, height, width = image.shape
    made = {}
    for down, right, mirrored in itertools.product(
        range(-crop, crop + 1), range(-crop, crop + 1), (False, True) if flip else (False,)
    ):
        moved = torch.zeros_like(image)
        for c, y, x in itertools.product(range(channels), range(height), range(width)):
            from_y, from_x = y + down, (width - 1 - x if mirrored else x) + right
            if 0 <= from_y < height and 0 <= from_x < width:
                moved[c, y, x] = image[c, from_y, from_x]
        made[down, right, mirrored] = moved
    return made


@pytest.mark.parametrize(("crop", "flip"), [(1, False), (0, True), (2, True)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augment_only_shifts_and_mirrors(crop, flip, dtype):
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(1, 256, (40, 2, 5, 4), generator=generator).to(dtype)
    changed = augment(images, crop, flip, torch.Generator().manual_seed(0))
    assert (changed.shape, changed.dtype) == (images.shape, dtype)
    found = []
    for before, after in zip(images, changed, strict=True):
        fits = [how for how, picture in candidates(before, crop, flip).items() if torch.equal(picture, after)]
        assert len(fits) == 1
        found.append(fits[0])
    # Every shift and both directions occur; the middle is not favoured.
    assert {down for down, _, _ in found} == {right for _, right, _ in found} == set(range(-crop, crop + 1))
    assert 0.25 * flip <= sum(mirrored for *_, mirrored in found) / 40 <= 0.75 * flip


# --------------------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("part", [memory(2_500), Noisy(), NoisyStream()], ids=["memory", "lazy", "stream"])
def test_evaluation_keeps_the_order_and_passes_once(part, num_workers):
    batches = EvalBatches(part, 5, AS_STORED, CPU, num_workers=num_workers)
    count = 2_500 if isinstance(part, Examples) else 23
    for _ in range(2):
        assert torch.cat([b.targets for b in batches]).tolist() == list(range(count))


class Plain(Noisy):
    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(index)]), index


@pytest.mark.parametrize(
    "part", [memory(), Plain(), NoisyStream(), Noisy()], ids=["memory", "lazy", "stream", "drawing"]
)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_evaluation_leaves_the_global_generators_alone(part, num_workers):
    """Else validating more often would change the training."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    for _ in EvalBatches(part, 5, AS_STORED, CPU, num_workers=num_workers):
        pass
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1:] == (np.random.get_state()[1].tolist(), random.getstate())


@pytest.mark.parametrize("part", [Noisy(), NoisyStream()], ids=["lazy", "stream"])
def test_evaluation_of_data_that_draws_repeats_itself(part):
    """The score of a checkpoint is the same in the run, in `mlprun eval`, and with more workers."""
    scores = []
    for num_workers in (0, 0, 2):
        torch.rand(3)
        np.random.rand()
        scores.append(torch.cat([b.inputs for b in EvalBatches(part, 5, AS_STORED, CPU, num_workers=num_workers)]))
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_evaluation_reads_memory_in_pieces_that_fit():
    wide = Examples(torch.zeros(30, 3, 512, 512, dtype=torch.uint8), torch.zeros(30, dtype=torch.int64))
    lengths = [len(b.targets) for b in EvalBatches(wide, 64, AS_STORED, CPU)]
    assert sum(lengths) == 30
    assert max(lengths) * 3 * 512 * 512 <= 4_000_000


# ------------------------------------------------------------------------------------------- slow workers


class Sleepy(Dataset[Any]):
    """Its first and fifth example take longer than one waits at a time."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Any:
        time.sleep(0.3 if index in (0, 4) else 0.0)
        return torch.tensor([float(index)]), index


def test_waiting_in_pieces_loses_no_batch_and_repeats_none(monkeypatch):
    asked = []
    may_go_on = loading._may_go_on
    monkeypatch.setattr(loading, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(loading, "_may_go_on", lambda *those: asked.append(those) or may_go_on(*those))
    read = torch.cat([b.targets for b in EvalBatches(Sleepy(), 2, AS_STORED, CPU, num_workers=2)])
    assert read.tolist() == [*range(12)]
    assert asked


@pytest.mark.parametrize(
    ("error", "pinning", "goes_on"),
    [
        ("DataLoader timed out after 0.2 seconds", None, True),
        ("DataLoader timed out after 0.2 seconds", threading.main_thread(), True),
        ("DataLoader timed out after 0.2 seconds", threading.Thread(), False),  # it runs no more
        ("DataLoader worker (pid(s) 7) exited unexpectedly", None, False),
    ],
)
def test_only_a_batch_that_can_still_come_is_waited_for(error, pinning, goes_on):
    batches: Any = SimpleNamespace(_pin_memory_thread=pinning)
    assert loading._may_go_on(batches, RuntimeError(error)) == goes_on
