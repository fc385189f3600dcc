"""A process of mlprun: its cores, and a start and an end that do not wait for Python to look after torch's objects."""

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
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def without_collections() -> Iterator[None]:
    """Around the imports of torch and what stands on it: hundreds of thousands of objects, all of which stay.

    Looking through them for garbage again and again takes a quarter of a short run's time (dev/LOG.md, "Processes"),
    and once more in every full collection later on. Does nothing where torch is there: what would be set aside then may
    be a model that is to go.
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
        atexit.register(gc.unfreeze)  # else triton says at the end of the interpreter that all of it leaked


def fast_exit(status: int) -> NoReturn:
    """End the process as an interpreter ends, but do not take torch apart: that is a second (dev/LOG.md, "Processes").

    Threads are waited for, exit functions called, open files flushed. What only `__del__` would do is not done; Python
    promises none of it either. What is frozen is not looked at: in a forked process that would copy all of it.
    """
    atexit.unregister(gc.unfreeze)
    threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing waits for them; there is no public way
    atexit._run_exitfuncs()
    files = [thing for thing in gc.get_objects() if issubclass(type(thing), io.IOBase)]
    for layer in (io.TextIOBase, io.IOBase):  # a text goes to its buffer first
        for file in files:
            if isinstance(file, layer):
                with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it any more
                    file.flush()
    os._exit(status & 0xFF)
