"""Train, validate and test one run, in a directory that has its record."""

from __future__ import annotations

import csv
import logging
import math
import sys
from pathlib import Path
from typing import Any

from mlprun import signals
from mlprun.analysis.diff import compare_records
from mlprun.config.schema import Config
from mlprun.errors import DivergedError
from mlprun.job import summary
from mlprun.job.hparams import hyperparameters
from mlprun.job.outcome import Outcome
from mlprun.process import without_collections
from mlprun.runs import provenance
from mlprun.runs.directory import RunDirectory, now_utc

log = logging.getLogger("mlprun")


def train_run(
    config: Config,
    directory: RunDirectory,
    command: str,
    earlier: tuple[dict[str, Any], dict[str, Any]] | None,
    num_threads: int | None,
) -> Outcome:
    # torch comes in here, when the run has its directory and its record
    with without_collections():
        import torch
        import torch._dynamo  # which the first optimizer imports

        from mlprun import randomness
        from mlprun.job.build_data import (
            build_eval_batches,
            build_splits,
            build_train_batches,
            find_device,
            split_sizes,
            trial_batch,
        )
        from mlprun.job.build_learner import (
            build_learner,
            build_loss,
            build_model,
            build_plan,
            frozen_modules,
            num_trained_parameters,
        )
        from mlprun.job.figures import build_drawing
        from mlprun.job.model_check import check_batch_norm, check_model
        from mlprun.job.profile import profile_batches
        from mlprun.job.resume import restore
        from mlprun.job.weights import initial_weights
        from mlprun.runs import checkpoint
        from mlprun.training import finetune
        from mlprun.training.loop import Progress, train
        from mlprun.training.schedules import is_range_test
        from mlprun.writers.collection import Writers
        from mlprun.writers.console import Console
        from mlprun.writers.image_files import PictureFiles
        from mlprun.writers.jsonl import JsonLines
        from mlprun.writers.tensorboard import TensorBoard

    # Before anything is computed: the last bits of the data's statistics and of the weights depend on it too.
    torch.set_num_threads(config.trainer.num_threads or 1)
    randomness.set_determinism(config.trainer.deterministic)
    torch.autograd.set_detect_anomaly(config.trainer.detect_anomaly)
    where = find_device(config)
    parts = build_splits(config)
    criterion = build_loss(config)
    batches = build_train_batches(config, parts, where)
    plan = build_plan(config, batches.steps_per_epoch)
    model = build_model(config)
    fit = check_model(config, model, criterion, trial_batch(config, parts))
    check_batch_norm(fit, batches, config.trainer.accumulate, frozen_modules(config, model))
    num_threads = (
        config.trainer.num_threads or num_threads or fit.num_threads(batches.batch_size // config.trainer.accumulate)
    )
    torch.set_num_threads(num_threads)
    saver = checkpoint.Checkpointer(directory.checkpoints, config.checkpoint.keep)
    weights = (
        initial_weights(config, model, parts.tokenizer) if saver.is_empty() else None
    )  # else a checkpoint has them
    if weights is not None:
        finetune.load(weights[1], model)
    learner = build_learner(config, model, plan, where, parts.target_normalizer)
    num_trained = num_trained_parameters(config, model)
    device_name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    device = {"type": str(where), "name": device_name, "num_threads": num_threads}
    data = {"sizes": split_sizes(parts), "fingerprints": parts.fingerprints or {}}
    data |= {} if parts.tokenizer is None else {"tokens": parts.tokenizer.digest()}
    progress, kept = Progress(), None
    sources = provenance.sources(Path.cwd())
    if earlier is not None:
        steps_before = earlier[0].get("steps")
        said = restore(
            config, plan, batches, learner, progress, saver, directory.metrics_file, steps_before, parts.tokenizer
        )
        kept = progress.step - progress.pending if progress.step else None
        before, now = earlier
        # of weights that a checkpoint has by now, the file does not matter any more
        start = _recorded(*weights) if weights is not None else before.get("weights")
        typed, found = _changes(before, {**now, "device": device, "data": data, "sources": sources, "weights": start})
        said += ["since the run began these have changed, and its result may too:"] * bool(found)
        for line in [*said, *(f"  {line}" for line in found)]:
            log.info("%s", line)
        entry = {"at": now_utc(), "step": progress.step, "command": command, "changed": [*typed, *found]}
        directory.update(config=config.to_dict())
        entry |= {key: before[key] for key in ("metrics", "best_step", "ended_by") if key in before}
        directory.update(resumed=[*before.get("resumed", []), entry])
    directory.update(
        device=device,
        num_parameters=fit.num_parameters,
        num_trained_parameters=num_trained,
        num_steps=plan.num_steps,
        steps_per_epoch=plan.steps_per_epoch,
        **({} if earlier is not None and "data" in earlier[0] else {"data": data, "sources": sources}),
        **({} if weights is None else {"weights": _recorded(*weights)}),
    )
    draw = build_drawing(config, learner, parts)
    if progress.step == 0:
        learner.schedule.apply(learner.optimizer, 0)  # a histogram at the start is of the first step's rate
    # Before anything is said or begun: a picture may not fit the data.
    first = draw(0) if progress.step == 0 else None
    for line in (
        summary.data_line(config, split_sizes(parts)),
        *summary.model_lines(config, fit, num_trained, most=12),
        summary.optim_line(config),
        f"length  {plan.num_steps:,} steps of {batches.batch_size} examples",
        f"device  {device_name}, {summary.counted(num_threads, 'thread')}",
        f"run     {directory.path}",
    ):
        log.info("%s", line)
    if config.trainer.freeze and config.trainer.weights is None:
        log.warning("what trainer.freeze freezes keeps its random first weights: trainer.weights=… gives it others")
    if weights is not None:
        log.info("weights %s", finetune.summary(weights[1], str(config.trainer.weights)))

    board = TensorBoard(directory.path, kept)
    board.hparams(hyperparameters(config.to_dict()))
    console = Console(plan.num_steps, progress.step)
    rows = JsonLines(directory.metrics_file, kept)
    writer = Writers(board, rows, PictureFiles(directory.pictures), console)
    val = build_eval_batches(config, parts.val, parts, where)
    status = "failed"
    try:
        if first is not None:
            with signals.deferred:
                if first.values:
                    writer.write(0, 0.0, first.values)
                    progress.num_rows += 1
                writer.draw(0, first.images, first.histograms)
        reason = train(
            learner,
            batches if not config.trainer.profile else profile_batches(batches, directory.path / "trace.json"),
            lambda: _named("val", learner.evaluate(val).compute()),
            plan,
            progress,
            writer,
            saver,
            {
                "config": config.to_dict(),
                "normalizer": {"shift": parts.normalizer.shift, "scale": parts.normalizer.scale},
                "class_names": list(parts.class_names),
                "image_format": parts.image_format(),
                **_scaled_targets(parts),
                **({} if parts.tokenizer is None else {"tokenizer": parts.tokenizer.to_plain()}),
            },
            draw,
        )
        if progress.best is None:
            raise DivergedError(
                f"{config.monitor} was never finite, so there is no best checkpoint to test"
                "\n  try a lower optim.lr or trainer.grad_clip=1.0"
            )
        model.load_state_dict(checkpoint.load(directory.best, where)["model"])
        tested = learner.evaluate(build_eval_batches(config, parts.test, parts, where))
        scores = _named("test", tested.compute())
        metrics = {**(progress.best_values or {}), **scores}
        board.write(progress.step, None, scores)
        if config.data.task == "classification":
            _confusion(tested.confusion, parts.class_names, directory, board, progress.step)
        if is_range_test(learner.schedule):
            _report_range_test(directory, board, progress.step, ended_early=reason == "diverged")
        status = "completed"
    except KeyboardInterrupt:
        status = "interrupted"
        raise
    finally:
        directory.update(steps=progress.step, skipped_steps=progress.skipped)
        writer.close(status)
    if progress.skipped:
        log.warning("%d steps were not finite and were skipped (trainer.on_nan=skip)", progress.skipped)
    directory.finish(
        "completed",
        best_step=progress.best_step,
        ended_by=reason,
        metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()},
        peak_mem_mib=_peak_memory(where),
    )
    if reason == "early_stopping":
        log.info("early stopping: %s did not improve for %d evaluations", config.monitor, progress.stale)
    log.info("%s", result_line(metrics, progress.best_step, config.monitor))
    return Outcome("completed", directory.path, metrics, progress.best)


def _recorded(weights: Any, taken: Any) -> dict[str, Any]:
    """Where the first weights came from, for the record."""
    return {
        "path": str(weights.path),
        "sha256": weights.digest,
        "num_tensors": len(taken.tensors),
        "new": taken.new,
    }


def _scaled_targets(parts: Any) -> dict[str, Any]:
    """How predictions become values in the data's own units, for the checkpoints; empty where they are already."""
    scaling = parts.target_normalizer
    return {} if scaling is None else {"target_normalizer": {"shift": scaling.shift, "scale": scaling.scale}}


def _changes(earlier: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str]]:
    """What was typed to change a run, and what else is not as it was when it began; one line each."""
    # what an attempt that ended early had not written yet is no difference
    found = compare_records(earlier, {key: value for key, value in now.items() if key in earlier})
    return [str(d) for d in found["config"]], [
        str(d) for section in ("code", "environment", "data") for d in found[section]
    ]


def result_line(metrics: dict[str, float], best_step: int, monitor: str) -> str:
    tested = "  ".join(f"{k.removeprefix('test/')} {v:.4f}" for k, v in metrics.items() if k.startswith("test/"))
    return f"test    {tested}  (best checkpoint: step {best_step}, {monitor} {metrics[monitor]:.4f})"


def _named(split: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _confusion(confusion: Any, class_names: tuple[str, ...], directory: RunDirectory, board: Any, step: int) -> None:
    """The test split's confusion matrix, as numbers and as a picture in TensorBoard."""
    from mlprun.pictures.confusion import heat_map
    from mlprun.training.metrics import confusion_rows

    named = len(class_names) == len(confusion)
    labels = list(class_names) if named else [str(i) for i in range(len(confusion))]
    with (directory.path / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(confusion_rows(confusion.cpu(), labels))
    board.image("test/confusion_matrix", heat_map(confusion.cpu().numpy(), labels), step)


def _report_range_test(directory: RunDirectory, board: Any, step: int, *, ended_early: bool) -> None:
    """What a learning-rate range test found, said, recorded and drawn."""
    from mlprun.analysis import range_test
    from mlprun.pictures.base import to_pixels

    curve = range_test.judge(*range_test.read(directory.metrics_file), ended_early=ended_early)
    log.info("range   %s", curve.sentence())
    directory.update(range_test=curve.values)
    figure = range_test.picture(curve)
    figure.savefig(directory.path / "lr_range.png")
    board.image("pictures/lr_range", to_pixels(figure), step)


def _peak_memory(where: Any) -> float:
    """Largest memory in use so far, MiB: the device's on a GPU, else the process's."""
    import torch

    if where.type == "cuda":
        return round(torch.cuda.max_memory_allocated(where) / 2**20, 1)
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
