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
from mlprun.runs.directory import RunDirectory
from mlprun.runs.log import say
from mlprun.sweep import forkserver, points, pool
from mlprun.sweep.preflight import Needs
from mlprun.tasks import lower_is_better

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes:
        path: its directory.
        overrides: its lines.
        target, arguments: what to call in a process of its own.
    """

    path: Path
    overrides: list[str]
    target: Callable[..., object]
    arguments: tuple[Any, ...]


def launch(jobs: Iterable[Job], num_jobs: int, folder: Path) -> list[float]:
    """Run the jobs that are not done yet; the objective of each, in order, NaN where there is none.

    Args:
        jobs: composed one by one, as places become free.
        num_jobs: how many they are.
        folder: of the sweep; its `sweep.json` says what the points need.

    Raises:
        KeyboardInterrupt: asked to stop; every run that was under way is saved.
    """
    settings = points.read(folder)
    needs: dict[str, Any] = settings["needs"]
    limit = settings["max_failures"] or math.inf
    order: list[Path] = []
    view = _View(num_jobs)

    def waiting() -> Iterator[forkserver.Job]:
        for job in jobs:
            order.append(job.path)
            if view.num_failed >= limit:
                continue
            if _status(job.path) == "completed":
                view.ended(job.path, known=True)
                continue
            num_threads = needs.get(job.path.name.rpartition("_")[2], {}).get("num_threads", 1)
            job.path.mkdir(parents=True, exist_ok=True)
            yield forkserver.Job(job.target, job.arguments, job.path, num_threads)

    ending = pool.run(
        waiting(),
        num_workers=settings["num_workers"],
        num_cores=num_cores(),
        gpus=settings["gpus"],
        poll=view.running,
    )
    with contextlib.closing(view), contextlib.closing(ending):
        for ended in ending:
            view.ended(ended.job.path)
    if view.num_failed >= limit:
        log.error("%d runs failed: no further one was started (sweep.max_failures)", view.num_failed)
    return [_objective(path) for path in order]


def places(needs: Iterable[Needs], configs: Iterable[Config]) -> tuple[int, list[str]]:
    """How many runs side by side, and the GPUs to give to one each: what cores, GPUs and memory allow."""
    found = list(needs)
    if any(need.device == "cuda" for need in found):
        if any(config.device not in ("auto", "cuda") for config in configs):
            return 1, []  # one GPU was named
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        gpus = visible.split(",") if visible else [str(i) for i in range(max(need.num_gpus for need in found))]
        return max(1, len(gpus)), gpus
    if any(need.device == "mps" for need in found):
        return 1, []
    largest = max((need.memory_mib or 0 for need in found), default=0)
    room = _available_mib() / largest if largest else math.inf
    return max(1, int(min(num_cores(), room))), []


def _available_mib() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) / 2**10
    except OSError:
        pass  # not Linux: the number of cores decides
    return math.inf


def num_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _status(path: Path) -> str:
    return str(RunDirectory(path).read()["status"]) if (path / "run.json").exists() else "new"


def _objective(path: Path) -> float:
    if _status(path) != "completed":
        return math.nan
    record = RunDirectory(path).read()
    value = record["metrics"].get(record["config"]["monitor"])
    return math.nan if value is None else float(value)


class _View:
    """Who is done and how well: a bar on a terminal, a line a run elsewhere."""

    def __init__(self, num_jobs: int) -> None:
        self.num_failed = 0
        self._best: tuple[float, str] | None = None
        self._shown = ""
        live = sys.stderr.isatty()
        self._bar = tqdm(total=num_jobs, unit="run", leave=False, smoothing=0.0) if live else None
        self._num_jobs, self._num_done = num_jobs, 0
        self._began, self._num_run = time.monotonic(), 0  # those that were done before take no time

    def running(self, jobs: list[forkserver.Job]) -> None:
        """What is under way now."""
        if self._bar is not None:
            text = f"{len(jobs)} running"
            text += f", {self.num_failed} failed" if self.num_failed else ""
            text += f", best {self._best[0]:.4f} {self._best[1]}" if self._best else ""
            if text != self._shown:
                self._shown = text
                self._bar.set_postfix_str(text)

    def ended(self, path: Path, *, known: bool = False) -> None:
        """A run is over, or was when the sweep began."""
        status = _status(path)
        record = RunDirectory(path).read() if status != "new" else {}
        self._num_done += 1
        self.num_failed += status == "failed"
        words = f"{status:11} {path.name}"
        if status == "completed":
            monitor = record["config"]["monitor"]
            value = _objective(path)
            words += f"  {monitor} {value:.4f}" + (" (done before)" if known else f"  {record['elapsed_sec']:.1f} s")
            sign = 1.0 if lower_is_better(monitor) else -1.0
            if math.isfinite(value) and (self._best is None or sign * value < sign * self._best[0]):
                self._best = (value, path.name)
        elif status not in ("failed", "interrupted"):  # it could not even begin, or another process has it
            self.num_failed += 1
            words = f"{'not run':11} {path.name}  see {path / forkserver.OUTPUT}"
        elif "error" in record:
            words += f"  {record['error'].splitlines()[0]}"
        if self._bar is not None:
            self._bar.update(1)
            if status == "completed":
                return
        self._num_run += not known
        if self._bar is None and self._num_run and self._num_done < self._num_jobs:
            rest = (self._num_jobs - self._num_done) * (time.monotonic() - self._began) / self._num_run
            words += f"  about {_duration(rest)} left"
        say(f"{self._num_done:{len(str(self._num_jobs))}}/{self._num_jobs}  {words}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()


def _duration(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`: as exact as an estimate is."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
