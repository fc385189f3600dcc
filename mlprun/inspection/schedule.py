"""How long a run is, and its learning rate at every step."""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any

from torch import nn

from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.formatting import pluralize
from mlprun.inspection import figures
from mlprun.job.build_learner import build_optimizer, build_schedule
from mlprun.training.loop import Plan
from mlprun.training.schedule import Schedule

NUM_DRAWN = 20_000  # steps of a longer run that are drawn


def length_lines(config: Config, plan: Plan, batches: TrainBatches, *, sums_loss: bool) -> list[str]:
    """How long the run is, and how noisy its gradient."""
    size = batches.batch_size
    lines = [f"length  {plan.num_steps:,} steps of {size} examples"]
    if plan.steps_per_epoch is not None and batches.num_examples is not None:
        lines[0] += f"; {pluralize(plan.steps_per_epoch, 'step')} an epoch"
        if left := batches.num_examples % size:
            lines[0] += f", the last of {pluralize(left, 'example')}"
    evaluations, writes = (math.ceil(plan.num_steps / every) for every in (plan.eval_every, plan.save_every))
    ends = "" if plan.patience is None else f"; early_stopping.patience={plan.patience} may end it before"
    lines.append(f"          {pluralize(evaluations, 'evaluation')}, {pluralize(writes, 'checkpoint')}{ends}")
    rate = config.optim.get("lr")
    if batches.num_examples is not None and rate is not None and not sums_loss:
        # Smith & Le, A Bayesian Perspective on Generalization and Stochastic Gradient Descent (ICLR 2018), eq. 12
        noise = rate * (batches.num_examples / size - 1)
        lines.append(f"noise   lr (N/B - 1) = {rate:g} ({batches.num_examples:,}/{size:,} - 1) = {noise:.4g}: gradient "
                     "noise scale, derived for SGD (Smith and Le, 2018)")  # fmt: skip
        momentum = config.optim.get("momentum") or 0
        if config.optim["_target_"] == "torch.optim.SGD" and momentum:
            lines.append(f"          with momentum {momentum:g}, over 1 - momentum: {noise / (1 - momentum):.4g}")
    return lines


@dataclass(frozen=True)
class ScheduleCurves:
    """What a schedule sets at each step, without training.

    Attributes:
        steps: updates done before the one that these values are for; evenly spaced.
        curves: `learning rate` and, where it moves, `momentum`, one for each different parameter group.
        instead: what to say of a schedule that cannot be drawn.
    """

    steps: list[int]
    curves: dict[str, list[float]]
    instead: str = ""

    def lines(self, *, unicode: bool) -> list[str]:
        """For the terminal: a plot of what moves, in words what does not."""
        if self.instead:
            return [f"rates   {self.instead}"]
        lines: list[str] = []
        for name, values in self.curves.items():
            head, low, high = "" if lines else "rates", min(values), max(values)
            if low == high:
                lines.append(f"{head:<7} {name}: {low:g} at every step")
                continue
            lines.append(f"{head:<7} {name}: {low:.4g} to {high:.4g}, {values[0]:.4g} first, {values[-1]:.4g} last")
            lowest = 0.0 if name.startswith("learning rate") else low
            lines += [
                f"        {line}" for line in figures.text_plot(self.steps, values, unicode=unicode, lowest=lowest)
            ]
        return lines


def draw_schedule(config: Config, model: nn.Module, plan: Plan) -> ScheduleCurves:
    """The values that the run's own schedule sets in an optimizer of its kind, at every step or at even distances.

    Args:
        config: checked.
        model: for the parameter groups; not changed.
        plan: the run's lengths.
    """
    scratch = build_optimizer(config, model)
    schedule = build_schedule(config, scratch, plan)
    name, warmup = type(schedule).__name__, schedule.warmup_steps
    if type(schedule).observe is not Schedule.observe:
        rate = config.optim.get("lr")
        return ScheduleCurves([], {}, f"{name} follows from {config.monitor}, and cannot be drawn before: it "
                     f"begins at {rate:g}" + f", after a linear warmup of {pluralize(warmup, 'step')}" * (warmup > 0)
                     if rate is not None else f"{name} follows from {config.monitor}")  # fmt: skip
    stride = math.ceil(plan.num_steps / NUM_DRAWN)
    steps = list(range(0, plan.num_steps, stride))
    rates: list[list[float]] = []
    momenta: list[list[float]] = []
    with warnings.catch_warnings():
        # torch's schedulers expect that the optimizer is stepped, too
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for step in steps:
            schedule.apply(scratch, step)
            rates.append([float(group["lr"]) for group in scratch.param_groups])
            momenta.append([_momentum(group) for group in scratch.param_groups])
    curves = _curves_by_group("learning rate", rates)
    if any(before != after for before, after in itertools.pairwise(momenta)):
        curves |= _curves_by_group("momentum", momenta)
    return ScheduleCurves(steps, curves)


def _momentum(group: dict[str, Any]) -> float:
    """SGD's momentum, or Adam's first beta, which torch's OneCycleLR and CyclicLR move in its place."""
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))


def _curves_by_group(name: str, rows: list[list[float]]) -> dict[str, list[float]]:
    """A curve for each parameter group that differs from those before it."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    different = [(i, column) for i, column in enumerate(columns) if column not in columns[:i]]
    return {name if len(different) == 1 else f"{name} of group {i}": column for i, column in different}
