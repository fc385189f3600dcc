"""CPU cores of the process, and a faster start and end of a process that imports torch."""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import os
import sys
import threading
from collections.abc import Iterator
from typing import NoReturn


def num_cores() -> int:
    """CPU cores available to this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Disable garbage collection while torch is imported, and exempt the imported objects from later collections.

    Collections take a quarter of a short run's time otherwise (dev/LOG.md, "Processes"). Does nothing once torch has
    been imported: the objects exempted then might include a model.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # else triton reports leaks at interpreter exit


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
