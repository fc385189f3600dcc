"""The process-wide state of torch: a run finds it as a new process has it, and leaves it as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from mlprun import randomness

KEEP = object()  # a run sets this one itself


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _attribute(holder: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(holder, name), lambda value: setattr(holder, name, value)


# How each is read and set, and its value at the start of a run.
_STATE: tuple[tuple[Callable[[], Any], Callable[[Any], Any], object], ...] = (
    (torch.get_num_threads, torch.set_num_threads, KEEP),
    (_deterministic, _set_deterministic, KEEP),
    (*_attribute(torch.backends.cudnn, "benchmark"), KEEP),
    (*_attribute(torch.utils.deterministic, "fill_uninitialized_memory"), KEEP),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, KEEP),
    (torch.get_default_dtype, torch.set_default_dtype, torch.float32),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, "highest"),
    (torch.is_grad_enabled, torch.set_grad_enabled, True),
)


@contextmanager
def restored() -> Iterator[None]:
    """Give a block the state of a new process, and afterwards the program its own, with its random numbers."""
    before = [read() for read, _, _ in _STATE]
    on_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    with ExitStack() as stack:
        stack.enter_context(randomness.preserved())
        stack.enter_context(torch.inference_mode(False))
        if torch.get_default_device().type != "cpu":  # a mode that costs time at every call
            stack.enter_context(torch.device("cpu"))
        try:
            for _, write, value in _STATE:
                if value is not KEEP:
                    write(value)
            yield
        finally:
            for (_, write, _), value in zip(_STATE, before, strict=True):
                write(value)
            if on_gpus:
                torch.cuda.set_rng_state_all(on_gpus)
