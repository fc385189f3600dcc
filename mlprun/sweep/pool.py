"""A pool of processes, one per job: jobs that die are retried, and none outlives the pool."""

from __future__ import annotations

import atexit
import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory, now_utc
from mlprun.runs.record import write_record
from mlprun.sweep.forkserver import OUTPUT, Caller, Job, Running, Server

if TYPE_CHECKING:
    from mlprun.config.schema import Config

POLL_SECONDS = 0.5
# Imported once by the process that starts the jobs of a sweep.
PRELOADED = ["hydra_plugins.mlprun_pool", "mlprun.cli.task", "mlprun.job.train", "mlprun.sweep.warm"]
PRELOADED += ["mlprun.pictures.confusion", "PIL.ImageDraw"]


@dataclass(frozen=True)
class Ended:
    """How a job ended."""

    job: Job
    exitcode: int  # of its last attempt; negative: the signal that killed it
    attempts: int  # 2 if it died and was retried
    seconds: float  # since its first start


def preloaded(config: Config) -> list[str]:
    """What the jobs import: every run, and one of this config, but for the user's own modules."""
    names: list[str] = []

    def visit(node: Any) -> None:
        if isinstance(node, dict):
            names.extend([node["_target_"]] if isinstance(node.get("_target_"), str) else [])
            node = list(node.values())
        for value in node if isinstance(node, list) else []:
            visit(value)

    visit(config.to_dict())
    modules = [name.rpartition(".")[0] for name in names if name.startswith("mlprun.")]
    return [*PRELOADED, *dict.fromkeys(modules)]


def start_server(modules: Sequence[str]) -> None:
    """Start to import modules for the jobs in the background, for the next `run`.

    A module that cannot be imported is left to the jobs that need it: they record the error.
    """
    global _server
    if _server is None or _server.modules != tuple(modules) or _server.process.poll() is not None:
        close_server()
        _server = Server(tuple(modules))


def run(
    jobs: Iterable[Job],
    *,
    num_workers: int,
    num_cores: int,
    gpus: Sequence[str] = (),
    poll: Callable[[list[Job]], None] | None = None,
    retry: bool = True,
    caller: Caller | None = None,
) -> Generator[Ended, None, None]:
    """Run jobs in parallel, started in order; yield each as it ends.

    A job that dies (of a signal, or without closing its record) is retried once; if it dies again, its record is closed
    as `failed`. How a run ended is in its record; `exitcode` is for jobs without one.

    Closing the iterator, or Ctrl-C, stops the jobs: SIGTERM, then SIGKILL after `GRACE_SECONDS`; all are gone when it
    returns. RunError if no process can be started.

    Args:
        jobs: read as places become free.
        num_workers: maximum number of concurrent jobs.
        num_cores: maximum sum of their `num_threads`; a job that wants more runs alone.
        gpus: those of CUDA_VISIBLE_DEVICES that the jobs take, by their `num_gpus`; empty: the environment's.
        poll: called about twice per second with the running jobs.
        retry: retry a job that died.
        caller: environment, folder and paths of the jobs; None: those of this process.
    """
    global _server
    num_places = min(num_workers, len(gpus)) if gpus else num_workers
    if num_places < 1:
        raise ValueError(f"num_workers must be at least 1, not {num_workers}")
    server, _server = _server or Server(()), None  # a concurrent `run` has its own
    pool = _Pool(jobs, server, num_places, num_cores, list(gpus), retry, caller or Caller())
    try:
        while pool.fill():
            pool.wait(poll)
            yield from pool.take_ended()
    except BaseException:  # also GeneratorExit
        pool.server.stop()
        raise
    if _server is None:
        _server = pool.server  # for the next sweep of this process
    else:
        pool.server.close()


class _Pool:
    def __init__(
        self,
        jobs: Iterable[Job],
        server: Server,
        num_places: int,
        num_cores: int,
        gpus: list[str],
        retry: bool,
        caller: Caller,
    ) -> None:
        self.server = server
        self._jobs = iter(jobs)
        self._next: Job | None = None  # waits for free cores
        self._num_places, self._num_cores, self._free_gpus, self._retry = num_places, num_cores, gpus, retry
        self._has_gpus, self._caller = bool(gpus), caller
        self._running: dict[int, Running] = {}
        self._num_started = 0

    def fill(self) -> bool:
        """Start as many jobs as there is room for; whether any is running."""
        while len(self._running) < self._num_places:
            self._next = self._next or next(self._jobs, None)
            if self._next is None:
                break
            num_taken = sum(running.job.num_threads for running in self._running.values())
            if self._running and num_taken + self._next.num_threads > self._num_cores:
                break
            if self._running and self._has_gpus and self._next.num_gpus > len(self._free_gpus):
                break
            self.server.wait_ready()
            self._num_started += 1
            gpus = [self._free_gpus.pop(0) for _ in range(min(self._next.num_gpus, len(self._free_gpus)))]
            running = Running(self._next, gpus)
            self._running[self._num_started], self._next = running, None
            self.server.start(self._num_started, running, self._caller)
        return bool(self._running)

    def wait(self, poll: Callable[[list[Job]], None] | None) -> None:
        """Wait for a message; call `poll` meanwhile."""
        while not self.server.connection.poll(None if poll is None else POLL_SECONDS):
            if poll is not None:
                poll([running.job for running in self._running.values()])

    def take_ended(self) -> list[Ended]:
        """Jobs that have ended; one that died for the first time is started again."""
        try:
            exits = [self.server.receive()]
        except OSError:  # it was killed, and its jobs with it
            self.server.close()
            self.server = Server(self.server.modules)
            exits = [(number, -signal.SIGKILL) for number in self._running]
        ended = [self._after_exit(number, exitcode) for number, exitcode in exits]
        return [job for job in ended if job is not None]

    def _after_exit(self, number: int, exitcode: int) -> Ended | None:
        running = self._running[number]
        if death := _death(running.job, exitcode):
            running.deaths.append(death)
            if self._retry and len(running.deaths) == 1:
                self.server.wait_ready()
                self.server.start(number, running, self._caller)
                return None
        del self._running[number]
        self._free_gpus += running.gpus
        seconds = time.monotonic() - running.began
        if death:
            record_death(running, seconds)
        return Ended(running.job, exitcode, len(running.deaths) + (not death), seconds)


def _death(job: Job, exitcode: int) -> str:
    """Why a job died; empty if it ended by itself, with or without success."""
    try:
        status = RunDirectory(job.path).read().status
    except RunError:
        status = ""
    if exitcode < 0 and status != "completed":  # a library that crashes at exit does no harm
        return next((s.name for s in signal.Signals if s == -exitcode), f"signal {-exitcode}")
    return f"exit status {exitcode}" if status == "running" else ""


def record_death(running: Running, seconds: float) -> None:
    """Close the record of a run whose attempts died, as `failed`."""
    first, last = running.deaths[0], running.deaths[-1]
    died = f"died of {first}" + (f", then of {last}" if first != last else " twice" if running.deaths[1:] else "")
    guess = " (out of memory?)" if last == "SIGKILL" else ""
    directory = RunDirectory(running.job.path)
    # There may be no record yet; or another process has the run, and the job was refused.
    with contextlib.suppress(RunError):
        record = directory.read()
        with directory.held():
            record.pop("traceback", None)  # of an earlier end
            elapsed_sec = round((record.elapsed_sec or 0.0) + seconds, 3)
            error = f"{died}{guess}; see {OUTPUT}"
            record.update(status="failed", ended_at=now_utc(), elapsed_sec=elapsed_sec, error=error)
            write_record(directory.record_file, record)


_server: Server | None = None  # for the next `run`


@atexit.register
def close_server() -> None:
    """End the process that waits for the next `run`."""
    global _server
    if _server is not None:
        _server.close()
        _server = None
