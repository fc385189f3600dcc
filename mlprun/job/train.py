"""Train, validate and test one run, in a directory that has its record."""

from __future__ import annotations

import csv
import io
import logging
import math
from typing import Any

import torch
import torch._dynamo  # imported by the first optimizer anyway
from torch import Tensor

from mlprun import signals
from mlprun.analysis.configurations import override_lines
from mlprun.config.schema import Config
from mlprun.data.digest import Digest
from mlprun.data.source import Examples
from mlprun.errors import ConfigError, DivergedError
from mlprun.files import atomic_write, naming_path
from mlprun.formatting import csv_cell, first_few
from mlprun.job import summary
from mlprun.job.attempt import Attempt, provenance_entries
from mlprun.job.build_optimizer import group_lines
from mlprun.job.build_writers import build_writers
from mlprun.job.class_weights import weight_lines
from mlprun.job.figures import build_drawing
from mlprun.job.hparams import hyperparameters
from mlprun.job.memory import peak_mem_mib
from mlprun.job.outcome import Outcome, result_lines, resume_line
from mlprun.job.prepare import Experiment, checkpoint_extras, prepare
from mlprun.job.profile import ProfiledBatches
from mlprun.job.resume import resume_training
from mlprun.runs import checkpoint, sweep_record
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord, section
from mlprun.tasks.metrics import Evaluation, confusion_rows
from mlprun.training import finetune
from mlprun.training.distributed import SINGLE, World
from mlprun.training.loop import Figures, Progress, train
from mlprun.training.pruning import Pruner
from mlprun.writers.base import RunInfo, Writer

log = logging.getLogger("mlprun")


def train_run(
    config: Config,
    directory: RunDirectory,
    command: str,
    earlier: tuple[RunRecord, RunRecord] | None,
    num_threads: int | None,
    world: World = SINGLE,
) -> Outcome:
    """Train from the newest checkpoint or from the start, then test the best checkpoint.

    Args:
        directory: of the run, open.
        command: the command line, for the record.
        earlier: the record as the last attempt left it, and of this attempt; None in a new run.
        num_threads: used if `trainer.num_threads=null`; None: chosen by the size of a step.
        world: the processes of the run, of which this is the first.
    """
    torch.autograd.set_detect_anomaly(config.trainer.detect_anomaly)
    saver = checkpoint.Checkpointer(directory.checkpoints, config.checkpoint.keep)
    writer = build_writers(config)
    experiment = prepare(config, num_threads=num_threads, has_checkpoint=not saver.is_empty(), world=world)
    attempt = Attempt(experiment, experiment.build_learner(), Progress(), saver, directory)
    learner, progress = attempt.learner, attempt.progress
    _record_start(attempt, earlier, command)
    draw = build_drawing(config, learner, experiment.splits)
    first = None
    if progress.step == 0:
        learner.schedule.apply(learner.optimizer, 0)  # histograms of updates use the first step's rate
        first = draw(0)  # before anything is printed: a picture may not fit the data
    _log_start(experiment)
    writer.start(_describe(attempt))
    batches, val = experiment.batches, experiment.eval_batches(experiment.splits.val)
    if config.trainer.profile:
        batches = ProfiledBatches(batches, directory.path / "trace.json")
    status = "failed"
    try:
        if first is not None:
            _write_first(first, writer, progress)
        pruner = _pruner(attempt, earlier)
        if pruner is not None and not progress.pending and pruner.is_over(progress.step, None):
            reason = "pruned"  # it was killed before that was recorded
        else:
            state = {"learner": learner.state_dict(), "progress": progress.state_dict()}
            world.from_main({**state, "is_pruned": pruner is not None})
            with world.uninterrupted():
                reason = train(
                    learner,
                    batches,
                    lambda: monitored(learner.evaluate(val, world=world), config.monitor),
                    experiment.plan,
                    progress,
                    writer,
                    saver,
                    checkpoint_extras(experiment),
                    draw,
                    **({} if pruner is None else {"is_over": lambda *now: world.from_main(pruner.is_over(*now))}),
                )
        experiment.batches.report()
        if reason == "pruned":
            status = "pruned"
            return _finish_pruned(attempt)
        with world.uninterrupted():
            metrics = _test(attempt, writer)
        if learner.schedule.may_diverge:
            _report_range_test(directory, writer, progress.step, ended_early=reason == "diverged")
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        directory.update(steps=progress.step, skipped_steps=progress.skipped, **_next_best(attempt))
        writer.finish(status)
    return _finish(attempt, reason, metrics)


def _pruner(attempt: Attempt, earlier: tuple[RunRecord, RunRecord] | None) -> Pruner | None:
    """The pruner of a run of a sweep; None outside of one, and for a run that was pruned and is resumed by hand."""
    rule, path, plan = attempt.experiment.config.sweep.pruner, attempt.directory.path, attempt.experiment.plan
    if rule == "none" or not (path.parent / sweep_record.FILE_NAME).exists():
        return None
    if earlier is not None and earlier[0].status == "pruned":
        return None
    return Pruner(rule, path, plan.eval_every, plan.mode == "max")


def _record_start(attempt: Attempt, earlier: tuple[RunRecord, RunRecord] | None, command: str) -> None:
    """Record the setup of a new run; or continue from its newest checkpoint, and record what has changed."""
    experiment = attempt.experiment
    entries = provenance_entries(experiment)
    if earlier is not None:
        before, now = earlier
        # once there is a checkpoint, the weights file no longer matters
        resume_training(attempt, before, RunRecord({**now, "weights": before.weights, **entries}), command)
        if before.data:  # data and sources are recorded once, when the run begins
            entries = {key: value for key, value in entries.items() if key not in ("data", "sources")}
    attempt.directory.update(
        device=entries.pop("device"),
        num_parameters=experiment.summary.num_parameters,
        num_trained_parameters=experiment.num_trained_parameters,
        num_steps=experiment.plan.num_steps,
        steps_per_epoch=experiment.plan.steps_per_epoch,
        higher_is_better=experiment.higher_is_better,
        **entries,
    )


def _log_start(experiment: Experiment) -> None:
    config, num_trained = experiment.config, experiment.num_trained_parameters
    for line in (
        summary.data_line(config, experiment.split_sizes, experiment.task.describe_targets()),
        *(summary.INDENT + line for line in experiment.splits.inputs.summary),
        *summary.model_lines(config, experiment.summary, num_trained, most=12),
        summary.optim_line(config),
        *(summary.INDENT + line for line in group_lines(config, experiment.model, experiment.plan)),
        *(summary.INDENT + line for line in weight_lines(config, experiment.splits, experiment.class_weights)),
        summary.length_line(config, experiment.plan.num_steps, experiment.batches.batch_size),
        summary.device_line(config, experiment.device_name, experiment.num_threads),
    ):
        log.info("%s", line)
    if config.trainer.freeze and config.trainer.weights is None and config.trainer.unfreeze_at is None:
        log.warning("trainer.freeze without trainer.weights=…: the frozen layers keep their random initial weights")
    if config.trainer.devices > 1 and experiment.summary.has_batch_norm and not config.trainer.sync_batchnorm:
        log.warning(
            "batch norm: each of the %d processes normalises its own share of a step, so the result differs from that"
            " of one process; trainer.sync_batchnorm=true (on GPUs) or another norm avoids that",
            config.trainer.devices,
        )
    if experiment.weights is not None:
        log.info("weights %s", finetune.summary(experiment.weights, str(config.trainer.weights)))


def _describe(attempt: Attempt) -> RunInfo:
    config, progress = attempt.experiment.config.to_dict(), attempt.progress
    record, path = attempt.directory.read(), attempt.directory.path.resolve()
    return RunInfo(
        attempt.directory.path,
        config,
        hyperparameters(config, override_lines(record)),
        attempt.experiment.plan.num_steps,
        progress.step,
        keep_until=progress.step - progress.pending if progress.step else None,
        command=record.command,
        best=progress.best,
        higher_is_better=attempt.experiment.plan.mode == "max",
        id=record.run_id(path),
        group=path.parent.name if (path.parent / sweep_record.FILE_NAME).exists() else "",
    )


def _write_first(first: Figures, writer: Writer, progress: Progress) -> None:
    with signals.deferred:
        if first.values:
            writer.write(0, 0.0, first.values)
            progress.num_rows += 1
        writer.images(0, first.images)
        writer.histograms(0, first.histograms)


def _test(attempt: Attempt, writer: Writer) -> dict[str, float]:
    """Test the best checkpoint and write its test metrics; returns them with its val metrics."""
    experiment, progress, directory = attempt.experiment, attempt.progress, attempt.directory
    if progress.best is None:
        raise DivergedError(
            f"{experiment.config.monitor} was never finite, so there is no best checkpoint to test"
            "\n  try a lower optim.lr or trainer.grad_clip=1.0"
        )
    world = experiment.world
    attempt.learner.end_with(world.from_main(checkpoint.load(directory.best, experiment.device).model))
    batches = experiment.eval_batches(experiment.splits.test)
    batches.digest = Digest()
    evaluation = attempt.learner.evaluate(batches, world=world)
    if not isinstance(experiment.splits.test, Examples):  # they were read for the first time
        data = directory.record.data
        directory.update(data={**data, "digests": {**section(data, "digests"), "test": str(batches.digest)}})
    test_metrics = _with_prefix("test", evaluation.compute())
    writer.write(progress.step, None, test_metrics)
    if evaluation.confusion is not None:
        _write_confusion(evaluation.confusion, experiment.splits.class_names, directory, writer, progress.step)
    return {**(progress.best_values or {}), **test_metrics}


def monitored(evaluation: Evaluation, monitor: str) -> dict[str, float]:
    """The values of the val split; ConfigError if there is none to select a checkpoint by."""
    values, name = _with_prefix("val", evaluation.compute()), monitor.removeprefix("val/")
    if name in evaluation.undefined:
        remedy = "choose another monitor, or a larger val split (data.val_fraction, data.limit_eval)"
        raise ConfigError("monitor", monitor, evaluation.undefined[name], remedy)
    if monitor not in values:
        raise ConfigError("monitor", monitor, "is not logged", f"choose from: {first_few(list(values), 30)}")
    return values


def _with_prefix(split: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _write_confusion(
    confusion: Tensor, class_names: tuple[str, ...], directory: RunDirectory, writer: Writer, step: int
) -> None:
    """Write the test split's confusion matrix as numbers and as a picture."""
    from mlprun.pictures.confusion import heat_map

    has_names = len(class_names) == len(confusion)
    labels = list(class_names) if has_names else [str(i) for i in range(len(confusion))]
    path, table = directory.path / "confusion_matrix.csv", io.StringIO(newline="")
    csv.writer(table).writerows([[csv_cell(cell) for cell in row] for row in confusion_rows(confusion.cpu(), labels)])
    with naming_path(path), atomic_write(path) as file:
        file.write(table.getvalue().encode())
    writer.images(step, {"test/confusion_matrix": heat_map(confusion.cpu().numpy(), labels)})


def _next_best(attempt: Attempt) -> dict[str, Any]:
    """For run.json: the checkpoints that `checkpoint.keep_best` keeps besides the best."""
    found = [{"step": step, "value": value} for value, step in attempt.progress.next_best]
    return {"next_best": found} if found or attempt.directory.record.next_best else {}


def _report_range_test(directory: RunDirectory, writer: Writer, step: int, *, ended_early: bool) -> None:
    """Print, record and draw the result of a learning-rate range test."""
    from mlprun.analysis import range_test
    from mlprun.pictures.figures import save, to_pixels

    curve = range_test.judge(*range_test.read(directory.metrics_file), ended_early=ended_early)
    log.info("range   %s", curve.sentence())
    directory.update(range_test=curve.values)
    figure = range_test.picture(curve)
    save(figure, directory.path / "lr_range.png")
    writer.images(step, {"pictures/lr_range": to_pixels(figure)})


def _finish_pruned(attempt: Attempt) -> Outcome:
    """Close the record of a run that others of its sweep have beaten; it has no test metrics."""
    progress, directory, monitor = attempt.progress, attempt.directory, attempt.experiment.config.monitor
    metrics = {name: value for name, value in (progress.best_values or {}).items() if math.isfinite(value)}
    directory.finish("pruned", best_step=progress.best_step, ended_by="pruned", metrics=metrics)
    log.info(
        "pruned  at step %d of %d: others do better (sweep.pruner)", progress.step, attempt.experiment.plan.num_steps
    )
    log.info("resume  %s", resume_line(directory.path))
    return Outcome("pruned", directory.path, metrics, metrics.get(monitor, math.nan))


def _finish(attempt: Attempt, reason: str, metrics: dict[str, float]) -> Outcome:
    progress, directory, monitor = attempt.progress, attempt.directory, attempt.experiment.config.monitor
    if progress.skipped:
        log.warning("%d steps were not finite and were skipped (trainer.on_nan=skip)", progress.skipped)
    directory.finish(
        "completed",
        best_step=progress.best_step,
        best_sha256=checkpoint.sum_of(directory.best),
        ended_by=reason,
        metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()},
        peak_mem_mib=peak_mem_mib(attempt.experiment.device),
    )
    if reason == "early_stopping":
        log.info("early stopping: %s did not improve for %d evaluations", monitor, progress.stale)
    for line in result_lines(metrics, progress.best_step, monitor):
        log.info("%s", line)
    assert progress.best is not None  # else there was no best checkpoint to test
    return Outcome("completed", directory.path, metrics, progress.best)
