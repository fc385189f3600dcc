"""Compare autograd with finite differences, for any model and loss.

`torch.autograd.gradcheck` compares every entry of every Jacobian, which is too slow for larger models; here a few
entries of each parameter are drawn, for a few forward passes each.
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
from torch.nn.parameter import is_lazy
from torch.overrides import TorchFunctionMode

from mlprun import randomness
from mlprun.data.nested import AnyBatch
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import pluralize
from mlprun.job.build_learner import build_model
from mlprun.job.build_task import build_task
from mlprun.job.prepare import Experiment
from mlprun.job.summary import INDENT
from mlprun.tasks.base import Task
from mlprun.text_table import column_widths, format_row
from mlprun.training import finetune

NUM_EXAMPLES = 4
ENTRIES = 16  # of each parameter
TOLERANCE = 1e-4  # relative; correct gradients of smooth losses are within 1e-7
# Steps of the differences, times max(1, |entry|): near the cube root of float64's epsilon, the best for central
# differences of a function of order 1; smaller ones for a nearby kink, a larger one for rounding in a deep network.
STEPS = (1e-5, 1e-6, 1e-7, 1e-4)
FLOOR = 1e-5  # of the loss: the least denominator of a relative error; rounding is some 1e-10 of the loss
# Kinks between two points change their difference by about as much as the one-sided differences disagree. Only an error
# larger than that many times, at two steps or more, is autograd's.
EXPLAINED = 5.0
ROUNDING = 1e-14  # of the loss, in a deep network


@dataclass(frozen=True)
class Comparison:
    """The result for one parameter."""

    name: str
    num_entries: int  # compared
    num_kinks: int  # at kinks of the loss (ReLU, max pooling), where no difference is the derivative
    num_wrong: int  # where autograd disagrees with the differences
    largest_error: float  # of |a - n| / max(|a|, |n|, floor), except at kinks
    is_used: bool  # whether the loss depends on the parameter according to autograd


def check_gradients(experiment: Experiment, first: AnyBatch, show: Callable[[str], None]) -> RunError | None:
    """Show a line per parameter; the error to report if a gradient is wrong."""
    few = first.map(lambda tensor: tensor[:NUM_EXAMPLES])
    config, model = experiment.config, build_model(experiment.config)
    if any(map(is_lazy, model.parameters())):
        model.load_state_dict(experiment.model.state_dict())
    if experiment.weights is not None:
        finetune.load(experiment.weights, model)
    for name in finetune.frozen(config.trainer.freeze, model):
        model.get_parameter(name).requires_grad_(False)
    header = ("parameter", "entries", "at kinks", "largest relative error")
    widths = column_widths([header, *([name] for name, _ in model.named_parameters())])
    show(
        "gradients of the first weights, autograd against central differences in float64, "
        f"of {few.num_examples} examples, at up to {ENTRIES} entries of each parameter"
    )
    show(INDENT + format_row(header, "<>>>", widths))
    wrong = []
    for row in compare(model, build_task(config), few, config.seed):
        verdict = "WRONG" if row.num_wrong else "ok" if row.num_kinks < row.num_entries else "nothing to compare"
        verdict += ", not used by the loss" * (not row.is_used)
        cells = (row.name, str(row.num_entries), str(row.num_kinks), f"{row.largest_error:.1e}")
        show(f"{INDENT}{format_row(cells, '<>>>', widths)}  {verdict}")
        wrong += [row] * (row.num_wrong > 0)
    if not wrong:
        return None
    worst = wrong[-1]  # an error propagates to all parameters before it
    others = f", and so are those of {pluralize(len(wrong) - 1, 'parameter')} before it" * (len(wrong) > 1)
    cause = (
        "it is detached from the loss: .detach(), .data, .item() or no_grad on the way"
        if not worst.is_used
        else "the likely cause is a torch.autograd.Function, in its layer or after it, whose backward is not the "
        "derivative of its forward, or something held constant on the way (a straight-through estimator and "
        "spectral_norm are so on purpose)"
    )
    return RunError(
        f"the gradient of '{worst.name}' is wrong at {worst.num_wrong} of {worst.num_entries} entries, with a relative "
        f"error of up to {worst.largest_error:.2g}{others}\n  {cause}"
    )


def compare(model: nn.Module, task: Task, batch: AnyBatch, seed: int) -> Iterator[Comparison]:
    """Compare gradients of the training loss with central differences, one trained parameter at a time.

    Computed on the CPU in float64 and training mode, with the same noise (dropout) in every evaluation; buffers
    (running statistics of batch norm) are restored after each. `model` and `task` become float64.

    RunError if the loss is not finite; ConfigError if it is not a function of weights and seed, or not float64.

    Args:
        batch: on the CPU; at least two examples, for batch norm.
        seed: of the noise and the choice of entries.
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
        if not math.isfinite(center):
            raise RunError(f"the loss of the first weights is {center}: there are no gradients to check")
        if abs((again := float(evaluate().detach())) - center) > 1e-12 * max(1.0, abs(center)):
            raise ConfigError(
                "inspect.check_gradients", True,
                f"the loss is {center!r} and then {again!r} at the same weights, seed and examples",
                "something draws from a generator of its own, or remembers; gradients of it cannot be checked",
            )  # fmt: skip
        named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        gradients = torch.autograd.grad(value, [p for _, p in named], allow_unused=True)
        floor = FLOOR * max(abs(center), 1e-3)
        for (name, parameter), gradient in zip(named, gradients, strict=True):
            chosen = random.Random(randomness.mix(seed, "gradients", name))
            errors = []
            for entry in chosen.sample(range(parameter.numel()), min(ENTRIES, parameter.numel())):
                at = tuple(int(i) for i in torch.unravel_index(torch.tensor(entry), parameter.shape))
                analytic = 0.0 if gradient is None else float(gradient[at])
                errors.append(_error(parameter.data, at, analytic, lambda: float(evaluate().detach()), center, floor))
            smooth = [error for error in errors if error is not None]
            num_wrong, num_kinks = sum(not error <= TOLERANCE for error in smooth), len(errors) - len(smooth)
            yield Comparison(name, len(errors), num_kinks, num_wrong, max(smooth, default=0.0), gradient is not None)


def _in_float64(evaluate: Callable[[], Tensor]) -> Tensor:
    """The loss; ConfigError if part of it is computed in a coarser type."""
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


def _error(
    weights: Tensor, at: tuple[int, ...], analytic: float, evaluate: Callable[[], float], center: float, floor: float
) -> float | None:
    """The relative error of one entry: the first within tolerance, else the smallest that no kink explains.

    A correct gradient agrees at some step; a wrong one at none. None if the entry is at or among kinks.
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
    """Notes the first differentiable operation whose result is coarser than float64."""

    coarse = ""  # such as `float32 (from 'torch.Tensor.float')`

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
    """Also for tensors made in the forward pass (a first hidden state, a mask)."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
