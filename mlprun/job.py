"""One job: from a checked config to a finished run directory. What every launcher calls.

A failure is recorded in the run's own directory and returned, never raised, so that a sweep goes on.
"""

from __future__ import annotations

import csv
import logging
import math
import os
import re
import sys
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlprun.config import Config
from mlprun.errors import RunError, UserError, is_users_own
from mlprun.runs.directory import RunDirectory

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


def run(config: Config, path: Path, command: str, overrides: list[str]) -> Outcome:
    """Train, validate and test as `config` says, in the directory `path`.

    Args:
        config: checked.
        path: made if it is not there.
        command: the whole line that was typed, for the record.
        overrides: those of this job.

    Raises:
        UserError: the directory cannot be used; nothing is recorded then.
        KeyboardInterrupt: after the run was marked `interrupted`.
    """
    directory = RunDirectory(path)
    directory.start(config.to_dict(), command, overrides)
    with _Log(directory.log_file) as warned:
        log.debug("command: %s", command)
        try:
            return _train(config, directory)
        except KeyboardInterrupt:
            directory.finish("interrupted")
            log.error("interrupted; what there is lies in %s", path)
            raise
        except Exception as error:
            return _failed(error, directory, config, warned.anomaly)


def _train(config: Config, directory: RunDirectory) -> Outcome:
    # torch comes in here, when the run has its directory and its record
    import torch

    from mlprun import build, seeding
    from mlprun.runs import writers
    from mlprun.training import checkpoint
    from mlprun.training.loop import Progress, train

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
    build.check_batch_norm(fit, batches, config.trainer.accumulate)
    num_threads = config.trainer.num_threads or fit.num_threads(batches.batch_size // config.trainer.accumulate)
    torch.set_num_threads(num_threads)
    learner = build.learner(config, model, plan, where)
    device_name = torch.cuda.get_device_name(where) if where.type == "cuda" else where.type
    directory.update(
        device={"type": str(where), "name": device_name, "num_threads": num_threads},
        num_parameters=fit.num_parameters,
        data={"sizes": build.sizes(parts), "fingerprints": parts.fingerprints or {}},
    )
    _introduce(
        config,
        directory,
        build.sizes(parts),
        fit,
        f"{device_name}, {num_threads} threads",
        plan.num_steps,
        batches.batch_size,
    )

    board = writers.TensorBoard(directory.path)
    board.hparams(_hyperparameters(config.to_dict()))
    console = writers.Console(plan.num_steps)
    writer = writers.Writers(board, writers.JsonLines(directory.metrics_file), console)
    saver = checkpoint.Checkpointer(directory.checkpoints, config.checkpoint.keep)
    val = build.eval_batches(config, parts.val, parts, where)
    progress = Progress()
    status = "failed"
    try:
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
            },
        )
        if progress.best is None:
            raise RunError(f"{config.monitor} was never finite, so there is no best checkpoint to test")
        learner.load_state_dict(checkpoint.load(directory.best, where))
        tested = learner.evaluate(build.eval_batches(config, parts.test, parts, where))
        scores = _named("test", tested.compute())
        metrics = {**(progress.best_values or {}), **scores}
        board.write(progress.step, None, scores)
        if config.data.task == "classification":
            _confusion(tested.confusion, parts.class_names, directory, board, progress.step)
        status = "completed"
    finally:
        writer.close(status)
    directory.finish(
        "completed",
        steps=progress.step,
        best_step=progress.best_step,
        ended_by=reason,
        metrics={name: value if math.isfinite(value) else None for name, value in metrics.items()},
        peak_mem_mib=_peak_memory(where),
    )
    if reason == "early_stopping":
        log.info("early stopping: %s did not improve for %d evaluations", config.monitor, progress.stale)
    log.info("test    %s  (best checkpoint: step %d, %s %.4f)",
             "  ".join(f"{k.removeprefix('test/')} {v:.4f}" for k, v in metrics.items() if k.startswith("test/")),
             progress.best_step, config.monitor, progress.best)  # fmt: skip
    return Outcome("completed", directory.path, metrics, progress.best)


def _named(split: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{split}/{name}": value for name, value in values.items()}


def _introduce(
    config: Config,
    directory: RunDirectory,
    sizes: dict[str, int | None],
    fit: Any,
    device: str,
    num_steps: int,
    batch_size: int,
) -> None:
    """What is about to be trained, on the terminal."""
    data = config.data
    counted = ", ".join(f"{n:,} {name}" if n is not None else f"{name} of unknown length" for name, n in sizes.items())
    kind = (
        f"{max(data.num_outputs, 2)} classes"
        if data.task == "classification"
        else f"{data.num_outputs} value{'s' * (data.num_outputs > 1)}"
    )
    shape = "x".join(map(str, data.input_shape))
    log.info("data    %s: %s; inputs %s, %s", data.name, counted, shape, kind)
    log.info("model   %s: %s parameters", config.model["_target_"].rpartition(".")[2], f"{fit.num_parameters:,}")
    shown = fit.layers if len(fit.layers) <= 12 else [*fit.layers[:5], None, *fit.layers[-5:]]
    for layer in shown:
        if layer is None:
            log.info("          … %d more layers", len(fit.layers) - 10)
            continue
        output = "x".join(map(str, layer.output_shape))
        log.info(
            "          %-28s %-14s -> %-12s %12s",
            layer.name or "(model)",
            layer.kind,
            output,
            f"{layer.num_parameters:,}",
        )
    names = (config.optim["_target_"].rpartition(".")[2], config.scheduler["_target_"].rpartition(".")[2],
             config.loss["_target_"].rpartition(".")[2])  # fmt: skip
    lr = f", lr {config.optim['lr']:g}" if "lr" in config.optim else ""
    log.info("optim   %s%s, %s; %s", names[0], lr, names[1], names[2])
    log.info("length  %s steps of %s examples", f"{num_steps:,}", batch_size)
    log.info("device  %s", device.replace(", 1 threads", ", 1 thread"))
    log.info("run     %s", directory.path)


def _confusion(confusion: Any, class_names: tuple[str, ...], directory: RunDirectory, board: Any, step: int) -> None:
    """The test split's confusion matrix, as numbers and as a picture in TensorBoard."""
    from mlprun.runs.writers import heat_map
    from mlprun.training.metrics import confusion_rows

    named = len(class_names) == len(confusion)
    labels = list(class_names) if named else [str(i) for i in range(len(confusion))]
    with (directory.path / "confusion_matrix.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(confusion_rows(confusion.cpu(), labels))
    board.image("test/confusion_matrix", heat_map(confusion.cpu().numpy(), labels), step)


def _hyperparameters(values: dict[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """What a run may be told apart by, for TensorBoard's table: `optim` -> `Adam`, `optim.lr` -> 0.001.

    Paths, sizes that follow from the data, and what is switched off (null, false) are left out.
    """
    flat: dict[str, bool | float | str] = {}
    for name, value in values.items():
        if name in ("logging", "checkpoint", "root", "dataset", "input_shape", "num_outputs") or value in (None, {}):
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


# ------------------------------------------------------------------------------------------------ failures


def _failed(error: Exception, directory: RunDirectory, config: Config, anomaly: str) -> Outcome:
    """Record the failure, say it once, and keep the whole traceback in train.log."""
    shown = explain(error, config)
    if anomaly:  # torch warns of it apart from the error, with the frames of the forward pass
        frames = re.findall(r'  File "([^"]+)", line (\d+), in (\S+)\n    (.*)', anomaly)
        own = [frame for frame in frames if is_users_own(frame[0])] or frames[-1:]
        shown = f"{shown.splitlines()[0]}\n  made in the forward pass by\n" + "\n".join(
            f'  File "{file}", line {line}, in {name}\n    {code}' for file, line, name, code in own
        )
    details = "".join(traceback.format_exception(error))
    log.debug("%s", details)
    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        print(details, file=sys.stderr)
    log.error("error: %s", shown)
    directory.finish("failed", error=shown, traceback=str(directory.log_file))
    status = error.exit_status if isinstance(error, UserError) else 1
    began = directory.metrics_file.exists() or not isinstance(error, UserError)
    return Outcome("failed", directory.path, exit_status=status, began=began)


def explain(error: Exception, config: Config) -> str:
    """What to tell the user of any exception, without a traceback of ours; frames of the user's own code are shown."""
    if isinstance(error, UserError):
        return str(error)
    text = str(error)
    kind = type(error).__name__
    if kind == "OutOfMemoryError" or "not enough memory" in text or "can't allocate memory" in text:
        twice = 2 * config.trainer.accumulate
        return (
            f"out of memory with batch_size={config.batch_size} trainer.accumulate={config.trainer.accumulate}"
            f"\n  trainer.accumulate={twice} keeps the same effective batch in about half of the memory"
        )
    if re.search(r"Target -?\d+ is out of bounds", text):
        return (
            f"data: {text.splitlines()[0]} (data.num_outputs={config.data.num_outputs})"
            "\n  a label of the training data is not one of 0 to num_outputs - 1"
        )
    if "deterministic" in text and "implementation" in text:
        return (
            f"{text.splitlines()[0]}"
            "\n  set trainer.deterministic=false to allow it; the run may then not repeat bit by bit"
        )
    frames = [f for f in traceback.extract_tb(error.__traceback__) if is_users_own(f.filename)]
    where = re.search(r'File "([^"]+)"', text)  # a DataLoader worker sends its traceback as text
    if frames:
        return (
            f"{kind}: {text.splitlines()[0] if text else ''}\n" + "".join(traceback.format_list(frames[-8:])).rstrip()
        )
    if where is not None and "DataLoader worker" in text:
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join([lines[0], *lines[-8:]])
    first = text.splitlines()[0] if text else "(no message)"
    return f"{kind}: {first}\n  MLPRUN_TRACEBACK=1 shows where; so does train.log"


class _Log:
    """train.log and the terminal for as long as a job runs; a job's log holds nothing of its neighbours'."""

    def __init__(self, path: Path) -> None:
        self._file = logging.FileHandler(path, encoding="utf-8")
        self._file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        self._terminal = _Terminal(logging.INFO)
        self._loggers = (log, logging.getLogger("py.warnings"))

    def __enter__(self) -> _Terminal:
        logging.captureWarnings(True)
        for logger in self._loggers:
            logger.propagate = False
            logger.setLevel(logging.DEBUG)
            logger.addHandler(self._file)
            logger.addHandler(self._terminal)
        return self._terminal

    def __exit__(self, *_: object) -> None:
        logging.captureWarnings(False)
        for logger in self._loggers:
            logger.removeHandler(self._file)
            logger.removeHandler(self._terminal)
            logger.propagate = True
            logger.setLevel(logging.NOTSET)
        self._file.close()


class _Terminal(logging.Handler):
    """Information to standard output, warnings and errors to standard error; above a progress bar.

    Attributes:
        anomaly: what torch's anomaly detection said, if it did.
    """

    anomaly = ""
    _closed = False

    def emit(self, record: logging.LogRecord) -> None:
        if self._closed:
            return
        text = record.getMessage()
        if record.name == "py.warnings":
            if "Traceback of forward call" in text:
                self.anomaly = text
                return
            # path:line: Category: message, and a line of source; train.log has it whole
            text = "warning: " + text.splitlines()[0].split(": ", 2)[-1]
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        try:
            tqdm.write(text, file=stream)
            stream.flush()
        except BrokenPipeError:  # whoever read it has left, as `| head` does: the run goes on, and so does its log
            self._closed = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
