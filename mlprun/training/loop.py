"""The training loop. It counts in steps, and waits for the device only to show or save something."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from mlprun import signals
from mlprun.data.batches import TrainBatches
from mlprun.errors import DivergedError, RunError
from mlprun.runs.checkpoint import Checkpointer
from mlprun.training.learner import Learner
from mlprun.training.update import Update
from mlprun.writers.base import Bins, Pixels, Values, Writer, WriterError


@dataclass(frozen=True)
class Plan:
    """Every length of a run in optimizer steps."""

    num_steps: int
    steps_per_epoch: int | None  # None for data of unknown length
    eval_every: int  # the last step is always evaluated and saved
    log_every: int  # training means are of this many steps; at the end, of what is left
    save_every: int
    monitor: str  # the metric that selects the best checkpoint, such as `val/loss`
    mode: Literal["min", "max"]
    patience: int | None = None  # evaluations without improvement before early stopping
    min_delta: float = 0.0  # smallest change that counts as an improvement
    unfreeze_at: int | None = None  # the first step that trains frozen parameters; None: they stay frozen
    keep_best: int = 1  # evaluations whose checkpoints are kept


@dataclass
class Progress:
    """The progress of a run; all of it is saved.

    `sums` are scalars on the device since the last multiple of `log_every`: of the loss times the targets, of the
    values that the task logs, of `optim/grad_norm`, and of `num_targets` unless these are the examples.
    """

    step: int = 0  # optimizer updates completed
    best: float | None = None  # best value of `monitor`, None before the first evaluation
    best_step: int = 0
    best_values: Values | None = None  # all val metrics at that step
    reference: float | None = None  # value at the last improvement by more than `min_delta`
    stale: int = 0  # evaluations since that improvement
    sums: dict[str, Tensor] | None = None
    examples: int = 0  # in `sums`
    updates: int = 0  # in `sums`
    skipped: int = 0  # steps skipped so far (`on_nan=skip`)
    num_rows: int = 0  # of metrics.jsonl
    pending: bool = False  # the last step still has to be logged, evaluated and saved as planned
    # (value, step) of the next best evaluations, the better and then the earlier first; saved unless it is empty
    next_best: list[tuple[float, int]] = field(default_factory=list)

    def record_evaluation(self, value: float, values: Values, plan: Plan) -> bool:
        """Whether `value` is the best so far; ranks it, and counts the evaluations without improvement."""
        sign = 1.0 if plan.mode == "max" else -1.0

        # A model whose loss is NaN may still have a finite metric: it is never the best.
        is_sound = math.isfinite(value) and math.isfinite(values.get("val/loss", 0.0))

        def above(other: float | None, by: float) -> bool:
            return is_sound and (other is None or sign * (value - other) > by)

        # The best checkpoint ignores min_delta; only patience uses it.
        improved = above(self.best, 0.0)
        runner_up = (value, self.step) if is_sound else None
        if improved:
            runner_up = None if self.best is None else (self.best, self.best_step)
            self.best, self.best_step, self.best_values = value, self.step, values
        ranked = [*self.next_best, *([runner_up] if runner_up else [])]
        self.next_best = sorted(ranked, key=lambda pair: (-sign * pair[0], pair[1]))[: plan.keep_best - 1]
        if above(self.reference, plan.min_delta):
            self.reference, self.stale = value, 0
        else:
            self.stale += 1
        return improved

    def ended_by(self, plan: Plan) -> str:
        """`finished` or `early_stopping`; empty before the end."""
        if self.pending:
            return ""
        if self.step >= plan.num_steps:
            return "finished"
        return "early_stopping" if plan.patience is not None and self.stale >= plan.patience else ""

    def state_dict(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "next_best" or value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the state of `state_dict`.

        Raises:
            RunError: a key is missing or unknown, so the state is of another version of mlprun.
        """
        state = {"next_best": [], **state}
        keys = {"missing": vars(self).keys() - state.keys(), "unknown": state.keys() - vars(self).keys()}
        if differences := "; ".join(f"{kind}: {', '.join(sorted(names))}" for kind, names in keys.items() if names):
            raise RunError(
                f"the checkpoint is of another version of mlprun: in its progress, {differences}"
                "\n  continue with the version named in the run's run.json, or train it anew in another directory"
            )
        vars(self).update(state)


class Figures(NamedTuple):
    """Pictures, histograms and further values of an evaluation, by tag."""

    values: Values
    images: dict[str, Pixels]
    histograms: dict[str, Bins]


def nothing(step: int) -> Figures:
    """Draw nothing, for a run without pictures."""
    return Figures({}, {}, {})


def train(
    learner: Learner,
    batches: TrainBatches,
    evaluate: Callable[[], Values],
    plan: Plan,
    progress: Progress,
    writer: Writer,
    saver: Checkpointer,
    more_state: dict[str, Any],
    draw: Callable[[int], Figures] = nothing,
    is_over: Callable[[int, float], bool] = lambda step, value: False,
) -> str:
    """Train from `progress.step` to the end of the plan.

    Args:
        evaluate: returns tag -> value over the val split.
        progress: where to start; advanced in place.
        saver: saves checkpoints of learner, progress and `more_state`.
        more_state: further plain values for a checkpoint.
        draw: step -> pictures and histograms, called after each evaluation.
        is_over: (step, value of the monitor) -> whether the run ends after this evaluation; not called for the last.

    Returns:
        Why it ended: `finished`, `early_stopping`, `pruned` (by `is_over`), or, for a learning-rate range test,
        `diverged`.

    Raises:
        RunError: loss or gradient is not finite, or the data ended early.
        WriterError: from a writer; the state is saved if the step's values can be written again.
        KeyboardInterrupt: asked to stop (`mlprun.signals`); the state is saved, whole steps only.
    """

    def state() -> dict[str, Any]:
        return {**learner.state_dict(), "progress": progress.state_dict(), "step": progress.step, **more_state}

    learner.unfreeze(progress.step - 1)  # as the last step has left it
    learner.train_mode()
    window = _Window(progress, learner)
    stream = batches.starting_at(progress.step)
    try:
        while not (reason := progress.ended_by(plan)):
            if not progress.pending:
                batch = next(stream, None)
                if batch is None:
                    raise RunError(
                        f"data: the training stream ended after step {progress.step} of {plan.num_steps}\n"
                        "  each pass calls iter() on the data set again, which must start over"
                    )
                with signals.deferred:
                    update = learner.train_step(batch, progress.step)
                    progress.step, progress.pending = progress.step + 1, True
                    window.add(update)
                    writer.tick(progress.step)
            learner.world.check_stop()
            step = progress.step
            evaluating = step >= plan.num_steps or step % plan.eval_every == 0
            logging, saving = step % plan.log_every == 0, step % plan.save_every == 0
            if evaluating or logging or saving:
                learner.check_finite()
                learner.world.check_same(learner.model, step)
            means = window.means() if evaluating or logging else {}
            window.stop_clock()
            # A request to stop may interrupt this: the step stays pending and is evaluated after a resume.
            scores = evaluate() if evaluating else {}
            drawn = (draw if evaluating else nothing)(step)
            with signals.deferred:
                after = replace(progress, pending=False)
                improved = evaluating and after.record_evaluation(scores[plan.monitor], scores, plan)
                ended = bool(after.ended_by(plan))
                pruned = evaluating and not ended and is_over(step, scores[plan.monitor])
                if means:  # before anything changes: if a writer fails, the step is still pending
                    if not (logging or ended):
                        writer.running_means(step, means)  # an evaluation does not end the window
                        means = {}
                    epoch = None if plan.steps_per_epoch is None else step / plan.steps_per_epoch
                    at_step = learner.rates() | batches.noise_scale(learner.lr)
                    writer.write(step, epoch, means | at_step | scores | drawn.values)
                    writer.images(step, drawn.images)
                    writer.histograms(step, drawn.histograms)
                    after.num_rows += 1
                if evaluating:
                    learner.schedule.observe(scores[plan.monitor], plan.mode)
                former = progress.best_step
                vars(progress).update(vars(after))
                if logging:  # not the last, partial window, so that a longer run logs the same means
                    window.restart()
                is_next = step in [number for _, number in progress.next_best]
                if improved or is_next or saving or ended or pruned:
                    writer.flush()  # a checkpoint must not count rows that a crash could lose
                if improved:
                    saver.save_best(state(), former)
                elif is_next:
                    saver.save_step(state())
                if saving or ended or pruned:
                    saver.save_last(state())
            if pruned:
                return "pruned"
            window.start_clock()
    except DivergedError:
        if progress.best is None or not learner.schedule.may_diverge:
            raise
        return "diverged"  # the purpose of a range test
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
    """Training values summed on the device over `plan.log_every` steps."""

    def __init__(self, progress: Progress, learner: Learner) -> None:
        self.progress, self.sums_loss = progress, learner.task.sums_loss
        self._sec, self._examples_timed = 0.0, 0
        self.start_clock()

    def start_clock(self) -> None:
        self._since = time.perf_counter()

    def stop_clock(self) -> None:
        """Until `start_clock`: the training speed leaves out what is evaluated, drawn and written."""
        self._sec += time.perf_counter() - self._since

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
        """The means over the window so far; waits for the device."""
        progress = self.progress
        sums = {"loss": math.nan, _NORM: math.nan}  # if every step was skipped
        if progress.sums is not None:
            sums = dict(zip(progress.sums, torch.stack([*progress.sums.values()]).tolist(), strict=True))
        norm = sums.pop(_NORM) / max(progress.updates, 1)
        count = sums.pop(_COUNT, max(progress.examples, 1)) or math.nan  # no target counted
        values = {f"train/{name}": value / count for name, value in sums.items()}
        values[_NORM] = norm
        elapsed_sec = self._sec + time.perf_counter() - self._since
        values["perf/examples_per_sec"] = self._examples_timed / max(elapsed_sec, 1e-9)
        return values

    def restart(self) -> None:
        self.progress.sums, self.progress.examples, self.progress.updates = None, 0, 0
        self._sec, self._examples_timed = 0.0, 0
