"""A server that imports once what the jobs of a sweep need, and forks one process for each. Imports no torch.

It owns the jobs: however the connection to it ends, it ends them, so a sweep that is killed leaves nothing running.

It is not multiprocessing's fork server. That one finds the current folder before the libraries, dies of a preload that
raises, imports the caller's script again in every job, is one for the whole process (the user's own, maybe), lives as
long as its jobs rather than its parent, and loses a job that is interrupted while the server still imports."""

from __future__ import annotations

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
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from pathlib import Path
from typing import Any, NoReturn

from mlprun import signals
from mlprun.errors import RunError
from mlprun.process import leave, without_collections

GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
OUTPUT = "output.log"  # of a job, in its directory
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


@dataclass
class Running:
    """A job that has been started.

    Attributes:
        job: the one.
        gpu: the name that it has to itself, or None.
        began: `time.monotonic()` at its first start.
        deaths: what its attempts died of.
    """

    job: Job
    gpu: str | None
    began: float = field(default_factory=time.monotonic)
    deaths: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Caller:
    """What a job's process takes over from the one that wants the job done.

    Attributes:
        folder: the current one.
        environment: its variables.
        path: `sys.path`.
        arguments: `sys.argv`.
    """

    folder: str
    environment: dict[str, str]
    path: list[str]
    arguments: list[str]

    @classmethod
    def now(cls) -> Caller:
        """This process, as it is now."""
        return cls(os.getcwd(), dict(os.environ), [*sys.path], [*sys.argv])


@dataclass(frozen=True)
class _Order:
    """What the server is sent for each job.

    Attributes:
        number: what its end is reported with.
        caller: `Caller`.
        output: the file that its output goes to.
        call: the pickled target and its arguments; only the job's own process may import what they are made of.
    """

    number: int
    caller: Caller
    output: Path
    call: bytes


class Server:
    """The process that forks the jobs, as its owner sees it."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.modules = modules
        self._is_ready = False
        self.connection, theirs = Pipe()
        with theirs, signals.deferred:
            code = "from mlprun.sweep import forkserver; forkserver._serve()"
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
        with signals.deferred:  # a message is read whole or not at all
            try:
                return self.connection.recv()
            except EOFError as error:
                raise ConnectionResetError from error

    def start(self, number: int, one: Running, caller: Caller) -> None:
        """Have it fork a process; how that ends comes back with `number`."""
        if one.gpu is not None:
            caller = replace(caller, environment={**caller.environment, "CUDA_VISIBLE_DEVICES": one.gpu})
        order = _Order(number, caller, one.job.path / OUTPUT, pickle.dumps((one.job.target, one.job.args)))
        with signals.deferred, contextlib.suppress(OSError):  # if it is gone, `receive` says so
            self.connection.send(order)

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
    server = os.getpid()
    numbers: dict[int, int] = {}  # of the orders, by process
    try:
        order = _fork_jobs(connection, numbers)
    except (EOFError, OSError):  # the owner has let go, or is dead
        for pid in numbers:
            _kill_group(pid)
        for pid in numbers:
            os.waitpid(pid, 0)
        os._exit(0)
    _enter_job(server, order)
    _do(order.call)


def _fork_jobs(connection: Connection[Any, Any], numbers: dict[int, int]) -> _Order:
    """Fork and reap for as long as there is an owner; return only in a forked process, with what it is to do."""
    child_ended, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    asked_to_stop = False
    connection.send(None)
    while True:
        ready = wait([connection, child_ended])
        if child_ended in ready:
            os.read(child_ended, 4096)
            _reap(connection, numbers)
        if connection in ready:
            order: _Order | None = connection.recv()
            if order is None:
                asked_to_stop = True
                for pid in numbers:
                    os.kill(pid, signal.SIGTERM)
            elif _fork(connection, order, numbers):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                os.close(child_ended)
                os.close(writer)
                connection.close()
                return order
        if asked_to_stop and not numbers:
            connection.send(None)


def _reap(connection: Connection[Any, Any], numbers: dict[int, int]) -> None:
    """Report the jobs that have ended."""
    for pid in [*numbers]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _kill_group(pid)  # what it left behind
            connection.send((numbers.pop(pid), os.waitstatus_to_exitcode(status)))


def _fork(connection: Connection[Any, Any], order: _Order, numbers: dict[int, int]) -> bool:
    """Fork a process for a job; whether this is the new one. If there can be none, it is reported as ended."""
    try:
        pid = os.fork()
    except OSError as error:
        print(f"a job cannot have a process: {error}", file=sys.stderr, flush=True)
        connection.send((order.number, os.EX_OSERR))
        return False
    if pid == 0:
        return True
    with contextlib.suppress(OSError):  # it does the same; whoever comes first
        os.setpgid(pid, pid)
    numbers[pid] = order.number
    return False


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _enter_job(server: int, order: _Order) -> None:
    """Make this process, forked from the one with the id `server`, that of a job."""
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends also when the server is killed
        if os.getppid() != server:
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner asks with SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    os.environ.clear()
    os.environ.update(order.caller.environment)
    os.chdir(order.caller.folder)
    sys.path[:], sys.argv[:] = order.caller.path, order.caller.arguments
    order.output.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(order.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # By lines: what a job has said is there when it dies.
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    faulthandler.enable()


def _do(call: bytes) -> NoReturn:
    """Call the job's target, and end the process with its exit status."""
    status = 0
    try:
        target, args = pickle.loads(call)
        target(*args)
    except KeyboardInterrupt as stop:
        status = signals.exit_status(str(stop) or "SIGINT")
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        if isinstance(stop.code, str):
            print(stop.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # it is ending
    leave(status)
