"""The client of the fork server, which forks a process for each job; `job_server.py` is the server."""

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
OUTPUT = "output.log"  # in a job's directory


@dataclass(frozen=True)
class Job:
    """A call in a process of its own."""

    target: Callable[..., object]  # importable by its name, so not in `__main__`
    args: tuple[Any, ...]  # picklable
    path: Path  # the run's directory; stdout and stderr go to `output.log` in it
    num_threads: int = 1  # CPU cores it takes
    num_gpus: int = 1  # it takes, if the pool has any


@dataclass
class Running:
    """A started job."""

    job: Job
    gpus: list[str]  # those of CUDA_VISIBLE_DEVICES reserved for it; empty: unchanged
    began: float = field(default_factory=time.monotonic)
    deaths: list[str] = field(default_factory=list)  # why its attempts died


@dataclass(frozen=True)
class Caller:
    """The state of this process that a job's process takes over."""

    directory: str = field(default_factory=os.getcwd)
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    path: list[str] = field(default_factory=lambda: [*sys.path])
    arguments: list[str] = field(default_factory=lambda: [*sys.argv])


@dataclass(frozen=True)
class Order:
    """The message that starts a job."""

    number: int  # reported with the exit code
    caller: Caller
    output: Path  # file for stdout and stderr
    call: bytes  # the pickled target and arguments, which only the job's process may import


class Server:
    """Starts and stops the process that forks the jobs, and talks to it."""

    def __init__(self, modules: tuple[str, ...]) -> None:
        self.modules = modules
        self._is_ready = False
        self.connection, server_end = Pipe()
        with server_end, signals.deferred:
            code = "from mlprun.sweep.job_server import serve; serve()"
            # -P: use sys.path of this process; `-c` would put the current folder first
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", code, str(server_end.fileno()), *modules],
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[server_end.fileno()],
                start_new_session=True,  # its owner handles Ctrl-C and a terminal that closes
            )

    def wait_ready(self) -> None:
        """Wait until it has imported its modules; RunError if it exits instead."""
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
        """Its next message: `(number, exit code)`, None if ready or without jobs left; OSError if it is gone."""
        with signals.deferred:  # never read half a message
            try:
                return self.connection.recv()
            except EOFError as error:
                raise ConnectionResetError from error

    def start(self, number: int, running: Running, caller: Caller) -> None:
        """Start a job; its exit code is received with `number`."""
        if running.gpus:
            visible = {"CUDA_VISIBLE_DEVICES": ",".join(running.gpus)}
            caller = replace(caller, environment={**caller.environment, **visible})
        order = Order(number, caller, running.job.path / OUTPUT, pickle.dumps((running.job.target, running.job.args)))
        with signals.deferred, contextlib.suppress(OSError):  # if it is gone, `receive` says so
            self.connection.send(order)

    def stop(self) -> None:
        """End the jobs, first with SIGTERM, later by force, and then the server."""
        limit = time.monotonic() + GRACE_SECONDS
        try:
            if self._is_ready:
                self.connection.send(None)
                while self.connection.poll(max(0.0, limit - time.monotonic())) and self.connection.recv() is not None:
                    pass
        except (EOFError, OSError):
            pass  # it was killed, and its jobs with it
        finally:
            self.close()

    def close(self) -> None:
        self.connection.close()
        try:
            self.process.wait(GRACE_SECONDS if self._is_ready else 0)
        except subprocess.TimeoutExpired:  # it is still importing, without jobs; or it hangs, and its jobs die with it
            self.process.kill()
            self.process.wait()
