"""What mlprun does in another's program: a notebook, a script, a test."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mlprun import process, signals
from mlprun.config.hydra_private import globals_restored
from mlprun.config.own_modules import own_modules_found
from mlprun.errors import RunError
from mlprun.runs import provenance
from mlprun.streams import any_text_accepted
from mlprun.terminal import print_line

_used: dict[str, tuple[str, object]] = {}  # files of the user's modules: their hash, and the module's spec
_lock = threading.RLock()  # torch has one number of threads and one generator for the whole process


@contextmanager
def guest() -> Iterator[None]:
    """Set up what a job needs in the process, and put back afterwards what was there. One at a time.

    Raises:
        RunError: a run is going on in the process.
        KeyboardInterrupt: Ctrl-C; what was running is saved.
    """
    if process.is_guest() or not _lock.acquire(blocking=False):
        remedy = "wait for it, use mlprun.run_sweep for several at a time, or start another process"
        raise RunError(f"this process is busy with another run\n  {remedy}")
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        with ExitStack() as stack:
            for block in (process.guest, signals.installed, any_text_accepted, own_modules_found, globals_restored):
                stack.enter_context(block())
            yield
    except signals.Stop as stop:  # the run is saved; Python takes no subclass for Ctrl-C
        raise KeyboardInterrupt(*stop.args) from None
    finally:
        root.handlers[:] = handlers  # hydra/job_logging=… may have changed them
        root.setLevel(level)
        _lock.release()


@contextmanager
def edits_told() -> Iterator[None]:
    """Warn of modules that were edited after an earlier run: Python goes on with the code as it was imported."""
    for file, sha256, spec in provenance.imported(Path.cwd()):
        before, its_spec = _used.get(file, (sha256, spec))
        if its_spec is not spec:  # it was reloaded
            del _used[file]
        elif before != sha256:
            problem = f"{os.path.relpath(file)} was edited, and this process uses the code of before"
            print_line(f"warning: {problem}\n  importlib.reload it, or restart the process", sys.stderr)
    yield
    for file, sha256, spec in provenance.imported(Path.cwd()):
        _used.setdefault(file, (sha256, spec))


@contextmanager
def alone() -> Iterator[None]:
    """Wait until no run is going on in another thread of the process, and keep others from starting one."""
    with _lock:
        if process.is_guest():  # called by the user's own code in a run
            yield
            return
        with any_text_accepted(), own_modules_found():
            yield
