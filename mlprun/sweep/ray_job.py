"""What a node of a Ray cluster does for a job: run it in a process of its own, as the pool does. Imports no torch."""

from __future__ import annotations

import os
import pickle
import platform
import shutil
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlprun import signals
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.sweep import pool
from mlprun.sweep.forkserver import Caller, Job
from mlprun.sweep.ray_files import Copy, write_files

LOCK_SECONDS = 60.0  # that a run of a lost node may stay locked
# Variables that describe a machine: on another one, its own are kept.
OF_THE_MACHINE = ("HOME", "HOSTNAME", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "TMPDIR", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Order:
    """A job for a node."""

    call: bytes  # the pickled target and arguments, which only the job's process may import
    path: Path
    num_threads: int
    caller: Caller
    marker: Path  # a file in the sweep's folder, which the node sees if it shares the folder
    has_gpu: bool
    is_retry: bool
    folder: Any  # the actor that takes the files of a node without the sweep's folder; None: there should be none
    files: dict[str, bytes] = field(repr=False)  # of the run so far, if there may be such nodes


def sees(file: str) -> bool:
    return os.path.exists(file)


def run_order(order: Order) -> tuple[int, int]:
    """Run the job; its exit code, and the number of attempts on this node."""
    caller = order.caller
    is_shared = sees(os.path.join(caller.directory, order.marker))
    if is_shared:
        os.chdir(caller.directory)
    elif order.folder is None:
        raise RunError(
            f"the Ray node {platform.node()} joined later, and does not see {order.marker.parent}"
            "\n  start the sweep again: the current folder and the runs are then copied"
        )
    caller = _caller(order, is_shared=is_shared)
    # Ray's own sets the number of CPUs of the task, and the server would hand it on to torch.
    os.environ.pop("OMP_NUM_THREADS", None)
    with signals.installed():  # Ray cancels a task by an interrupt
        pool.start_server(pool.PRELOADED)
        copy = None
        if not is_shared:
            write_files(order.path, order.files)
            copy = Copy(order.path, order.folder)
        elif order.is_retry:
            _wait_for_lock(RunDirectory(order.path))
        job = Job(_call, (order.call,), order.path, order.num_threads)
        try:
            (ended,) = pool.run(
                [job],
                num_workers=1,
                num_cores=order.num_threads,
                poll=lambda _: copy.send_checkpoint() if copy else None,  # also lets an interrupt in
                caller=caller,
            )
        finally:
            if copy is not None:  # also of a run that was stopped
                copy.send()
                shutil.rmtree(order.path, ignore_errors=True)
    return ended.exitcode, ended.attempts


def _call(call: bytes) -> None:
    target, args = pickle.loads(call)
    target(*args)


def _caller(order: Order, *, is_shared: bool) -> Caller:
    caller, environment = order.caller, dict(order.caller.environment)
    if not is_shared:
        environment |= {name: os.environ[name] for name in OF_THE_MACHINE if name in os.environ}
        path = [folder for folder in sys.path if f"{os.sep}ray{os.sep}" not in folder and folder != os.getcwd()]
        caller = replace(caller, directory=os.getcwd(), path=path)
    # A job without a GPU must not find one: whether it does would decide on its bits.
    environment["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "") if order.has_gpu else ""
    return replace(caller, environment=environment)


def _wait_for_lock(directory: RunDirectory) -> None:
    """Wait until the process of the lost node is gone; the job itself reports one that is not."""
    limit = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < limit:
        try:
            with directory.held():
                return
        except RunError:
            time.sleep(0.5)
