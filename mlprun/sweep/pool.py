"""Jobs in processes of their own: bounded, refilled as they end, retried when they die, and none left behind."""

from __future__ import annotations

import atexit
import contextlib
import signal
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory, now_utc
from mlprun.runs.record import write_json
from mlprun.sweep.forkserver import OUTPUT, Caller, Job, Running, Server

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: the running.
        exitcode: of its last attempt; negative: the signal that it died of.
        attempts: 2 if it died and was tried again.
        seconds: from its first start, all attempts together.
    """

    job: Job
    exitcode: int
    attempts: int
    seconds: float


def start_server(modules: Sequence[str]) -> None:
    """Begin to import what jobs will need, in the background; the next `run` uses it.

    A module that cannot be imported is left to the jobs that need it, for they can record what is wrong.
    """
    global _server
    if _server is None or _server.modules != tuple(modules) or _server.process.poll() is not None:
        _close()
        _server = Server(tuple(modules))


def run(
    jobs: Iterable[Job],
    *,
    num_workers: int,
    num_cores: int,
    gpus: Sequence[str] = (),
    poll: Callable[[list[Job]], None] | None = None,
    retry: bool = True,
) -> Generator[Ended, None, None]:
    """Run jobs side by side, in their order; yield each as it ends.

    A job that dies (of a signal, or without closing its record) is tried once more in its place; if it dies again,
    its record says so and is closed as `failed`. How a run ended is in its record; `exitcode` is for those without.

    To leave early, close the iterator: the jobs are then asked to stop (SIGTERM), killed after `GRACE_SECONDS`, and
    gone when that returns. The same goes for Ctrl-C.

    Args:
        jobs: taken from only as places become free.
        num_workers: most jobs at a time.
        num_cores: most `num_threads` at a time, all jobs together; a job that wants more runs alone.
        gpus: names for CUDA_VISIBLE_DEVICES; each job has one of them to itself. Empty: as the environment says.
        poll: called twice a second or so while nothing ends, with the jobs that run.
        retry: whether a job that died is tried once more.

    Raises:
        ValueError: there is no place for a job.
        RunError: no process can be started.
        KeyboardInterrupt: when all jobs are gone.
    """
    global _server
    num_places = min(num_workers, len(gpus)) if gpus else num_workers
    if num_places < 1:
        raise ValueError(f"num_workers must be at least 1, not {num_workers}")
    server, _server = _server or Server(()), None  # another `run` beside this one has its own
    pool = _Pool(jobs, server, num_places, num_cores, list(gpus), retry)
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
    """The jobs of one `run` that wait or run, and the server that starts them."""

    def __init__(
        self, jobs: Iterable[Job], server: Server, num_places: int, num_cores: int, gpus: list[str], retry: bool
    ) -> None:
        self.server = server
        self._jobs = iter(jobs)
        self._next: Job | None = None  # taken, and too large for the cores that are free now
        self._num_places, self._num_cores, self._free_gpus, self._retry = num_places, num_cores, gpus, retry
        self._caller = Caller.now()
        self._running: dict[int, Running] = {}
        self._num_started = 0

    def fill(self) -> bool:
        """Start as many jobs as there is room for; whether any runs now."""
        while len(self._running) < self._num_places:
            self._next = self._next or next(self._jobs, None)
            if self._next is None:
                break
            num_taken = sum(running.job.num_threads for running in self._running.values())
            if self._running and num_taken + self._next.num_threads > self._num_cores:
                break
            self.server.wait_ready()
            self._num_started += 1
            running = Running(self._next, self._free_gpus.pop(0) if self._free_gpus else None)
            self._running[self._num_started], self._next = running, None
            self.server.start(self._num_started, running, self._caller)
        return bool(self._running)

    def wait(self, poll: Callable[[list[Job]], None] | None) -> None:
        """Return when something has happened; call `poll` meanwhile."""
        while not self.server.connection.poll(None if poll is None else POLL_SECONDS):
            if poll is not None:
                poll([running.job for running in self._running.values()])

    def take_ended(self) -> list[Ended]:
        """Those that have ended for good; who died for the first time is started again."""
        try:
            exits = [self.server.receive()]
        except OSError:  # somebody killed it, and its jobs died with it
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
        if running.gpu is not None:
            self._free_gpus.append(running.gpu)
        seconds = time.monotonic() - running.began
        if death:
            _record(running, seconds)
        return Ended(running.job, exitcode, len(running.deaths) + (not death), seconds)


def _death(job: Job, exitcode: int) -> str:
    """What a job died of; empty if it ended by itself, well or not."""
    try:
        status = RunDirectory(job.path).read().status
    except RunError:
        status = ""
    if exitcode < 0 and status != "completed":  # a library that crashes on the way out does no harm
        return next((s.name for s in signal.Signals if s == -exitcode), f"signal {-exitcode}")
    return f"exit status {exitcode}" if status == "running" else ""


def _record(running: Running, seconds: float) -> None:
    """Close the record of a job that died, for it cannot do so any more."""
    first, last = running.deaths[0], running.deaths[-1]
    died = f"died of {first}" + (f", then of {last}" if first != last else " twice" if running.deaths[1:] else "")
    guess = " (out of memory?)" if last == "SIGKILL" else ""
    directory = RunDirectory(running.job.path)
    # There may be no record yet; or another process may have the run, and the job was only refused.
    with contextlib.suppress(RunError):
        record = directory.read()
        with directory.held():
            record.pop("traceback", None)  # of an earlier end
            elapsed_sec = round((record.elapsed_sec or 0.0) + seconds, 3)
            error = f"{died}{guess}; see {OUTPUT}"
            record.update(status="failed", ended_at=now_utc(), elapsed_sec=elapsed_sec, error=error)
            write_json(directory.record_file, record)


_server: Server | None = None  # for the next `run`


@atexit.register
def _close() -> None:
    global _server
    if _server is not None:
        _server.close()
        _server = None
