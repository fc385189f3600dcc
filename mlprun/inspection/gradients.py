"""Autograd held against finite differences, for any model and loss: is every backward the derivative of its forward?

`torch.autograd.gradcheck` compares every entry of every Jacobian, which no model of size can wait for; here a few
entries of each parameter are drawn, and each costs a few forward passes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mlprun import randomness
from mlprun.data.nested import AnyBatch
from mlprun.errors import ConfigError, RunError
from mlprun.tasks.base import Task

ENTRIES = 16  # of each parameter
TOLERANCE = 1e-4  # relative; right gradients of smooth losses are within 1e-7
# Steps of the differences, times max(1, |entry|). The first is near the cube root of float64's resolution, the best for
# central differences of a function of the size of 1; a kink nearby wants a smaller one, a deep network's rounding a
# larger one.
STEPS = (1e-5, 1e-6, 1e-7, 1e-4)
# Below this share of the loss, a gradient is held against this share: rounding alone is worth some 1e-10 of the loss.
FLOOR = 1e-5
# What the kinks between two points do to their difference is of the size by which the two one-sided ones disagree; only
# an error above so many times that, at two steps at least, is autograd's.
EXPLAINED = 5.0
# Share of the loss that rounding is worth in a deep network.
ROUNDING = 1e-14


@dataclass(frozen=True)
class Comparison:
    """What was found for one parameter.

    Attributes:
        name: of the parameter.
        num_entries: how many of its entries were compared.
        num_kinks: those at or among kinks of the loss (ReLU, max pooling), where no difference is the derivative.
        num_wrong: those where autograd gives something else than the differences.
        largest_error: the largest of |a - n| / max(|a|, |n|, floor), for those at no kink.
        is_used: whether autograd finds a way from the loss to the parameter.
    """

    name: str
    num_entries: int
    num_kinks: int
    num_wrong: int
    largest_error: float
    is_used: bool


def compare(model: nn.Module, task: Task, batch: AnyBatch, seed: int) -> Iterator[Comparison]:
    """Compare gradients of the training loss with central differences, a parameter at a time.

    All is computed on the CPU in float64, in training mode, with the same noise (dropout) at every evaluation and with
    the buffers (the running statistics of batch norm) put back after each.

    Args:
        model: changed: it becomes float64; its weights are given back as they were.
        task: computes in float64, too.
        batch: on the CPU; two examples or more, for batch norm.
        seed: of the noise, and of the choice of entries.

    Yields:
        In the order of the model, one for every parameter that is trained.

    Raises:
        ConfigError: the model computes in another type, or its loss is not a function of weights and seed.
        RunError: the loss is not finite.
    """
    model.double().train()
    task.to(torch.float64)
    batch = batch.map(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)
    buffers = [(module, name, value.clone()) for module in model.modules()
               for name, value in module._buffers.items() if value is not None]  # fmt: skip

    def evaluate() -> Tensor:
        randomness.seed_all(seed, "noise", 0)
        with torch.enable_grad():  # a loss may hold a derivative of its own
            value = task.step(model, batch).loss
        for module, name, before in buffers:
            module._buffers[name] = before.clone()
        return value

    with _float64_by_default(), randomness.preserved():
        value = _in_float64(evaluate)
        center = float(value.detach())
        _check_repeats(center, lambda: float(evaluate().detach()))
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
        floor = FLOOR * max(abs(center), 1e-3)
        for (name, parameter), gradient in zip(named, gradients, strict=True):
            yield _compare(name, parameter, gradient, lambda: float(evaluate().detach()), center, floor, seed)


def _in_float64(evaluate: Callable[[], Tensor]) -> Tensor:
    """The loss; raises ConfigError if something on the way to it is computed in a coarser type."""
    with _TypeWatch() as watch:
        try:
            value = evaluate()
        except Exception:
            if not watch.coarse:
                raise
    if watch.coarse:
        raise ConfigError(
            "inspect.check_gradients", True,
            f"the model or the loss computes in {watch.coarse} even when its weights and inputs are float64, "
            "which is too coarse for differences",
            "in forward, replace .float(), .half() and dtype=… by the type of the input: .to(x.dtype)",
        )  # fmt: skip
    return value


def _check_repeats(center: float, evaluate: Callable[[], float]) -> None:
    if not math.isfinite(center):
        raise RunError(f"the loss of the first weights is {center}: there are no gradients to check")
    if abs((again := evaluate()) - center) > 1e-12 * max(1.0, abs(center)):
        raise ConfigError(
            "inspect.check_gradients", True,
            f"the loss is {center!r} and then {again!r} at the same weights, seed and examples",
            "something draws from a generator of its own, or remembers; gradients of it cannot be checked",
        )  # fmt: skip


def _compare(
    name: str,
    parameter: nn.Parameter,
    gradient: Tensor | None,
    evaluate: Callable[[], float],
    center: float,
    floor: float,
    seed: int,
) -> Comparison:
    """One parameter, at entries that are a function of the seed and its name."""
    chosen = random.Random(randomness.mix(seed, "gradients", name))
    entries = chosen.sample(range(parameter.numel()), min(ENTRIES, parameter.numel()))
    kinks = wrong = 0
    largest = 0.0
    for entry in entries:
        at = tuple(int(i) for i in torch.unravel_index(torch.tensor(entry), parameter.shape))
        analytic = 0.0 if gradient is None else float(gradient[at])
        error = _error(parameter.data, at, analytic, evaluate, center, floor)
        if error is None:
            kinks += 1
        else:
            largest = max(largest, error)
            wrong += not error <= TOLERANCE
    return Comparison(name, len(entries), kinks, wrong, largest, gradient is not None)


def _error(
    weights: Tensor, at: tuple[int, ...], analytic: float, evaluate: Callable[[], float], center: float, floor: float
) -> float | None:
    """The relative error of one entry: the first that is in order, else the smallest that no kink explains.

    A gradient that is right agrees at some step; one that is wrong, at none. None: the entry is at a kink, or among so
    many that there is nothing to compare with.
    """
    before = float(weights[at])
    unexplained: list[float] = []
    for step in STEPS:
        width = step * max(1.0, abs(before))
        values = []
        for sign in (1.0, -1.0):
            weights[at] = before + sign * width
            values.append(evaluate())
        weights[at] = before
        up, down = (values[0] - center) / width, (center - values[1]) / width
        numeric = (up + down) / 2
        error = abs(analytic - numeric) / max(abs(analytic), abs(numeric), floor)
        error = error if math.isfinite(error) else math.inf
        if error <= TOLERANCE:
            return error
        rounding = ROUNDING * max(abs(center), 1e-3) / width
        if error == math.inf or abs(analytic - numeric) > EXPLAINED * (abs(up - down) + rounding):
            unexplained.append(error)
    return min(unexplained) if len(unexplained) > 1 else None


class _TypeWatch(TorchFunctionMode):
    """Notes the first operation on the way to the gradient whose result is coarser than float64.

    Attributes:
        coarse: `float32 (torch.Tensor.float)`, or empty.
    """

    coarse = ""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        coarse_types = (torch.float32, torch.float16, torch.bfloat16)
        if not self.coarse and isinstance(result, Tensor) and result.requires_grad and result.dtype in coarse_types:
            self.coarse = f"{str(result.dtype).removeprefix('torch.')} (from '{torch.overrides.resolve_name(func)}')"
        return result


@contextmanager
def _float64_by_default() -> Iterator[None]:
    """What a model makes in its forward pass (a first hidden state, a mask) is float64 meanwhile, too."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
