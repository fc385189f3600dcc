"""Jobs in processes of their own: bounded, refilled as they end, retried when they die, and none left behind.

A server imports once what the jobs need and forks one process a job, so that a job begins in milliseconds with nothing
of another's in it. The server owns the jobs. However the connection to it ends, it ends them: a sweep that is killed
leaves nothing running. Imports no torch.

It is not multiprocessing's fork server. That one finds the current folder before the libraries, dies of a preload that
raises, imports the caller's script again in every job, is one for the whole process (the user's own, maybe), lives as
long as its jobs rather than its parent, and loses a job that is interrupted while the server still imports.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import importlib
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
import weakref
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any

from mlprun import stopping
from mlprun.errors import RunError
from mlprun.process import leave, without_collections
from mlprun.runs.directory import RunDirectory, now_utc, write_json

OUTPUT = "output.log"  # of a job, in its directory
GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
POLL_SECONDS = 0.5

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Job:
    """A call in a process of its own.

    Attributes:
        target: a function that can be imported by its name, so none of `__main__`.
        args: what it is called with; can be pickled.
        path: the run's directory; the process's output goes to `output.log` in it.
        num_threads: cores that it takes.
    """

    target: Callable[..., object]
    args: tuple[Any, ...]
    path: Path
    num_threads: int = 1


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


@dataclass
class _Running:
    job: Job
    gpu: str | None
    began: float = field(default_factory=time.monotonic)
    deaths: list[str] = field(default_factory=list)


def start_server(modules: Sequence[str]) -> None:
    """Begin to import what jobs will need, in the background; the next `run` uses it.

    A module that cannot be imported is left to the jobs that need it, for they can record what is wrong.
    """
    global _server
    if _server is None or _server.modules != tuple(modules) or _server.process.poll() is not None:
        _close()
        _server = _Server(tuple(modules))


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
    running: dict[int, _Running] = {}
    number = 0
    server, _server = _server or _Server(()), None  # another `run` beside this one has its own
    try:
        while True:
            while len(running) < places and (waiting := waiting or next(queue, None)) is not None:
                taken = sum(r.job.num_threads for r in running.values())
                if running and taken + waiting.num_threads > num_cores:
                    break
                server.wait_ready()
                number += 1
                running[number] = _Running(waiting, free.pop(0) if free else None)
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
                server = _Server(server.modules)
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


def _record(one: _Running, seconds: float) -> None:
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


class _Server:
    """The process that forks the jobs, as its owner sees it."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.modules = modules
        self._is_ready = False
        self.connection, theirs = Pipe()
        with theirs:
            code = "from mlprun.sweep import pool; pool._serve()"
            # -P: the path is the one here, while `-c` would put the current folder before the libraries
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(theirs.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C and a terminal that closes are its owner's affair
            )

    def wait_ready(self) -> None:
        """Return when it has imported what it is to import.

        Raises:
            RunError: it ended instead.
        """
        if self._is_ready:
            return
        self.connection.poll(None)
        try:
            self.receive()
        except OSError as error:
            status = self.process.wait()
            imported = f" while it imported {', '.join(self.modules)}" if self.modules else ""
            raise RunError(f"the process that starts the jobs ended{imported}: exit status {status}") from error
        self._is_ready = True

    def receive(self) -> Any:
        """What it says next: `(number, exit code)`, or None when it is ready and when all jobs have ended.

        Raises:
            OSError: it is gone.
        """
        with stopping.deferred:  # a message is read whole or not at all
            try:
                return self.connection.recv()
            except EOFError as error:
                raise ConnectionResetError from error

    def start(self, number: int, one: _Running, inherited: tuple[str, dict[str, str], list[str], list[str]]) -> None:
        """Have it fork a process; how that ends comes back with `number`."""
        folder, environment, path, arguments = inherited
        if one.gpu is not None:
            environment = {**environment, "CUDA_VISIBLE_DEVICES": one.gpu}
        # Bytes, for only the job's own process may import what it is made of.
        call = pickle.dumps((one.job.target, one.job.args))
        with stopping.deferred, contextlib.suppress(OSError):  # if it is gone, `receive` says so
            self.connection.send((number, (folder, environment, path, arguments, one.job.path / OUTPUT, call)))

    def stop(self) -> None:
        """End the jobs, first by asking, later by force, and then the server."""
        limit = time.monotonic() + GRACE_SECONDS
        try:
            if self._is_ready:
                self.connection.send(None)
                while self.connection.poll(max(0.0, limit - time.monotonic())) and self.connection.recv() is not None:
                    pass
        except (EOFError, OSError):
            pass  # it was killed, and they with it
        finally:
            self.close()

    def close(self) -> None:
        """End the server and whatever it runs."""
        self.connection.close()
        try:
            self.process.wait(GRACE_SECONDS if self._is_ready else 0)
        except subprocess.TimeoutExpired:  # it still imports, and has no jobs; or it hangs, and they die with it
            self.process.kill()
            self.process.wait()


_server: _Server | None = None  # for the next `run`


@atexit.register
def _close() -> None:
    global _server
    if _server is not None:
        _server.close()
        _server = None


def _serve() -> None:
    """Be the server; in the process of a job, be the job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # it ends when its owner lets go of it
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    with without_collections():  # nor do a job's collections visit, and so copy, what is imported here
        for name in sys.argv[2:]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False  # the libraries' own would take 30 ms of every job, to take apart what ends anyway
    running: dict[int, int] = {}  # process -> number
    try:
        work = _fork_jobs(connection, running)
    except (EOFError, OSError):  # the owner has let go, or is dead
        for pid in running:
            _kill_group(pid)
        for pid in running:
            os.waitpid(pid, 0)
        os._exit(0)
    _work(*work)


def _fork_jobs(connection: Connection[Any, Any], running: dict[int, int]) -> tuple[Any, ...]:
    """Fork and reap for as long as there is an owner; return only in a forked process, with what it is to do."""
    reaper, writer = os.pipe()  # readable when a child has ended
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    server, asked_to_stop = os.getpid(), False
    connection.send(None)
    while True:
        ready = wait([connection, reaper])
        if reaper in ready:
            os.read(reaper, 4096)
            for pid in [*running]:
                reaped, status = os.waitpid(pid, os.WNOHANG)
                if reaped:
                    _kill_group(pid)  # what it left behind
                    connection.send((running.pop(pid), os.waitstatus_to_exitcode(status)))
        if connection in ready:
            message = connection.recv()
            if message is None:
                asked_to_stop = True
                for pid in running:
                    os.kill(pid, signal.SIGTERM)
            else:
                number, work = message
                try:
                    pid = os.fork()
                except OSError as error:
                    print(f"a job cannot have a process: {error}", file=sys.stderr, flush=True)
                    connection.send((number, os.EX_OSERR))
                    continue
                if pid == 0:
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    os.close(reaper)
                    os.close(writer)
                    connection.close()
                    return (server, *work)
                with contextlib.suppress(OSError):  # it does the same; whoever comes first
                    os.setpgid(pid, pid)
                running[pid] = number
        if asked_to_stop and not running:
            connection.send(None)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _work(
    server: int,
    folder: str,
    environment: dict[str, str],
    path: list[str],
    arguments: list[str],
    output: Path,
    call: bytes,
) -> None:
    """Make this process a job's, and do the job."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends also when the server is killed
        if os.getppid() != server:
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner asks with SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:], sys.argv[:] = path, arguments
    output.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # By lines: what a job has said is there when it dies.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    faulthandler.enable()
    status = 0
    try:
        target, args = pickle.loads(call)
        target(*args)
    except KeyboardInterrupt as stop:
        status = stopping.exit_status(str(stop) or "SIGINT")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # it is ending
    leave(status)
