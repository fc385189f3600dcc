"""CPU cores of the process, and a faster start and end of a process that imports torch."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import math
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

MOST_THREADS = 1024  # more than the system can start end a process by a segmentation fault
_OF_TORCHRUN = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}  # each alone may mean other things
_is_guest = False


@contextlib.contextmanager
def guest() -> Iterator[None]:
    """Mark the process as somebody else's program, which calls mlprun in the block."""
    global _is_guest
    _is_guest = True
    try:
        yield
    finally:
        _is_guest = False


def is_guest() -> bool:
    """Whether the process is a program that goes on after mlprun has done its work, such as a notebook."""
    return _is_guest


def num_ranks() -> int | None:
    """The processes that torchrun has started for one run; None without it."""
    return int(os.environ["WORLD_SIZE"]) if os.environ.keys() >= _OF_TORCHRUN else None


def num_cores() -> int:
    """CPU cores available to this process: of its affinity, and whole ones of its container's quota."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min(affinity, cpu_quota())))


def num_threads() -> int:
    """CPU threads for a large model: OMP_NUM_THREADS, or all cores."""
    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(wanted) if wanted.isdecimal() and 0 < int(wanted) <= MOST_THREADS else num_cores()


def cpu_quota(root: Path = Path("/")) -> float:
    """The CPUs that control groups (a container, a cluster's job) allow this process; infinite without a limit."""
    quota = math.inf
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return quota  # not Linux
    for group in groups:
        _, controllers, path = group.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        own = mount / path.lstrip("/")  # not there in a container that sees its own group at the top
        for folder in (own, *own.parents):
            if folder == mount or mount in folder.parents:
                quota = min(quota, _quota(folder))
    return quota


def _quota(folder: Path) -> float:
    with contextlib.suppress(OSError, ValueError):
        limit, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        return math.inf if limit == "max" else int(limit) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1
        limit, period = ((folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period"))
        return int(limit) / int(period) if int(limit) > 0 else math.inf
    return math.inf


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Disable garbage collection while torch is imported, and exempt the imported objects from later collections.

    Collections take a quarter of a short run's time otherwise (dev/LOG.md, "Processes"). Does nothing once torch has
    been imported, or in another's program: the objects exempted then might include a model.
    """
    if "torch" in sys.modules or _is_guest or not gc.isenabled():
        yield
        return
    with collections_paused():
        try:
            yield
        finally:
            gc.freeze()
    atexit.register(gc.unfreeze)  # else triton reports leaks at interpreter exit


@contextlib.contextmanager
def collections_paused() -> Iterator[None]:
    """Disable garbage collection while many objects are made that stay: each collection would visit all of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def fast_exit(status: int) -> NoReturn:
    """Exit without tearing torch down, which takes a second (dev/LOG.md, "Processes").

    Joins threads, calls exit functions and flushes open files, but calls no `__del__`. Frozen objects stay untouched:
    in a forked process, touching them would copy them.
    """
    atexit.unregister(gc.unfreeze)
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does; there is no public function
    atexit._run_exitfuncs()
    files = [each for each in gc.get_objects() if issubclass(type(each), io.IOBase)]
    for layer in (io.TextIOBase, io.IOBase):  # a text file writes to its buffer first
        for file in files:
            if isinstance(file, layer):
                with contextlib.suppress(OSError, ValueError):  # closed, or a pipe without a reader
                    file.flush()
    os._exit(status & 0xFF)
