"""What the devices of this machine do in a second: matrix products, moving data, steps of a training."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from mlprun.data.batches import TrainBatches
from mlprun.formatting import pluralize
from mlprun.training.learner import Learner

MATRIX_SIZES = (256, 1024, 2048)


def devices() -> list[torch.device]:
    """The CPU, and every accelerator that torch can use here."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    available = [torch.device("cpu")]
    if accelerator is not None:
        available += [torch.device(accelerator.type, i) for i in range(torch.accelerator.device_count())]
    return available


def describe(device: torch.device) -> str:
    """`cpu, 1 thread`, or a GPU with its name and memory."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        return f"{device}  {name}, {total / 2**30:.1f} GiB of memory, {free / 2**30:.1f} free"
    if device.type == "cpu":
        return f"cpu  {pluralize(torch.get_num_threads(), 'thread')}"
    return str(device)


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given; the CPU has."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def median_sec(work: Callable[[], object], device: torch.device, *, budget_sec: float = 0.15, most: int = 20) -> float:
    """Median seconds of `work`, after once for warming up, of three to `most` times as the budget allows."""

    def once() -> float:
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        return time.perf_counter() - began

    once()
    taken: list[float] = []
    while len(taken) < most and (len(taken) < 3 or sum(taken) < budget_sec):
        taken.append(once())
    return statistics.median(taken)


def matmul_gflops(device: torch.device, size: int) -> float:
    """Billions of floating-point operations a second in the product of two (size, size) float32 matrices."""
    a, b = (torch.ones(size, size, device=device) for _ in range(2))
    return 2 * size**3 / median_sec(lambda: a @ b, device) / 1e9


def transfer_sec(tensors: tuple[Tensor, ...], device: torch.device, most: int = 20) -> float:
    """Median seconds of moving tensors from ordinary memory to the device; 0 where they are there."""
    if device.type == "cpu":
        return 0.0
    return median_sec(lambda: [tensor.to(device) for tensor in tensors], device, most=most)


def step_sec(learner: Learner, batches: TrainBatches, most: int, budget_sec: float = 0.5) -> tuple[float, int]:
    """Median seconds of a training step, its batch included, after two for warming up; and the number measured.

    Args:
        learner: changed: it takes these steps.
        batches: on the learner's device.
        most: steps, at most: those of the run.
        budget_sec: after so long it is enough.

    Raises:
        DivergedError: the loss or the gradient of a step is not finite.
    """
    taken: list[float] = []
    began = time.perf_counter()
    for step, batch in enumerate(itertools.islice(batches.starting_at(0), min(most, 50))):
        learner.update(batch, step)
        synchronize(learner.device)
        now = time.perf_counter()
        taken.append(now - began)
        if len(taken) > 4 and sum(taken[2:]) > budget_sec:
            break
        began = now
    learner.check_finite()
    measured = taken[2:] or taken[-1:]
    return statistics.median(measured), len(measured)
