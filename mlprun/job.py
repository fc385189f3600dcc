"""One job: from a checked config to a finished run directory. What every launcher calls.

A failure is recorded in the run's own directory and returned, never raised, so that a sweep goes on.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import math
import os
import shlex
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlprun import config as configs
from mlprun import introduction, stopping
from mlprun.config import Config
from mlprun.errors import ConfigError, DivergedError, RunError, UserError
from mlprun.failures import explain
from mlprun.process import without_collections
from mlprun.runs import compare, provenance
from mlprun.runs.directory import RunDirectory, now_utc
from mlprun.runs.log import RunLog
from mlprun.training.durations import parse_seconds
from mlprun.trust import check_targets

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: `completed`, `failed` or `interrupted`.
        directory: of the run.
        metrics: `val/…` of the best checkpoint and `test/…`.
        objective: the monitored value of the best checkpoint, NaN for a run without one.
        exit_status: for the command line.
        began: whether a step was to be done; what fails before it leaves nothing worth keeping.
    """

    status: str
    directory: Path
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float = float("nan")
    exit_status: int = 0
    began: bool = True


def run(
    config: Config,
    path: Path,
    command: str,
    overrides: list[str],
    *,
    num_threads: int | None = None,
    reproduces: Path | None = None,
) -> Outcome:
    """Train, validate and test as `config` says, in the directory `path`.

    A directory that holds a run of this config already is finished, or its result returned.

    Args:
        config: checked.
        path: made if it is not there.
        command: the whole line that was typed, for the record.
        overrides: those of this job.
        num_threads: what `trainer.num_threads=null` stands for; None: the rule's own choice.
        reproduces: the run that this one repeats, for the record.

    Raises:
        UserError: the directory cannot be used; nothing is recorded then.
        KeyboardInterrupt: after the run was marked `interrupted`.
    """
    stopping.install()
    directory = RunDirectory(path)
    if directory.record_file.exists():
        stored = _read(directory)["config"]
        if configs.fingerprint(stored) != configs.fingerprint(config.to_dict()):
            there, here = ({"config": configs.identity(c)} for c in (stored, config.to_dict()))
            differences = compare.records(there, here)["config"]
            remedy = "choose another directory, or remove this one"
            if {d.key for d in differences} <= {"epochs", "steps"}:
                remedy = f"to make it longer: {_resume_line(path)} {differences[0].key}={differences[0].second}"
            raise ConfigError("hydra.run.dir", path, f"holds a run of another config: {differences[0]}", remedy)
        return _continue(directory, config, command)
    with contextlib.ExitStack() as stack:
        with stopping.deferred:  # from the lock to the record
            stack.enter_context(directory.held())
            stack.enter_context(_marked(directory))
            if directory.record_file.exists():  # another process was quicker
                raise RunError(f"{path} holds a run already\n  continue it with {_resume_line(path)}")
            more = {} if reproduces is None else {"reproduces": str(reproduces)}
            directory.start(config.to_dict(), command, overrides, **more)
        return _attempt(config, directory, command, None, num_threads)


def resume(path: Path, lines: list[str], command: str, *, trust: bool = False) -> Outcome:
    """Continue the run in `path` from its newest checkpoint; a completed one returns its result.

    Args:
        path: of the run.
        lines: override lines of the keys in `config.RESUMABLE`.
        command: the whole line that was typed, for the record.
        trust: also call stored targets that are neither a library's own nor from the current folder.

    Raises:
        UserError: no run, in use, nothing to go on from, or a line that cannot work.
        KeyboardInterrupt: after the run was marked `interrupted`.
    """
    stopping.install()
    directory = RunDirectory(path)
    record = _read(directory)
    config = configs.resumed(configs.from_record(record["config"]), lines)
    if not trust and _ended(record, config) is None:
        check_targets(record["config"], Path.cwd(), path)
    return _continue(directory, config, command)


def _read(directory: RunDirectory) -> dict[str, Any]:
    """The run's record, with what is needed to go on."""
    record = directory.read()
    if missing := sorted({"status", "config"} - record.keys()):
        raise RunError(f"{directory.record_file} is damaged: it has no {' and no '.join(missing)}")
    return record


def _continue(directory: RunDirectory, config: Config, command: str) -> Outcome:
    """Finish the run that the directory holds, or return its result."""
    record = _read(directory)
    if (outcome := _ended(record, config)) is not None:
        _show_result(outcome, directory, record)
        return outcome
    with contextlib.ExitStack() as stack:
        with stopping.deferred:
            stack.enter_context(directory.held())
            stack.enter_context(_marked(directory))
            earlier = _read(directory)  # once more, now that nobody else writes it
            if (outcome := _ended(earlier, config)) is not None:
                _show_result(outcome, directory, earlier)
                return outcome
            now = {**directory.reopen(earlier), "config": config.to_dict()}
        return _attempt(config, directory, command, (earlier, now), earlier.get("device", {}).get("num_threads"))


def _ended(record: dict[str, Any], config: Config) -> Outcome | None:
    """The outcome of a completed run to which `config` adds nothing, else None.

    Raises:
        ConfigError: the run is longer already than `config` says.
        RunError: the record is damaged.
    """
    if record["status"] != "completed":
        return None
    if missing := sorted({"metrics", "steps", "ended_by", "best_step"} - record.keys()):
        raise RunError(f"the run's record is damaged: it is completed and has no {', '.join(missing)}")
    per_epoch = record.get("steps_per_epoch")
    length = config.steps if config.steps is not None else per_epoch and config.epochs * per_epoch
    if record["ended_by"] == "finished" and length is not None and length != record["steps"]:
        if length > record["steps"]:
            return None
        key = "epochs" if config.steps is None else "steps"
        raise ConfigError(
            key, getattr(config, key), f"the run has done {record['steps']} steps already, and this would be {length}"
        )
    metrics = {name: math.nan if value is None else value for name, value in record["metrics"].items()}
    return Outcome("completed", Path(), metrics, metrics.get(config.monitor, math.nan))


def _attempt(
    config: Config,
    directory: RunDirectory,
    command: str,
    earlier: tuple[dict[str, Any], dict[str, Any]] | None,
    num_threads: int | None,
) -> Outcome:
    """Train, and record how it ended, whatever happens."""
    limit = config.trainer.max_time
    with RunLog(directory.log_file) as warned:
        log.debug("command: %s", command)
        try:
            with stopping.after(None if limit is None else parse_seconds(limit, "trainer.max_time")):
                return _train(config, directory, command, earlier, num_threads)
        except KeyboardInterrupt as stop:
            return _interrupted(directory, str(stop) or "SIGINT", stop)
        except Exception as error:
            if "killed by signal: Terminated" in str(error):  # a worker, and the run's own SIGTERM may be on its way
                with contextlib.suppress(stopping.Stop), stopping.deferred:
                    time.sleep(0.1)
            if by := stopping.asked():  # what was broken off may say so in its own words
                log.debug("%s", "".join(traceback.format_exception(error)))
                if isinstance(error, UserError):  # it could not be saved, say
                    log.error("error: %s", error)
                return _interrupted(directory, by, error)
            if earlier is not None and isinstance(error, ConfigError):  # refused: the run is what it was
                log.error("error: %s", error)
                directory.put_back(earlier[0])
                return Outcome("failed", directory.path, exit_status=error.exit_status)
            return _failed(error, directory, config, warned.anomaly, began=earlier is not None)


@contextlib.contextmanager
def _marked(directory: RunDirectory) -> Iterator[None]:
    """A request to stop that comes before the training does leaves no run that seems to be running."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if directory.is_open:
            _interrupted(directory, str(stop) or "SIGINT", stop)
        raise


def _interrupted(directory: RunDirectory, by: str, error: BaseException) -> Outcome:
    """Record it and say how to go on; only a time limit, which is the run's own, lets others go on."""
    with contextlib.suppress(stopping.Stop), stopping.deferred:
        directory.finish("interrupted", stopped_by=by)
        words = {"SIGINT": "Ctrl-C", stopping.MAX_TIME: "trainer.max_time, the time limit"}
        log.error("interrupted by %s\nresume  %s", words.get(by, by), _resume_line(directory.path))
        stopping.end_workers()
    if by != stopping.MAX_TIME:
        raise stopping.Stop(by) from error
    stopping.over()
    return Outcome("interrupted", directory.path, exit_status=stopping.exit_status(by))


def _resume_line(path: Path) -> str:
    return f"mlprun resume {shlex.quote(str(path))}"


def _train(
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

        from mlprun import build, seeding
        from mlprun.restoring import restore
        from mlprun.runs import writers
        from mlprun.training import checkpoint, transfer
        from mlprun.training.loop import Progress, train
        from mlprun.training.schedule import is_range_test

    # Before anything is computed: the last bits of the data's statistics and of the weights depend on it too.
    torch.set_num_threads(config.trainer.num_threads or 1)
    seeding.set_determinism(config.trainer.deterministic)
    torch.autograd.set_detect_anomaly(config.trainer.detect_anomaly)
    where = build.device(config)
    parts = build.splits(config)
    criterion = build.loss(config)
    batches = build.train_batches(config, parts, where)
    plan = build.plan(config, batches.steps_per_epoch)
    model = build.model(config)
    fit = build.check_fit(config, model, criterion, build.trial_batch(config, parts))
    build.check_batch_norm(fit, batches, config.trainer.accumulate, build.in_evaluation(config, model))
    num_threads = (
        config.trainer.num_threads or num_threads or fit.num_threads(batches.batch_size // config.trainer.accumulate)
    )
    torch.set_num_threads(num_threads)
    saver = checkpoint.Checkpointer(directory.checkpoints, config.checkpoint.keep)
    weights = build.weights(config, model, parts.tokenizer) if saver.is_empty() else None  # else a checkpoint has them
    if weights is not None:
        transfer.load(weights[1], model)
    learner = build.learner(config, model, plan, where, parts.target_normalizer)
    num_trained = build.num_trained(config, model)
    device_name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    device = {"type": str(where), "name": device_name, "num_threads": num_threads}
    data = {"sizes": build.sizes(parts), "fingerprints": parts.fingerprints or {}}
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
    draw = build.drawer(config, learner, parts)
    if progress.step == 0:
        learner.schedule.apply(learner.optimizer, 0)  # a histogram at the start is of the first step's rate
    # Before anything is said or begun: a picture may not fit the data.
    first = draw(0) if progress.step == 0 else None
    for line in (
        introduction.data_line(config, build.sizes(parts)),
        *introduction.model_lines(config, fit, num_trained, most=12),
        introduction.optim_line(config),
        f"length  {plan.num_steps:,} steps of {batches.batch_size} examples",
        f"device  {device_name}, {introduction.counted(num_threads, 'thread')}",
        f"run     {directory.path}",
    ):
        log.info("%s", line)
    if config.trainer.freeze and config.trainer.weights is None:
        log.warning("what trainer.freeze freezes keeps its random first weights: trainer.weights=… gives it others")
    if weights is not None:
        log.info("weights %s", transfer.summary(weights[1], str(config.trainer.weights)))

    board = writers.TensorBoard(directory.path, kept)
    board.hparams(_hyperparameters(config.to_dict()))
    console = writers.Console(plan.num_steps, progress.step)
    rows = writers.JsonLines(directory.metrics_file, kept)
    writer = writers.Writers(board, rows, writers.PictureFiles(directory.path / "pictures"), console)
    val = build.eval_batches(config, parts.val, parts, where)
    status = "failed"
    try:
        if first is not None:
            with stopping.deferred:
                if first.values:
                    writer.write(0, 0.0, first.values)
                    progress.num_rows += 1
                writer.draw(0, first.images, first.histograms)
        reason = train(
            learner,
            batches if not config.trainer.profile else build.profiled(batches, directory.path / "trace.json"),
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
        tested = learner.evaluate(build.eval_batches(config, parts.test, parts, where))
        scores = _named("test", tested.compute())
        metrics = {**(progress.best_values or {}), **scores}
        board.write(progress.step, None, scores)
        if config.data.task == "classification":
            _confusion(tested.confusion, parts.class_names, directory, board, progress.step)
        if is_range_test(learner.schedule):
            _range_test(directory, board, progress.step, ended_early=reason == "diverged")
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
    log.info("%s", _result(metrics, progress.best_step, config.monitor))
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
    found = compare.records(earlier, {key: value for key, value in now.items() if key in earlier})
    return [str(d) for d in found["config"]], [
        str(d) for section in ("code", "environment", "data") for d in found[section]
    ]


def _result(metrics: dict[str, float], best_step: int, monitor: str) -> str:
    tested = "  ".join(f"{k.removeprefix('test/')} {v:.4f}" for k, v in metrics.items() if k.startswith("test/"))
    return f"test    {tested}  (best checkpoint: step {best_step}, {monitor} {metrics[monitor]:.4f})"


def _show_result(outcome: Outcome, directory: RunDirectory, record: dict[str, Any]) -> None:
    """What a run that is done had found."""
    print(f"completed already, nothing to add  {directory.path}")
    if record["ended_by"] == "early_stopping":
        print(f"it ended by early stopping at step {record['steps']} of {record.get('num_steps', '?')}")
    print(_result(outcome.metrics, record["best_step"], record["config"]["monitor"]))


def _named(split: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _confusion(confusion: Any, class_names: tuple[str, ...], directory: RunDirectory, board: Any, step: int) -> None:
    """The test split's confusion matrix, as numbers and as a picture in TensorBoard."""
    from mlprun.runs.writers import heat_map
    from mlprun.training.metrics import confusion_rows

    named = len(class_names) == len(confusion)
    labels = list(class_names) if named else [str(i) for i in range(len(confusion))]
    with (directory.path / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(confusion_rows(confusion.cpu(), labels))
    board.image("test/confusion_matrix", heat_map(confusion.cpu().numpy(), labels), step)


def _range_test(directory: RunDirectory, board: Any, step: int, *, ended_early: bool) -> None:
    """What a learning-rate range test found, said, recorded and drawn."""
    from mlprun.pictures import pixels
    from mlprun.runs import range_test

    curve = range_test.judge(*range_test.read(directory.metrics_file), ended_early=ended_early)
    log.info("range   %s", curve.sentence())
    directory.update(range_test=curve.values)
    figure = range_test.picture(curve)
    figure.savefig(directory.path / "lr_range.png")
    board.image("pictures/lr_range", pixels(figure), step)


def _hyperparameters(values: dict[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """What a run may be told apart by, for TensorBoard's table: `optim` -> `Adam`, `optim.lr` -> 0.001.

    Paths, sizes that follow from the data, and what is switched off (null, false) are left out.
    """
    flat: dict[str, bool | float | str] = {}
    for name, value in values.items():
        if (
            name
            in (
                "logging",
                "checkpoint",
                "sweep",
                "inspect",
                "max_time",
                "root",
                "dataset",
                "input_shape",
                "num_outputs",
            )
            or value in (None, {})
            or (name == "freeze" and not value)
            or (name in ("text", "audio") and prefix == "data." and name not in values["dataset"])  # not read
        ):
            continue
        if name == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif isinstance(value, dict):
            flat |= _hyperparameters(value, f"{prefix}{name}.")
        elif value is not False:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _peak_memory(where: Any) -> float:
    """Largest memory in use so far, MiB: the device's on a GPU, else the process's."""
    import torch

    if where.type == "cuda":
        return round(torch.cuda.max_memory_allocated(where) / 2**20, 1)
    import resource

    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux KiB
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _failed(error: Exception, directory: RunDirectory, config: Config, anomaly: str, *, began: bool) -> Outcome:
    """Record the failure, say it once, and keep the whole traceback in train.log."""
    shown = explain(error, config, anomaly)
    details = "".join(traceback.format_exception(error))
    log.debug("%s", details)
    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        print(details, file=sys.stderr)
    log.error("error: %s", shown)
    directory.finish("failed", error=shown, traceback=str(directory.log_file))
    status = error.exit_status if isinstance(error, UserError) else 1
    began = began or directory.metrics_file.exists() or not isinstance(error, UserError)
    # what would fail in the same way again is not worth a resume
    if began and not isinstance(error, ConfigError | DivergedError) and not shown.startswith("out of memory"):
        log.error("resume  %s", _resume_line(directory.path))
    return Outcome("failed", directory.path, exit_status=status, began=began)
