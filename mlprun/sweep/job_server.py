"""The server that imports a sweep's modules once and forks a process for each job. Imports no torch.

However the connection to its owner ends, it ends the jobs, so a killed sweep leaves nothing running.

It replaces multiprocessing's fork server, which puts the current folder before the libraries, dies of a preload that
raises, imports the caller's script again in every job, is shared by the whole process (maybe with the user's code),
lives as long as its jobs rather than its parent, and loses a job that is interrupted while the server still imports.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import importlib
import os
import pickle
import signal
import sys
import traceback
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NoReturn

from mlprun import signals
from mlprun.config.own_modules import find_own_modules
from mlprun.files import make_folder, own_file
from mlprun.process import fast_exit, without_collections
from mlprun.sweep.forkserver import Order


def serve() -> None:
    """Run the server; in the process of a job, run the job."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.REQUESTS)  # it ends when its owner closes the connection
    connection: Connection[Any, Any] = Connection(int(sys.argv[1]))
    with without_collections():  # so a job's collections do not visit, and copy, the imported objects
        for name in sys.argv[2:]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    server = os.getpid()
    numbers: dict[int, int] = {}  # process -> number of its order
    try:
        order = _fork_jobs(connection, numbers)
    except (EOFError, OSError):  # the owner has closed the connection, or is dead
        for pid in numbers:
            _kill_group(pid)
        for pid in numbers:
            os.waitpid(pid, 0)
        os._exit(0)
    _enter_job(server, order)
    _do(order.call)


def _fork_jobs(connection: Connection[Any, Any], numbers: dict[int, int]) -> Order:
    """Fork and reap while there is an owner; return only in a job's process, with its order."""
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
            order: Order | None = connection.recv()
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
    for pid in [*numbers]:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            _kill_group(pid)  # its own children
            connection.send((numbers.pop(pid), os.waitstatus_to_exitcode(status)))


def _fork(connection: Connection[Any, Any], order: Order, numbers: dict[int, int]) -> bool:
    """Fork a job; true in the new process. A failed fork is reported as the job's exit."""
    try:
        pid = os.fork()
    except OSError as error:
        print(f"a job cannot have a process: {error}", file=sys.stderr, flush=True)
        connection.send((order.number, os.EX_OSERR))
        return False
    if pid == 0:
        return True
    with contextlib.suppress(OSError):  # the child does the same: whoever is first
        os.setpgid(pid, pid)
    numbers[pid] = order.number
    return False


def _kill_group(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)


def _enter_job(server: int, order: Order) -> None:
    with contextlib.suppress(OSError):
        os.setpgid(0, 0)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the server
        if os.getppid() != server:
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the owner asks with SIGTERM
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signals.REQUESTS)
    os.environ.clear()
    os.environ.update(order.caller.environment)
    os.chdir(order.caller.directory)
    sys.path[:], sys.argv[:] = order.caller.path, order.caller.arguments
    find_own_modules()
    write_output_to(order.output)


def write_output_to(path: Path) -> None:
    """Append stdout and stderr of this process, and the traceback of a crash, to a file."""
    make_folder(path.parent)
    file = own_file(str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # Line-buffered: nothing is lost when a job dies.
    sys.stdout, sys.stderr = (
        # open until the job ends
        open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for number in (1, 2)
    )
    faulthandler.enable()


def _do(call: bytes) -> NoReturn:
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
    signal.pthread_sigmask(signal.SIG_BLOCK, signals.REQUESTS)  # exiting
    fast_exit(status)
