"""The server that forks a process for each job, as its owner sees it. `job_server.py` is its other side."""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import Any

from mlprun import signals
from mlprun.errors import RunError

GRACE_SECONDS = 10.0  # from SIGTERM to SIGKILL
OUTPUT = "output.log"  # of a job, in its directory


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
        job: what was started.
        gpu: the one that it has to itself, as CUDA_VISIBLE_DEVICES names it; or None.
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
        directory: the current one.
        environment: its variables.
        path: `sys.path`.
        arguments: `sys.argv`.
    """

    directory: str
    environment: dict[str, str]
    path: list[str]
    arguments: list[str]

    @classmethod
    def now(cls) -> Caller:
        """This process, as it is now."""
        return cls(os.getcwd(), dict(os.environ), [*sys.path], [*sys.argv])


@dataclass(frozen=True)
class Order:
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
        self.connection, server_end = Pipe()
        with server_end, signals.deferred:
            code = "from mlprun.sweep.job_server import serve; serve()"
            # -P: the path is the one here, while `-c` would put the current folder before the libraries
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(server_end.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[server_end.fileno()],
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

    def start(self, number: int, running: Running, caller: Caller) -> None:
        """Have it fork a process; how that ends comes back with `number`."""
        if running.gpu is not None:
            caller = replace(caller, environment={**caller.environment, "CUDA_VISIBLE_DEVICES": running.gpu})
        order = Order(number, caller, running.job.path / OUTPUT, pickle.dumps((running.job.target, running.job.args)))
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
