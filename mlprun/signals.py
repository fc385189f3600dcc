"""Requests to stop, which never interrupt an optimizer step, a write or an import.

The signals in `REQUESTS` and `trainer.max_time` request a stop. The first request raises `Stop` at the next safe place;
a second Ctrl-C ends the process immediately.
"""

from __future__ import annotations

import _thread
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from mlprun import process

MAX_TIME = "trainer.max_time"
# Clusters send SIGUSR1, SIGUSR2 (`sbatch --signal`) or SIGXCPU (Grid Engine, ulimit -t) before a limit.
REQUESTS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
_WAKE = signal.SIGURG  # carries no request, and is ignored by default

_received: list[signal.Signals] = []
_earlier: dict[int, Callable[[int, FrameType | None], Any]] = {}  # handlers that others had installed
_limit_reached = False
_raised = False  # `Stop` is raised once
_depth = 0  # nesting of `deferred` blocks
_process = os.getpid()
_not_ours: list[multiprocessing.process.BaseProcess] = []  # children of the program that calls mlprun


class Stop(KeyboardInterrupt):
    """Ends the run; `str(stop)` names the request.

    A subclass, because Python ends a process by SIGINT after a plain KeyboardInterrupt has passed through `exec`.
    """


def install() -> None:
    """Install the handlers and forget earlier requests. Installs nothing outside the main thread.

    A signal that is ignored, as nohup sets SIGHUP, stays so; `call_earlier_handlers` calls a handler that was there.
    """
    _forget()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (*REQUESTS, _WAKE):
        earlier = signal.getsignal(number)
        if earlier in (signal.SIG_IGN, _handle):
            continue
        _earlier.pop(number, None)
        if callable(earlier) and earlier is not signal.default_int_handler:
            _earlier[number] = earlier
        signal.signal(number, _handle)


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Install the handlers for a block in another's program, and put back those that were there.

    A request that would have ended the program, such as SIGTERM, ends it after the block.
    """
    in_main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in (*REQUESTS, _WAKE, signal.SIGCHLD)} if in_main else {}
    _not_ours[:] = multiprocessing.active_children()
    install()
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it was installed by C code
                signal.signal(number, handler)
        unanswered = [number for number in _received if before.get(number) is signal.SIG_DFL]
        _forget()
        for number in unanswered:
            os.kill(os.getpid(), number)


def _forget() -> None:
    global _limit_reached, _raised, _depth, _process
    _limit_reached, _raised, _depth, _process = False, False, 0, os.getpid()
    _received.clear()


def call_earlier_handlers() -> None:
    """Call the handlers that others, such as submitit, had installed for the signals received; they may exit."""
    for number in _received:
        if number in _earlier:
            _earlier[number](number, None)


def stop_requested_by() -> str:
    """`SIGTERM`, another name in `REQUESTS`, `trainer.max_time`, or an empty string."""
    return _received[0].name if _received else MAX_TIME if _limit_reached else ""


def exit_status(by: str) -> int:
    """128 and the signal's number, as in a shell; after a time limit, that of SIGTERM."""
    return 128 + (signal.SIGTERM if by == MAX_TIME else signal.Signals[by])


def ignore_dead_workers() -> None:
    """Remove torch's handler of SIGCHLD, which raises in the main thread when a worker has died.

    Raised while `logging` holds a lock or in `_handle`, it would lose a request to stop. A DataLoader notices a dead
    worker anyway.
    """
    if threading.current_thread() is threading.main_thread():
        # not SIG_DFL: Python would report a signal that is already pending
        signal.signal(signal.SIGCHLD, lambda *_: None)


def end_workers() -> None:
    """Kill the DataLoader workers: a DataLoader waits five seconds for each busy one."""
    workers = [child for child in multiprocessing.active_children() if child not in _not_ours]
    if workers:  # including those of user code
        ignore_dead_workers()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()


def disarm() -> None:
    """Ignore later requests, because the work is done."""
    global _raised
    _raised = True


class _Deferred:
    """A block that a request does not interrupt; may be nested."""

    def __init__(self, *, raises: bool) -> None:
        self._raises = raises

    def __enter__(self) -> None:
        global _depth
        _depth += 1

    def __exit__(self, kind: object, *_: object) -> None:
        global _depth, _raised
        _depth -= 1
        if _depth or not (by := stop_requested_by()):
            return
        if not self._raises:
            _wake_soon()
        elif kind is None:
            _raised = True
            raise Stop(by)


deferred = _Deferred(raises=True)  # `with signals.deferred:`; entered twice per step, so one object
finalizing = _Deferred(raises=False)  # where an exception would be lost: `Stop` is raised shortly after the block


@contextlib.contextmanager
def after(seconds: float | None) -> Iterator[None]:
    """Request a stop after so many seconds; None: never. No request remains after the block."""
    global _limit_reached, _raised
    if seconds is None:
        yield
        return
    in_main = threading.current_thread() is threading.main_thread()

    def ask() -> None:
        global _limit_reached
        _limit_reached = True
        if in_main:
            _wake()

    timer = threading.Timer(seconds, ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
    _limit_reached = _raised = False


def _wake(delay: float = 0.0) -> None:
    """Make the main thread check for a request, even while it waits."""
    time.sleep(delay)
    if (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, _WAKE)


def _wake_soon() -> None:
    _thread.start_new_thread(_wake, (0.05,))  # `threading` has locks that the main thread may hold


def _handle(number: int, frame: FrameType | None) -> None:
    global _raised
    if os.getpid() != _process:  # a forked process, such as a DataLoader worker
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    if number != _WAKE:
        if number not in _received:  # a scheduler may send SIGTERM twice
            _received.append(signal.Signals(number))
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler if process.is_guest() else signal.SIG_DFL)
        if number == signal.SIGHUP:
            _leave_terminal()
    if _depth == 0 and not _raised and (by := stop_requested_by()):
        if not _is_uninterruptible(frame):
            _raised = True
            raise Stop(by)
        _wake_soon()
    if number == signal.SIGINT:
        # not print, which the signal may have interrupted
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping as soon as it is safe; Ctrl-C again quits immediately\n")


def _leave_terminal() -> None:
    """Redirect output to /dev/null: writing to a closed terminal is an error."""
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(number):
                os.dup2(null, number)
    os.close(null)


# Interrupted in these functions of a library, a lock would stay locked, or torch's gradient mode changed.
_UNINTERRUPTIBLE = frozenset(("__enter__", "__exit__", "acquire", "release"))
_LIBRARIES = sys.stdlib_module_names | {"torch", "mlprun"}


def _is_uninterruptible(frame: FrameType | None) -> bool:
    """Whether the running code cannot be interrupted: an `_UNINTERRUPTIBLE` function, a destructor or an import.

    An exception in a destructor is lost, and a half-imported module cannot be imported by a sweep's next job.
    """
    in_library = True
    while frame is not None:
        code = frame.f_code
        in_library = in_library and str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES
        if in_library and code.co_name in _UNINTERRUPTIBLE:
            return True
        if code.co_name == "__del__" or code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
