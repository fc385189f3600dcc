"""What asks a run to stop, and when it may: never inside an optimizer step, a write or an import.

SIGTERM, Ctrl-C, a terminal that closes (SIGHUP) and `trainer.max_time` ask. The first request ends the work at the
next safe place, by a `Stop` that names it; a second Ctrl-C is left to the operating system, so that it ends the
process at once, whatever it is doing.
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
from collections.abc import Iterator
from types import FrameType

MAX_TIME = "trainer.max_time"
_WAKE = signal.SIGURG  # carries no request, and is harmless where nobody handles it

_signal = ""  # the first that came
_limit_reached = False
_raised = False  # by `_handle`, which does so once
_depth = 0  # of `deferred` blocks
_process = os.getpid()


class Stop(KeyboardInterrupt):
    """The work ends here; `str(stop)` says what asked for it.

    After a plain KeyboardInterrupt that has passed through an `exec` or `eval`, be it caught or not, Python ends the
    process by SIGINT.
    """


def install() -> None:
    """Handle the signals from now on, and forget earlier requests. Does nothing outside the main thread."""
    global _signal, _limit_reached, _raised, _depth, _process
    _signal, _limit_reached, _raised, _depth, _process = "", False, False, 0, os.getpid()
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, _WAKE):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, _handle)


def stop_requested_by() -> str:
    """What asked to stop (`SIGTERM`, `SIGINT`, `SIGHUP`, `trainer.max_time`), or nothing."""
    return _signal or (MAX_TIME if _limit_reached else "")


def exit_status(by: str) -> int:
    """130 after Ctrl-C, 143 after SIGTERM or a time limit, 129 after SIGHUP, as a shell has them."""
    return {"SIGINT": 130, "SIGHUP": 129}.get(by, 143)


def ignore_dead_workers() -> None:
    """Take out torch's handler of SIGCHLD, which raises wherever the main thread is when a worker has died.

    In a lock of `logging` or in `_handle` that would lose a request to stop. Whoever waits for a worker's batch looks
    after it in any case.
    """
    if threading.current_thread() is threading.main_thread():
        # not SIG_DFL: Python would tell of one on its way
        signal.signal(signal.SIGCHLD, lambda *_: None)


def end_workers() -> None:
    """Kill the processes that read data for this one: a DataLoader waits five seconds for each that is busy."""
    workers = multiprocessing.active_children()
    if workers:  # users' own too
        ignore_dead_workers()
    for worker in workers:
        worker.kill()
    for worker in workers:
        worker.join()


def disarm() -> None:
    """Nothing is left to stop: what still asks is too late."""
    global _raised
    _raised = True


class _Deferred:
    """A block that a request waits for; may be nested."""

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


deferred = _Deferred(raises=True)  # `with signals.deferred:`; one object, for it is entered twice a step
finalizing = _Deferred(raises=False)  # the same where an exception would be lost: `Stop` comes right after


@contextlib.contextmanager
def after(seconds: float | None) -> Iterator[None]:
    """Ask the block to stop after so many seconds; None: never. A block that ends by itself leaves no request."""
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
        timer.join()  # it has asked, or never will
    _limit_reached = _raised = False


def _wake(delay: float = 0.0) -> None:
    """Let the main thread look for a request, also from within a wait."""
    time.sleep(delay)
    if (main := threading.main_thread().ident) is not None:
        signal.pthread_kill(main, _WAKE)


def _wake_soon() -> None:
    _thread.start_new_thread(_wake, (0.05,))  # not threading's, whose locks the main thread may hold


def _handle(number: int, frame: FrameType | None) -> None:
    global _signal, _raised
    if os.getpid() != _process:  # forked from it, a worker perhaps: no run to save here
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    if number != _WAKE:
        if not _signal:  # a scheduler may send SIGTERM twice; what it asked for is under way
            _signal = signal.Signals(number).name
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        if number == signal.SIGHUP:
            _leave_terminal()
    if _depth == 0 and not _raised and (by := stop_requested_by()):
        if not _must_go_on(frame):
            _raised = True
            raise Stop(by)
        _wake_soon()
    if number == signal.SIGINT:
        # not print: the signal may have come in the middle of one
        with contextlib.suppress(OSError):
            os.write(2, b"\nstopping as soon as it is safe; Ctrl-C again leaves at once\n")


def _leave_terminal() -> None:
    """What a run shows from now on, its bar too, would be an error of the system's."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):
            if os.isatty(number):
                os.dup2(nowhere, number)
    os.close(nowhere)


# Broken off there, a lock would stay locked, or torch's gradient mode as it was set for a block. In users' code these
# are names like any other.
_WHOLE = frozenset(("__enter__", "__exit__", "acquire", "release"))
_LIBRARIES = sys.stdlib_module_names | {"torch", "mlprun"}


def _must_go_on(frame: FrameType | None) -> bool:
    """Whether what runs cannot be broken off: `_WHOLE` of a library, a destructor, an import.

    What a destructor raises is lost, and a sweep's next job could not import anew what was imported by half.
    """
    in_library = True
    while frame is not None:
        code = frame.f_code
        in_library = in_library and str(frame.f_globals.get("__name__")).partition(".")[0] in _LIBRARIES
        if in_library and code.co_name in _WHOLE:
            return True
        if code.co_name == "__del__" or code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
