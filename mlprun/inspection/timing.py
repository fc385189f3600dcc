"""The speed of this machine's devices and of a training step."""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mlprun import randomness
from mlprun.data.batches import TrainBatches, fits_in_memory
from mlprun.data.nested import AnyBatch, iter_tensors
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.errors import DivergedError
from mlprun.formatting import format_duration, pluralize
from mlprun.job.prepare import Experiment
from mlprun.training.learner import Learner

MATRIX_SIZES = (256, 1024, 2048)


def device_lines(splits: Splits, first: AnyBatch, batch_size: int) -> list[str]:
    """Each device, its speed at matrix products, and of transfers to it."""
    train = splits.train
    batch: tuple[Tensor, ...]
    if isinstance(train, Examples):
        few = train[slice(0, batch_size)]
        batch = (few.inputs, few.targets)
    else:
        batch = tuple(tensor[:batch_size] for tensor in iter_tensors(first.examples))
    lines = []
    for place, device in enumerate(_devices()):
        lines.append(f"{'' if place else 'devices':<7} {_describe(device)}")
        products = [f"{size}x{size} {_matmul_gflops(device, size):,.0f}" for size in MATRIX_SIZES]
        lines.append(f"          float32 matrix products, GFLOP/s: {', '.join(products)}")
        if device.type == "cpu":
            lines.append("          data is already there")
            continue
        lines.append(f"          moves a batch of {len(batch[0])} in {_transfer_time(batch, device)}")
        if isinstance(train, Examples) and fits_in_memory(train, device):
            seconds = _transfer_time((train.inputs, train.targets), device, most=3)
            lines[-1] += f", the training data at once in {seconds}"
        elif isinstance(train, Examples):
            lines[-1] += "; the training data is too large to be held there"
    return lines


@dataclass(frozen=True)
class Speed:
    """The median time of a training step; `problem` says why there is none."""

    step_sec: float = math.nan
    count: int = 0
    problem: str = ""


def measure_steps(experiment: Experiment) -> Speed:
    """The time of a training step, which changes the experiment's model."""
    learner = experiment.build_learner()
    with randomness.preserved():
        try:
            return Speed(*_step_sec(learner, experiment.batches, experiment.plan.num_steps))
        except DivergedError as error:
            return Speed(problem=str(error))


def step_lines(experiment: Experiment, speed: Speed) -> list[str]:
    """The time of a training step, and the estimated time of the run."""
    if speed.problem:
        return [f"speed   not measured: the run would stop at {speed.problem}"]
    batches, plan, device, seconds = experiment.batches, experiment.plan, experiment.device, speed.step_sec
    name = f"{device}, {pluralize(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else str(device)
    moved = "once, before the first step" if isinstance(batches.part, Examples) else "with every batch"
    return [
        f"speed   {format_duration(seconds)} per training step on {name} (median of {speed.count}), "
        f"{batches.batch_size / seconds:,.0f} examples per second",
        f"          {pluralize(plan.num_steps, 'step')} take {format_duration(seconds * plan.num_steps)}"
        "; plus start-up and evaluations",
        f"          a GPU helps if it saves more time per step than transfers take; here data moves {moved}",
    ]


def _devices() -> list[torch.device]:
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    available = [torch.device("cpu")]
    if accelerator is not None:
        available += [torch.device(accelerator.type, i) for i in range(torch.accelerator.device_count())]
    return available


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return f"{device}  {name}, {total / 2**30:.1f} GiB of memory, {free / 2**30:.1f} free"
    if device.type == "cpu":
        return f"cpu  {pluralize(torch.get_num_threads(), 'thread')}"
    return str(device)


def _seconds(device: torch.device) -> float:
    """`time.perf_counter()` when the device has finished its work."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter()


def _median_sec(work: Callable[[], object], device: torch.device, most: int = 20) -> float:
    """Median seconds of 3 to `most` calls of `work` in about 0.15 s, after a warm-up."""
    work()
    taken: list[float] = []
    while len(taken) < most and (len(taken) < 3 or sum(taken) < 0.15):
        began = _seconds(device)
        work()
        taken.append(_seconds(device) - began)
    return statistics.median(taken)


def _matmul_gflops(device: torch.device, size: int) -> float:
    a, b = (torch.ones(size, size, device=device) for _ in range(2))
    return 2 * size**3 / _median_sec(lambda: a @ b, device) / 1e9


def _transfer_time(tensors: tuple[Tensor, ...], device: torch.device, most: int = 20) -> str:
    return format_duration(_median_sec(lambda: [tensor.to(device) for tensor in tensors], device, most=most))


def _step_sec(learner: Learner, batches: TrainBatches, most: int) -> tuple[float, int]:
    """Median seconds of a training step with its batch, after two for warm-up; and the number of steps measured.

    The learner takes these steps, at most `most`; DivergedError if a loss or gradient is not finite.
    """
    taken: list[float] = []
    began = time.perf_counter()
    for step, batch in enumerate(itertools.islice(batches.starting_at(0), min(most, 50))):
        learner.train_step(batch, step)
        now = _seconds(learner.device)
        taken.append(now - began)
        if len(taken) > 4 and sum(taken[2:]) > 0.5:
            break
        began = now
    learner.check_finite()
    measured = taken[2:] or taken[-1:]
    return statistics.median(measured), len(measured)
