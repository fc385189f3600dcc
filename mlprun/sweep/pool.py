"""Jobs in processes of their own: bounded, refilled as they end, retried when they die, and none left behind."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory, now_utc, write_json
from mlprun.sweep.forkserver import OUTPUT, Job, Running, Server

POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Ended:
    """How a job ended.

    Attributes:
        job: the one.
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
    places = min(num_workers, len(gpus)) if gpus else num_workers
    if places < 1:
        raise ValueError(f"num_workers must be at least 1, not {num_workers}")
    free = list(gpus)
    inherited = (os.getcwd(), dict(os.environ), [*sys.path], [*sys.argv])
    queue, waiting = iter(jobs), None
    running: dict[int, Running] = {}
    number = 0
    server, _server = _server or Server(()), None  # another `run` beside this one has its own
    try:
        while True:
            while len(running) < places and (waiting := waiting or next(queue, None)) is not None:
                taken = sum(r.job.num_threads for r in running.values())
                if running and taken + waiting.num_threads > num_cores:
                    break
                server.wait_ready()
                number += 1
                running[number] = Running(waiting, free.pop(0) if free else None)
                server.start(number, running[number], inherited)
                waiting = None
            if not running:
                break
            while not server.connection.poll(None if poll is None else POLL_SECONDS):
                if poll is not None:
                    poll([one.job for one in running.values()])
            try:
                ended = [server.receive()]
            except OSError:  # somebody killed it, and its jobs died with it
                server.close()
                server = Server(server.modules)
                ended = [(known, -signal.SIGKILL) for known in running]
            for known, exitcode in ended:
                one = running[known]
                if death := _death(one.job, exitcode):
                    one.deaths.append(death)
                    if retry and len(one.deaths) == 1:
                        server.wait_ready()
                        server.start(known, one, inherited)
                        continue
                del running[known]
                if one.gpu is not None:
                    free.append(one.gpu)
                seconds = time.monotonic() - one.began
                if death:
                    _record(one, seconds)
                yield Ended(one.job, exitcode, len(one.deaths) + (not death), seconds)
    except BaseException:  # also GeneratorExit
        server.stop()
        raise
    if _server is None:
        _server = server  # for the next sweep of this process
    else:
        server.close()


def _death(job: Job, exitcode: int) -> str:
    """What a job died of; empty if it ended by itself, well or not."""
    try:
        status = RunDirectory(job.path).read()["status"]
    except (RunError, KeyError):
        status = ""
    if exitcode < 0 and status != "completed":  # a library that crashes on the way out does no harm
        return next((known.name for known in signal.Signals if known == -exitcode), f"signal {-exitcode}")
    return f"exit status {exitcode}" if status == "running" else ""


def _record(one: Running, seconds: float) -> None:
    """Close the record of a job that died, for it cannot do so any more."""
    first, last = one.deaths[0], one.deaths[-1]
    died = f"died of {first}" + (f", then of {last}" if first != last else " twice" if one.deaths[1:] else "")
    guess = " (out of memory?)" if last == "SIGKILL" else ""
    directory = RunDirectory(one.job.path)
    # There may be no record yet; or another process may have the run, and the job was only refused.
    with contextlib.suppress(RunError):
        record = directory.read()
        with directory.held():
            record.pop("traceback", None)  # of an earlier end
            record["elapsed_sec"] = round(record.get("elapsed_sec", 0.0) + seconds, 3)
            record |= {"status": "failed", "ended_at": now_utc(), "error": f"{died}{guess}; see {OUTPUT}"}
            write_json(directory.record_file, record)


_server: Server | None = None  # for the next `run`


@atexit.register
def _close() -> None:
    global _server
    if _server is not None:
        _server.close()
        _server = None
