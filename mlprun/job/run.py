"""One job: from a checked config to a finished run directory; every launcher calls it.

A failure is recorded in the run's own directory and returned, never raised, so that a sweep continues."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from mlprun import signals
from mlprun.analysis.diff import compare_records
from mlprun.config.durations import parse_seconds
from mlprun.config.identity import fingerprint, identity
from mlprun.config.schema import Config
from mlprun.config.stored import from_record, resumed, with_found_root
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, DivergedError, RunError, UserError
from mlprun.job.explain_error import explain
from mlprun.job.outcome import Outcome, result_lines, resume_line, shorter_than_done
from mlprun.job.place import where_run_began
from mlprun.job.ranks import joined, with_devices
from mlprun.runs.directory import RunDirectory
from mlprun.runs.log import RunLog
from mlprun.runs.record import RunRecord
from mlprun.terminal import importing_torch, print_line

log = logging.getLogger("mlprun")
_RAISED = {"is_raised": True}  # of a line that the Python API raises instead of printing it


def run_job(
    config: Config,
    path: Path,
    command: str,
    overrides: list[str],
    *,
    num_threads: int | None = None,
    reproduces: Path | None = None,
) -> Outcome:
    """Train, validate and test in the directory `path`, which is created if needed.

    A run of this config that is already there is finished, or its result returned.

    Args:
        command: the whole command line, for the record.
        overrides: of this job.
        num_threads: used if `trainer.num_threads=null`; None: chosen by the size of a step.
        reproduces: the run that this one repeats, for the record.

    Raises:
        UserError: the directory cannot be used; nothing is recorded then.
        KeyboardInterrupt: after the run was marked `interrupted`.
    """
    signals.install()
    config = with_devices(config)
    directory = RunDirectory(path)
    if directory.record_file.exists():
        stored = _read(directory).config
        if fingerprint(stored) != fingerprint(config.to_dict()):
            before, now = ({"config": identity(c)} for c in (stored, config.to_dict()))
            differences = compare_records(before, now)["config"]
            remedy = "choose another directory, or remove this one"
            if {d.key for d in differences} <= {"epochs", "steps"}:
                remedy = f"to make it longer: {resume_line(path)} {differences[0].key}={differences[0].second}"
            raise ConfigError("hydra.run.dir", path, f"holds a run of another config: {differences[0]}", remedy)
        return _continue(directory, config, command)
    with contextlib.ExitStack() as stack:
        with signals.deferred:  # from the lock to the record
            stack.enter_context(directory.held())
            stack.enter_context(_marked(directory))
            if directory.record_file.exists():  # another process was faster
                raise RunError(f"{path} holds a run already\n  continue it with {resume_line(path)}")
            extra = {} if reproduces is None else {"reproduces": str(reproduces)}
            directory.start(config.to_dict(), command, overrides, **extra)
        return _attempt(config, directory, command, None, num_threads)


def resume_job(
    path: Path, overrides: list[str], command: str, *, trust: bool = False, root: Path | None = None
) -> Outcome:
    """Continue the run in `path` from its newest checkpoint; of a completed run, return the result.

    Args:
        overrides: of the keys in `config.RESUMABLE`.
        command: the whole command line, for the record.
        trust: also call stored targets from outside known libraries and the current folder.
        root: where the data lie now; None: where they were, or in MLPRUN_DATA.

    Raises:
        UserError: no run, in use, nothing to continue from, or an override that cannot work.
        KeyboardInterrupt: after the run was marked `interrupted`.
    """
    signals.install()
    record = _read(RunDirectory(path))
    with where_run_began(path, trust=trust, data=root is None) as run:
        stored = with_found_root(record.config, root)
        is_typed = any(override.startswith("trainer.devices=") for override in overrides)
        config = with_devices(resumed(from_record(stored), overrides), is_typed=is_typed)
        if not trust and _ended(record, config) is None:
            kept = {name: node for name, node in stored.get("writers", {}).items() if name in config.writers}
            signed = record.signed_config and with_found_root(record.signed_config, root)
            check_targets({**stored, "writers": kept}, Path.cwd(), run, signed)
        return _continue(RunDirectory(run), config, command)


def _read(directory: RunDirectory) -> RunRecord:
    record = directory.read()
    if missing := record.missing("status", "config"):
        raise RunError(f"{directory.record_file} is damaged: it has no {' and no '.join(missing)}")
    return record


def _continue(directory: RunDirectory, config: Config, command: str) -> Outcome:
    """Finish the run in the directory, or return its result."""
    if (outcome := _result(directory, _read(directory), config)) is not None:
        return outcome
    with contextlib.ExitStack() as stack:
        with signals.deferred:
            stack.enter_context(directory.held())
            stack.enter_context(_marked(directory))
            earlier = _read(directory)  # again, now that no other process writes it
            if (outcome := _result(directory, earlier, config)) is not None:
                return outcome
            now = RunRecord({**directory.reopen(earlier), "config": config.to_dict()})
        return _attempt(config, directory, command, (earlier, now), earlier.num_threads)


def _ended(record: RunRecord, config: Config) -> Outcome | None:
    """The outcome of a completed run that `config` does not make longer, else None."""
    if record.status != "completed":
        return None
    steps, per_epoch = record.steps, record.steps_per_epoch
    missing = record.missing("metrics", "steps", "ended_by", "best_step")
    if missing or steps is None:
        raise RunError(f"the run's record is damaged: it is completed and has no {', '.join(missing)}")
    num_steps = config.steps if config.steps is not None else per_epoch and config.epochs * per_epoch
    if record.ended_by == "finished" and num_steps is not None and num_steps != steps:
        if num_steps > steps:
            return None
        raise shorter_than_done(config, steps, num_steps)
    metrics = {name: math.nan if value is None else value for name, value in record.metrics.items()}
    return Outcome("completed", Path(), metrics, metrics.get(config.monitor, math.nan))


def _result(directory: RunDirectory, record: RunRecord, config: Config) -> Outcome | None:
    """Print and return the outcome of a run that has ended; None otherwise."""
    if (outcome := _ended(record, config)) is None:
        return None
    print_line(f"already completed, nothing to do  {directory.path}")
    if record.ended_by == "early_stopping":
        print_line(f"it ended by early stopping at step {record.steps} of {record.num_steps or '?'}")
    for line in result_lines(outcome.metrics, record.best_step or 0, record.monitor):
        print_line(line)
    return replace(outcome, directory=directory.path)


def _attempt(
    config: Config,
    directory: RunDirectory,
    command: str,
    earlier: tuple[RunRecord, RunRecord] | None,
    num_threads: int | None,
) -> Outcome:
    """Train, and record how it ended."""
    limit = config.trainer.max_time
    with RunLog(directory.log_file) as warned:
        log.debug("command: %s", command)
        try:
            with signals.after(None if limit is None else parse_seconds(limit, "trainer.max_time")):
                log.info("run     %s", directory.path)
                with importing_torch():  # only now that the run has its directory and its record
                    from mlprun.job.torch_state import restored
                    from mlprun.job.train import train_run
                with restored(), joined(config, num_threads) as world:
                    return train_run(config, directory, command, earlier, num_threads, world)
        except KeyboardInterrupt as stop:
            return _interrupted(directory, str(stop) or "SIGINT", stop)
        except Exception as error:
            if by := signals.stop_requested_by():  # an interrupted call may raise an error of its own
                log.debug("%s", "".join(traceback.format_exception(error)))
                if isinstance(error, UserError):  # for example, the state could not be saved
                    log.error("error: %s", error)
                return _interrupted(directory, by, error)
            if earlier is not None and isinstance(error, ConfigError):  # refused: the run is unchanged
                log.error("error: %s", error, extra=_RAISED)
                before, _ = earlier
                directory.put_back(before)
                return Outcome("failed", directory.path, exit_status=error.exit_status, error=error)
            return _failed(error, directory, config, warned.anomaly, began=earlier is not None)


@contextlib.contextmanager
def _marked(directory: RunDirectory) -> Iterator[None]:
    """Mark a run that is asked to stop before its training begins: it must not seem to be running."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if directory.is_open:
            _interrupted(directory, str(stop) or "SIGINT", stop)
        raise


def _interrupted(directory: RunDirectory, by: str, error: BaseException) -> Outcome:
    """Record it and print how to continue. After its own time limit other runs continue; else all stop."""
    with contextlib.suppress(signals.Stop), signals.deferred:
        directory.finish("interrupted", stopped_by=by)
        names = {"SIGINT": "Ctrl-C", signals.MAX_TIME: "trainer.max_time, the time limit"}
        log.error("interrupted by %s\nresume  %s", names.get(by, by), resume_line(directory.path))
        signals.end_workers()
    signals.call_earlier_handlers()
    if by != signals.MAX_TIME:
        raise signals.Stop(by) from error
    signals.disarm()
    return Outcome("interrupted", directory.path, exit_status=signals.exit_status(by))


def _failed(error: Exception, directory: RunDirectory, config: Config, anomaly: str, *, began: bool) -> Outcome:
    """Record and print the failure; train.log has the whole traceback."""
    shown = explain(error, config, anomaly)
    details = "".join(traceback.format_exception(error))
    log.debug("%s", details)
    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        print_line(details, sys.stderr)
    log.error("error: %s", shown, extra=_RAISED)
    directory.finish("failed", error=shown, traceback=str(directory.log_file))
    told = error if isinstance(error, UserError) and str(error) == shown else RunError(shown)
    told.__cause__ = told.__cause__ if told is error else error
    began = began or directory.metrics_file.exists() or not isinstance(error, UserError)
    # a resume would fail in the same way: it cannot change the keys of `trainer` that would help
    is_vain = shown.startswith("out of memory") or re.search(r"^  set trainer\.", shown, re.MULTILINE) is not None
    if began and not is_vain and not isinstance(error, ConfigError | DivergedError):
        log.error("resume  %s", resume_line(directory.path), extra=_RAISED)
        told.add_note(f"resume  {resume_line(directory.path)}")
    status = error.exit_status if isinstance(error, UserError) else 1
    return Outcome("failed", directory.path, exit_status=status, began=began, error=told)
