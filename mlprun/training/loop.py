"""The one training loop. It speaks steps, and waits for the device only to show or save something."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from mlprun import signals
from mlprun.data.batches import TrainBatches
from mlprun.errors import DivergedError, RunError
from mlprun.training.learner import Learner, Update
from mlprun.writers.base import Bins, Pixels, Values, Writer, WriterError


@dataclass(frozen=True)
class Plan:
    """Every length of a run in optimizer steps.

    Attributes:
        num_steps: the whole run.
        steps_per_epoch: None where the data does not tell its length.
        eval_every, log_every, save_every: periods; the last step is always evaluated and saved.
        monitor: name of the metric that decides, such as `val/loss`.
        mode: `min` or `max`.
        patience: evaluations without improvement before the end, or None.
        min_delta: smallest change that counts as an improvement.
    """

    num_steps: int
    steps_per_epoch: int | None
    eval_every: int
    log_every: int
    save_every: int
    monitor: str
    mode: Literal["min", "max"]
    patience: int | None = None
    min_delta: float = 0.0


@dataclass
class Progress:
    """How far a run is; all of it is saved.

    Attributes:
        step: optimizer updates completed.
        best: value of `monitor` at its best, None before the first evaluation.
        best_step: when that was.
        best_values: all val metrics at that step.
        reference: value at the last change by more than `min_delta`.
        stale: evaluations since that change.
        sums: since training values were last logged, of the loss times the targets, of what the task logs, of
            `optim/grad_norm`, and of `num_targets` where they are not the examples; scalars on the device.
        examples, updates: how many those were.
        skipped: steps passed over so far (`on_nan=skip`).
        num_rows: how many times values were logged.
        pending: the last step still has to be logged, evaluated and saved as the plan says.
    """

    step: int = 0
    best: float | None = None
    best_step: int = 0
    best_values: Values | None = None
    reference: float | None = None
    stale: int = 0
    sums: dict[str, Tensor] | None = None
    examples: int = 0
    updates: int = 0
    skipped: int = 0
    num_rows: int = 0
    pending: bool = False

    def record_evaluation(self, value: float, values: Values, plan: Plan) -> bool:
        """Whether `value` is the best so far; counts the evaluations without a change that counts."""
        sign = 1.0 if plan.mode == "max" else -1.0

        # A model whose loss is NaN may still rank its examples: it is not the best of anything.
        sound = math.isfinite(value) and math.isfinite(values.get("val/loss", 0.0))

        def above(other: float | None, by: float) -> bool:
            return sound and (other is None or sign * (value - other) > by)

        # The best is the best, by however little; only patience asks for min_delta.
        improved = above(self.best, 0.0)
        if improved:
            self.best, self.best_step, self.best_values = value, self.step, values
        if above(self.reference, plan.min_delta):
            self.reference, self.stale = value, 0
        else:
            self.stale += 1
        return improved

    def ended_by(self, plan: Plan) -> str:
        """`finished` or `early_stopping`; empty while there is something to do."""
        if self.pending:
            return ""
        if self.step >= plan.num_steps:
            return "finished"
        return "early_stopping" if plan.patience is not None and self.stale >= plan.patience else ""

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` gave.

        Raises:
            RunError: a key is missing or unknown, so the state is of another version of mlprun.
        """
        missing, unknown = vars(self).keys() - state.keys(), state.keys() - vars(self).keys()
        if missing or unknown:
            found = {"missing": missing, "unknown": unknown}
            raise RunError(
                "the checkpoint is of another version of mlprun: in its progress, "
                + "; ".join(f"{what}: {', '.join(sorted(names))}" for what, names in found.items() if names)
                + "\n  continue with the version that the run's run.json names, or train it anew in another directory"
            )
        vars(self).update(state)


class Figures(NamedTuple):
    """What one looks at beside the metrics, by tag."""

    values: Values
    images: dict[str, Pixels]
    histograms: dict[str, Bins]


def nothing(step: int) -> Figures:
    """For a run without pictures."""
    return Figures({}, {}, {})


class Saver(Protocol):
    """Where checkpoints go."""

    def save_last(self, state: dict[str, Any], *, keep: bool = True) -> None:
        """Keep the newest state; with `keep` also as one of the older ones that are kept."""

    def save_best(self, state: dict[str, Any]) -> None:
        """Keep the best state."""


def train(
    learner: Learner,
    batches: TrainBatches,
    evaluate: Callable[[], Values],
    plan: Plan,
    progress: Progress,
    writer: Writer,
    saver: Saver,
    more_state: dict[str, Any],
    draw: Callable[[int], Figures] = nothing,
) -> str:
    """Train from `progress.step` to the end of the plan; returns why it ended.

    That is `finished`, `early_stopping`, or, for a learning-rate range test, `diverged`.

    Args:
        learner: does a step.
        batches: gives the batch of each step.
        evaluate: tag -> value over the val split.
        plan: when to do what.
        progress: where to start; advanced in place.
        writer: gets values at logged steps and evaluations.
        saver: gets checkpoints: learner, progress and `more_state`.
        more_state: plain values that a checkpoint carries besides.
        draw: step -> pictures and histograms, asked for after each evaluation.

    Raises:
        RunError: loss or gradient stopped being finite, or the data ended early.
        WriterError: from a writer; the state is saved if the step's values can be written again.
        KeyboardInterrupt: asked to stop (`mlprun.signals`); the state is saved, whole steps only.
    """

    def state() -> dict[str, Any]:
        return {
            **learner.state_dict(),
            "progress": progress.state_dict(),
            "step": progress.step,
            **more_state,
        }

    learner.train_mode()
    window = _Window(progress, learner)
    stream = batches.starting_at(progress.step)
    try:
        while not (reason := progress.ended_by(plan)):
            if not progress.pending:
                batch = next(stream, None)
                if batch is None:
                    raise RunError(
                        f"data: the training stream gave nothing more after step {progress.step} of {plan.num_steps}\n"
                        "  each pass calls iter() on the data set anew: it must start over, not go on where it ended"
                    )
                with signals.deferred:
                    update = learner.update(batch, progress.step)
                    progress.step, progress.pending = progress.step + 1, True
                    window.add(update)
                    writer.tick(progress.step)
            step, ended = progress.step, progress.step >= plan.num_steps
            evaluating = ended or step % plan.eval_every == 0
            logging = evaluating or step % plan.log_every == 0
            saving = ended or step % plan.save_every == 0
            if logging or saving:
                learner.check_finite()
            values = {**window.means(), "optim/lr": learner.lr, **batches.noise_scale(learner.lr)} if logging else {}
            # A request to stop may break this off: the step then stays pending, and is evaluated after a resume.
            scores = evaluate() if evaluating else {}
            drawn = (draw if evaluating else nothing)(step)
            with signals.deferred:
                improved = False
                if logging:  # before anything else changes: if a writer fails, the step is still pending
                    epoch = None if plan.steps_per_epoch is None else step / plan.steps_per_epoch
                    writer.write(step, epoch, values | scores | drawn.values)
                    writer.images(step, drawn.images)
                    writer.histograms(step, drawn.histograms)
                    progress.num_rows += 1
                    window.restart()
                if evaluating:
                    learner.schedule.observe(scores[plan.monitor], plan.mode)
                    improved = progress.record_evaluation(scores[plan.monitor], scores, plan)
                progress.pending = False
                saving = saving or bool(progress.ended_by(plan))
                if improved or saving:
                    writer.flush()  # a checkpoint never knows of a row that a crash could take
                if improved:
                    saver.save_best(state())
                if saving:
                    saver.save_last(state())
            if evaluating or saving:
                window.start_clock()
    except DivergedError:
        if progress.best is None or not learner.schedule.may_diverge:
            raise
        return "diverged"  # which is what a range test is for
    except (KeyboardInterrupt, WriterError) as stop:
        with signals.deferred:
            learner.check_finite()
            # A step that was counted and not saved is done again from the checkpoint before it.
            if isinstance(stop, KeyboardInterrupt) or progress.pending:
                try:
                    writer.flush()
                finally:
                    saver.save_last(state(), keep=False)
        raise
    return reason


_NORM, _COUNT = "optim/grad_norm", "num_targets"


class _Window:
    """Training values summed on the device between two logged steps."""

    def __init__(self, progress: Progress, learner: Learner) -> None:
        self.progress, self.sums_loss = progress, learner.task.sums_loss
        self.start_clock()

    def start_clock(self) -> None:
        """Leave evaluation and saving out of the training speed."""
        self._since, self._examples_timed = time.perf_counter(), 0

    def add(self, update: Update) -> None:
        progress, loss = self.progress, update.loss
        if not update.applied:
            progress.skipped += 1
            return
        new = {"loss": loss if self.sums_loss else loss * update.num_targets, **update.sums, _NORM: update.grad_norm}
        if isinstance(update.num_targets, Tensor) or update.num_targets != update.num_examples:
            new[_COUNT] = torch.as_tensor(update.num_targets)
        sums = dict(progress.sums or {})
        for name, value in new.items():
            value = value.to(loss.device, loss.dtype)
            sums[name] = sums[name] + value if name in sums else value
        progress.sums = sums
        progress.examples += update.num_examples
        progress.updates += 1
        self._examples_timed += update.num_examples

    def means(self) -> Values:
        """Means over the window; waits for the device."""
        progress = self.progress
        sums = {"loss": math.nan, _NORM: math.nan}  # without a sum, every step was skipped
        if progress.sums is not None:
            sums = dict(zip(progress.sums, torch.stack([*progress.sums.values()]).tolist(), strict=True))
        norm = sums.pop(_NORM) / max(progress.updates, 1)
        count = sums.pop(_COUNT, max(progress.examples, 1)) or math.nan  # no target counted
        values = {f"train/{name}": value / count for name, value in sums.items()}
        values[_NORM] = norm
        values["perf/examples_per_sec"] = self._examples_timed / max(time.perf_counter() - self._since, 1e-9)
        return values

    def restart(self) -> None:
        """Begin a new window."""
        self.progress.sums, self.progress.examples, self.progress.updates = None, 0, 0
        self.start_clock()
