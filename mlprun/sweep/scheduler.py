"""Schedules the jobs of a sweep and reports their progress."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from mlprun.config.schema import Config
from mlprun.errors import RunError, UserError
from mlprun.formatting import format_duration, format_metric, truncate
from mlprun.process import num_cores
from mlprun.runs import sweep_record
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import DONE, RunRecord
from mlprun.runs.sweep_record import Needs, SweepRecord
from mlprun.sweep import pool
from mlprun.sweep.forkserver import OUTPUT, Job
from mlprun.sweep.pool import Ended
from mlprun.terminal import BEAT_SEC, print_line, progress_bar, width

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class Proposal:
    """A run that a strategy wants."""

    overrides: list[str]
    key: Any  # the strategy's own
    has_ended: bool = False  # known from an earlier start: it is not run again, even if it failed


class Strategy(Protocol):
    """Decides which runs a sweep consists of, one by one."""

    def ask(self) -> Proposal | None:
        """The next run; None if there is no further one. Called when there is room for it."""

    def tell(self, proposal: Proposal, record: RunRecord) -> None:
        """Take how a run ended, as soon as it has; the record is empty if it could not start."""


class Executor(Protocol):
    """Runs jobs: on this machine, a cluster, …"""

    def __call__(
        self, jobs: Iterable[Job], plan: SweepRecord, poll: Callable[[list[Job]], None]
    ) -> Generator[Ended, None, None]:
        """Yield each job as it ends; closing the iterator stops those that run, which save their state.

        A job that dies is retried once. How a run ended is in its record: `Ended` is for jobs without one.

        Args:
            jobs: read as places become free.
            plan: what a run needs, and how many run at a time.
            poll: called about twice per second with the running jobs.
        """


def this_machine(
    jobs: Iterable[Job], plan: SweepRecord, poll: Callable[[list[Job]], None]
) -> Generator[Ended, None, None]:
    """The executor of `hydra/launcher=pool`: a process per job."""
    return pool.run(jobs, num_workers=plan.num_workers, num_cores=num_cores(), gpus=plan.gpus, poll=poll)


class Grid:
    """The runs of a list, in its order."""

    def __init__(self, runs: Sequence[Sequence[str]]) -> None:
        self._proposals = iter([Proposal(list(overrides), i) for i, overrides in enumerate(runs)])
        self.objectives = [math.nan] * len(runs)  # of each run

    def ask(self) -> Proposal | None:
        return next(self._proposals, None)

    def tell(self, proposal: Proposal, record: RunRecord) -> None:
        self.objectives[proposal.key] = objective(record)


class Scheduler:
    """Runs the jobs of a sweep, in one or several batches; RunError if `sweep.json` is missing or damaged.

    Args:
        num_jobs: in all batches; None if the sweeper decides it on the way.
    """

    def __init__(self, sweep_dir: Path, num_jobs: int | None) -> None:
        record = sweep_record.read(sweep_dir)
        if record is None:
            raise RunError(f"{sweep_dir} is not a sweep: it has no {sweep_record.FILE_NAME}")
        self._record = record
        self._max_failures = record.max_failures or math.inf
        self._progress = _Progress(num_jobs)

    def run(
        self,
        strategy: Strategy,
        build_job: Callable[[list[str]], Job],
        execute: Executor = this_machine,
        ended_before: Iterable[tuple[str, RunRecord]] = (),
    ) -> None:
        """Run what the strategy asks for and is not done yet, and tell it the results.

        After Ctrl-C, every running job saves its state before KeyboardInterrupt is raised.

        Args:
            build_job: composes the job of a run as places become free; its `num_threads` are those of `sweep.json`.
            ended_before: name and record of each run that the strategy does not ask for, as it ended before.
        """
        self._progress.count_earlier(ended_before)
        progress, had_ended = self._progress, self._has_ended()
        proposals: dict[Path, list[Proposal]] = {}
        ending = execute(self._to_do(strategy, build_job, proposals), self._record, progress.running)
        with progress.shown(), contextlib.closing(ending):
            for ended in ending:
                path = ended.job.path
                record = _read(path)
                for number, proposal in enumerate(proposals.pop(path)):
                    progress.ended(path, record, done_before=number > 0)
                    strategy.tell(proposal, record)
        if self._has_ended() and not had_ended:
            log.error("%d runs failed: no further one was started (sweep.max_failures)", progress.num_failed)

    def _has_ended(self) -> bool:
        return self._progress.num_failed >= self._max_failures

    def _to_do(
        self, strategy: Strategy, build_job: Callable[[list[str]], Job], proposals: dict[Path, list[Proposal]]
    ) -> Iterator[Job]:
        """The jobs to run, until too many have failed; adds each to `proposals` while it runs."""
        while not self._has_ended() and (proposal := strategy.ask()) is not None:
            try:
                job = build_job(proposal.overrides)
            except UserError as error:  # of a trial: the points of a grid are checked before
                self._progress.refused(proposal.overrides, error)
                strategy.tell(proposal, RunRecord())
                continue
            if job.path in proposals:  # proposed again while it runs
                proposals[job.path].append(proposal)
                continue
            record = _read(job.path)
            if record.status in DONE or proposal.has_ended:
                self._progress.ended(job.path, record, done_before=True)
                strategy.tell(proposal, record)
                continue
            job.path.mkdir(parents=True, exist_ok=True)
            proposals[job.path] = [proposal]
            needs = self._record.needs_of(job.path)
            yield replace(job, num_threads=needs.num_threads, num_gpus=needs.num_processes)


def places(needs: Iterable[Needs], configs: Iterable[Config]) -> tuple[int, list[str]]:
    """The number of concurrent runs and the GPUs for one each, as cores, GPUs and memory allow."""
    needs = list(needs)
    if any(need.device == "cuda" for need in needs):
        if any(config.device not in ("auto", "cuda") for config in configs):
            return 1, []  # a particular GPU
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(i) for i in range(max(need.num_gpus for need in needs))]
        return max(1, len(gpus)), gpus
    if any(need.device == "mps" for need in needs):
        return 1, []
    largest = max((need.memory_mib or 0 for need in needs), default=0)
    num_in_memory = _available_mib() / largest if largest else math.inf
    return max(1, int(min(num_cores(), num_in_memory))), []


def _available_mib() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass  # not Linux
    return math.inf


def _read(path: Path) -> RunRecord:
    """The record of the run in `path`, empty if it was not started."""
    directory = RunDirectory(path)
    return directory.read() if directory.record_file.exists() else RunRecord()


def objective(record: RunRecord) -> float:
    """The value of the monitor of a completed run, else NaN."""
    value = record.metric(record.monitor) if record.status == "completed" else None
    return math.nan if value is None else value


class _Progress:
    """Progress over all batches: a bar on a terminal, else a line per run."""

    def __init__(self, num_jobs: int | None) -> None:
        self.num_failed = 0
        self._num_jobs, self._num_done = num_jobs, 0
        self._num_run, self._elapsed_sec = 0, 0.0  # of this process
        self._best: tuple[float, str] | None = None

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        self._began = self._shown = time.monotonic()
        self._postfix = ""
        bar_format = "{l_bar}{bar:12}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
        if self._num_jobs is None:
            bar_format = "{n_fmt} runs [{elapsed}{postfix}]"
        how = {"bar_format": bar_format, "smoothing": 0.0}
        self._bar = progress_bar(total=self._num_jobs, initial=self._num_done, **how) or tqdm(disable=True)
        if self._bar.disable and self._num_done and not self._num_run:
            failed = f", {self.num_failed} of them failed" if self.num_failed else ""
            self._print(f"done before{failed}{f', best {format_metric(self._best[0])}' if self._best else ''}")
        try:
            yield
        finally:
            self._elapsed_sec += time.monotonic() - self._began
            self._bar.close()

    def running(self, jobs: list[Job]) -> None:
        text = f"{len(jobs)} running"
        text += f", {self.num_failed} failed" if self.num_failed else ""
        text += f", best {format_metric(self._best[0])}" if self._best else ""
        if self._bar.disable:
            if time.monotonic() - self._shown >= BEAT_SEC:
                self._print(text)
            return
        if self._best and (room := width() - 48 - len(text)) >= 20:  # beside bar and times
            text += f" {truncate(self._best[1], room)}"
        if text != self._postfix:
            self._postfix = text
            self._bar.set_postfix_str(text)

    def _print(self, text: str) -> None:
        self._shown = time.monotonic()
        count = f"{self._num_done:4}"
        if self._num_jobs is not None:
            count = f"{self._num_done:{len(str(self._num_jobs))}}/{self._num_jobs}"
        print_line(truncate(f"{count}  {text}{self._time_left()}", width()))

    def count_earlier(self, runs: Iterable[tuple[str, RunRecord]]) -> None:
        """Count runs, given by name and record, that ended before this process began."""
        for name, record in runs:
            self._num_done += 1
            self.num_failed += record.status == "failed"
            self._note_best(name, record)

    def ended(self, path: Path, record: RunRecord, *, done_before: bool = False) -> None:
        if record.status in (*DONE, "failed", "interrupted"):
            self.num_failed += record.status == "failed"
            text = f"{record.status:11} {path.name}{self._result(path.name, record, done_before)}"
        else:  # it could not start, or another process has it
            self.num_failed += 1
            text = f"{'not run':11} {path.name}  see {path / OUTPUT}"
        self._num_done += 1
        self._num_run += not done_before
        self._bar.update(1)
        if self._bar.disable or record.status not in DONE:
            self._print(text)

    def refused(self, overrides: list[str], error: UserError) -> None:
        """Count a run that could not be composed."""
        self.num_failed += 1
        self._num_done += 1
        self._bar.update(1)
        self._print(f"{'not run':11} {' '.join(overrides)}  {str(error).splitlines()[0]}")

    def _result(self, name: str, record: RunRecord, done_before: bool) -> str:
        before = " (done before)" if done_before else ""
        if record.status == "pruned":
            reached = format_metric(record.metric(record.monitor) or math.nan)
            return f"  {record.monitor} {reached} at step {record.steps} of {record.num_steps}{before}"
        if record.status != "completed":
            return f"{before}  {record.error.splitlines()[0]}" if record.error else before
        self._note_best(name, record)
        duration = before or f"  {record.elapsed_sec or 0.0:.1f} s"
        return f"  {record.monitor} {format_metric(objective(record))}{duration}"

    def _note_best(self, name: str, record: RunRecord) -> None:
        value = objective(record)
        if math.isfinite(value):
            sign = -1.0 if record.higher_is_better(record.monitor) else 1.0
            if self._best is None or sign * value < sign * self._best[0]:
                self._best = (value, name)

    def _time_left(self) -> str:
        if self._num_jobs is None or not self._bar.disable:  # a bar shows it
            return ""
        if not 0 < self._num_run <= self._num_done < self._num_jobs:
            return ""
        elapsed_sec = self._elapsed_sec + time.monotonic() - self._began
        left_sec = (self._num_jobs - self._num_done) * elapsed_sec / self._num_run
        return f"  about {format_duration(max(1, round(left_sec)))} left"
