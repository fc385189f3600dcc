"""The jobs of a sweep: how many side by side, who is done, what is said meanwhile."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mlprun.config.schema import Config
from mlprun.errors import RunError
from mlprun.formatting import format_duration, format_metric
from mlprun.process import num_cores
from mlprun.runs import sweep_record
from mlprun.runs.directory import RunDirectory
from mlprun.runs.log import print_line
from mlprun.runs.record import RunRecord
from mlprun.runs.sweep_record import Needs
from mlprun.sweep import forkserver, pool

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        path: its directory.
        overrides: its own.
        target, arguments: what to call in a process of its own.
    """

    path: Path
    overrides: list[str]
    target: Callable[..., object]
    arguments: tuple[Any, ...]


class Scheduler:
    """Runs the jobs of one sweep, which its sweeper may hand over in several batches.

    Args:
        sweep_dir: directory of the sweep; its `sweep.json` says what the points need.
        num_jobs: how many there will be in all, None where the sweeper decides that on the way.

    Raises:
        RunError: `sweep.json` is not there or damaged.
    """

    def __init__(self, sweep_dir: Path, num_jobs: int | None) -> None:
        record = sweep_record.read(sweep_dir)
        if record is None:
            raise RunError(f"{sweep_dir} is not a sweep: it has no {sweep_record.FILE_NAME}")
        self._record = record
        self._max_failures = record.max_failures or math.inf
        self._progress = _Progress(num_jobs)

    def launch(self, jobs: Iterable[Job]) -> list[float]:
        """Run the jobs that are not done yet; the objective of each, in order, NaN where there is none.

        Args:
            jobs: composed one by one, as places become free.

        Raises:
            KeyboardInterrupt: asked to stop; every run that was under way is saved.
        """
        paths: list[Path] = []
        progress, ended_before = self._progress, self._has_ended()
        ending = pool.run(
            self._to_do(jobs, paths),
            num_workers=self._record.num_workers,
            num_cores=num_cores(),
            gpus=self._record.gpus,
            poll=progress.running,
        )
        with progress.shown(), contextlib.closing(ending):
            for ended in ending:
                progress.ended(ended.job.path)
        if self._has_ended() and not ended_before:
            log.error("%d runs failed: no further one was started (sweep.max_failures)", progress.num_failed)
        return [_objective(_read(path)) for path in paths]

    def _has_ended(self) -> bool:
        return self._progress.num_failed >= self._max_failures

    def _to_do(self, jobs: Iterable[Job], paths: list[Path]) -> Iterator[forkserver.Job]:
        """Those that must run, until too many have failed; adds the directory of every job to `paths`."""
        for job in jobs:
            paths.append(job.path)
            if self._has_ended():
                continue
            if _read(job.path).status == "completed":
                self._progress.ended(job.path, done_before=True)
                continue
            needs = self._record.needs.get(job.path.name.rpartition("_")[2], Needs())
            job.path.mkdir(parents=True, exist_ok=True)
            yield forkserver.Job(job.target, job.arguments, job.path, needs.num_threads)


def places(needs: Iterable[Needs], configs: Iterable[Config]) -> tuple[int, list[str]]:
    """How many runs side by side, and the GPUs to give to one each: what cores, GPUs and memory allow."""
    needs = list(needs)
    if any(need.device == "cuda" for need in needs):
        if any(config.device not in ("auto", "cuda") for config in configs):
            return 1, []  # one GPU was named
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
        pass  # not Linux: the number of cores decides
    return math.inf


def _read(path: Path) -> RunRecord:
    """The record of the run in `path`, empty if it was not begun."""
    directory = RunDirectory(path)
    return directory.read() if directory.record_file.exists() else RunRecord()


def _objective(record: RunRecord) -> float:
    value = record.metric(record.monitor) if record.status == "completed" else None
    return math.nan if value is None else value


class _Progress:
    """Who is done and how well, over all batches of a sweep: a bar on a terminal, a line a run elsewhere."""

    def __init__(self, num_jobs: int | None) -> None:
        self.num_failed = 0
        self._num_jobs, self._num_done = num_jobs, 0
        self._num_run, self._elapsed_sec = 0, 0.0  # without those that were done before, which take no time
        self._best: tuple[float, str] | None = None
        self._bar: tqdm[Any] | None = None
        self._postfix = ""

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """While a batch runs."""
        self._began, self._postfix = time.monotonic(), ""
        if sys.stderr.isatty():
            self._bar = tqdm(total=self._num_jobs, initial=self._num_done, unit="run", leave=False, smoothing=0.0)
        try:
            yield
        finally:
            self._elapsed_sec += time.monotonic() - self._began
            if self._bar is not None:
                self._bar.close()
                self._bar = None

    def running(self, jobs: list[forkserver.Job]) -> None:
        """What is under way now."""
        if self._bar is None:
            return
        text = f"{len(jobs)} running"
        text += f", {self.num_failed} failed" if self.num_failed else ""
        text += f", best {format_metric(self._best[0])} {self._best[1]}" if self._best else ""
        if text != self._postfix:
            self._postfix = text
            self._bar.set_postfix_str(text)

    def ended(self, path: Path, *, done_before: bool = False) -> None:
        """A run is over, or was when the sweep began."""
        record = _read(path)
        if record.status in ("completed", "failed", "interrupted"):
            self.num_failed += record.status == "failed"
            text = f"{record.status:11} {path.name}{self._result(path.name, record, done_before)}"
        else:  # it could not even begin, or another process has it
            self.num_failed += 1
            text = f"{'not run':11} {path.name}  see {path / forkserver.OUTPUT}"
        self._num_done += 1
        self._num_run += not done_before
        if self._bar is not None:
            self._bar.update(1)
            if record.status == "completed":
                return
        print_line(f"{self._count()}  {text}{'' if self._bar is not None else self._time_left()}")

    def _result(self, name: str, record: RunRecord, done_before: bool) -> str:
        if record.status != "completed":
            return f"  {record.error.splitlines()[0]}" if record.error else ""
        value = _objective(record)
        sign = -1.0 if record.higher_is_better(record.monitor) else 1.0
        if math.isfinite(value) and (self._best is None or sign * value < sign * self._best[0]):
            self._best = (value, name)
        duration = " (done before)" if done_before else f"  {record.elapsed_sec or 0.0:.1f} s"
        return f"  {record.monitor} {format_metric(value)}{duration}"

    def _count(self) -> str:
        if self._num_jobs is None:
            return f"{self._num_done:4}"
        return f"{self._num_done:{len(str(self._num_jobs))}}/{self._num_jobs}"

    def _time_left(self) -> str:
        if self._num_jobs is None or not 0 < self._num_run <= self._num_done < self._num_jobs:
            return ""
        elapsed_sec = self._elapsed_sec + time.monotonic() - self._began
        left_sec = (self._num_jobs - self._num_done) * elapsed_sec / self._num_run
        return f"  about {format_duration(max(1, round(left_sec)))} left"
