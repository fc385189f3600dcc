"""The length of a run, and its learning rate at every step. Imports matplotlib only to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.formatting import pluralize
from mlprun.job.build_learner import build_schedule, scheduled
from mlprun.job.build_optimizer import build_optimizer
from mlprun.job.summary import length_line
from mlprun.pictures.figures import new_panels
from mlprun.pictures.labels import figure_text
from mlprun.training.loop import Plan
from mlprun.training.optimizer import GROUP_NAME
from mlprun.training.schedule import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NUM_DRAWN = 20_000  # steps


def length_lines(config: Config, plan: Plan, batches: TrainBatches, *, sums_loss: bool) -> list[str]:
    """The number of steps, evaluations and checkpoints, and the gradient noise scale."""
    size = batches.batch_size
    lines = [length_line(config, plan.num_steps, size)]
    if plan.steps_per_epoch is not None and batches.num_examples is not None:
        lines[0] += f"; {pluralize(plan.steps_per_epoch, 'step')} per epoch"
        if left := batches.num_examples % size:
            lines[0] += f", the last of {pluralize(left, 'example')}"
    evaluations, writes = (math.ceil(plan.num_steps / every) for every in (plan.eval_every, plan.save_every))
    ends = "" if plan.patience is None else f"; early_stopping.patience={plan.patience} may stop it early"
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
    """The values that a schedule sets."""

    steps: list[int]  # evenly spaced, from 0
    curves: dict[str, list[float]]  # `learning rate` and, if it changes, `momentum`, per distinct parameter group
    problem: str = ""  # why the schedule cannot be drawn

    def lines(self) -> list[str]:
        if self.problem:
            return [f"rates   {self.problem}"]
        lines: list[str] = []
        for name, values in self.curves.items():
            head, low, high = "" if lines else "rates", min(values), max(values)
            if low == high:
                lines.append(f"{head:<7} {name}: {low:g} at every step")
            else:
                lines.append(f"{head:<7} {name}: {low:.4g} to {high:.4g}, {values[0]:.4g} first, {values[-1]:.4g} last")
        return lines


def draw_schedule(config: Config, model: nn.Module, plan: Plan) -> ScheduleCurves:
    """Apply the run's schedule, without training, to an optimizer of the run's kind for `model`."""
    optimizer = build_optimizer(config, model)
    schedule = build_schedule(config, optimizer, plan)
    name, warmup = type(schedule).__name__, schedule.warmup_steps
    if type(schedule).observe is not Schedule.observe:
        problem = f"{name} depends on {config.monitor}"
        if (rate := config.optim.get("lr")) is not None:
            problem += f", and cannot be drawn before: it begins at {rate:g}"
            problem += f", after a linear warmup of {pluralize(warmup, 'step')}" if warmup else ""
        return ScheduleCurves([], {}, problem)
    stride = math.ceil(plan.num_steps / NUM_DRAWN)
    steps = list(range(0, plan.num_steps, stride))
    groups = [tuple(zip(*group, strict=True)) for group in zip(*scheduled(config, model, plan, steps), strict=True)]
    names = [group.get(GROUP_NAME, "") for group in optimizer.param_groups]
    curves = _curves_by_group("learning rate", [list(rates) for rates, _ in groups], names)
    momenta = [list(momenta) for _, momenta in groups]
    if any(len({*column}) > 1 for column in momenta):
        curves |= _curves_by_group("momentum", momenta, names)
    return ScheduleCurves(steps, curves)


def _curves_by_group(kind: str, columns: list[list[float]], names: list[str]) -> dict[str, list[float]]:
    """The curves that differ; `names`: of the parameter groups in `optim.groups`, empty for others."""
    different = [(i, column) for i, column in enumerate(columns) if column not in columns[:i]]
    is_base = len(different) == 1 or any(names)  # the first group is that of `optim`
    return {kind if i == 0 and is_base else f"{kind} of {names[i] or f'group {i}'}": column for i, column in different}


def schedule_figure(
    steps: Sequence[int], curves: Mapping[str, Sequence[float]], title: str, steps_per_epoch: int | None
) -> Figure:
    """A panel for learning rates and one for momentum, against steps and epochs."""
    names = [name for name in ("learning rate", "momentum") if any(curve.startswith(name) for curve in curves)]
    figure, panels = new_panels(len(names), 1, 6.8, 1.6 + 2.8 * len(names))
    end = steps[-1] + (steps[1] - steps[0] if len(steps) > 1 else 1)
    for axes, panel in zip(panels, names, strict=True):
        panel_curves = {name: values for name, values in curves.items() if name.startswith(panel)}
        for name, values in panel_curves.items():
            # each value holds until the next: draw steps if there are few
            axes.plot([*steps, end], [*values, values[-1]], label=name,
                      drawstyle="steps-post" if len(steps) < 200 else "default")  # fmt: skip
        if len(panel_curves) > 1:
            axes.legend()
        axes.set(xlabel="optimizer step", ylabel=panel, xlim=(0, end))
        if panel == "learning rate":
            low, high = (pick(pick(values) for values in panel_curves.values()) for pick in (min, max))
            if low > 0 and high / low > 1000:  # such as a range test
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=min(0.0, low))
        axes.grid(alpha=0.3)
    if steps_per_epoch is not None:
        both_ways: Any = (partial(np.multiply, 1 / steps_per_epoch), partial(np.multiply, float(steps_per_epoch)))
        panels[0].secondary_xaxis("top", functions=both_ways).set_xlabel("epoch")
    figure.suptitle(figure_text(title), fontsize=10)
    return figure
