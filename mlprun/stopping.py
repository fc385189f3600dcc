"""What asks a run to stop, and when it may: never inside an optimizer step or a write.

SIGTERM, Ctrl-C, a terminal that closes (SIGHUP) and `trainer.max_time` ask. The first request ends the work at the
next safe place, by a KeyboardInterrupt that names it; a second Ctrl-C is left to the operating system, so that it ends
the process at once, whatever it is doing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

MAX_TIME = "trainer.max_time"

_asked = ""  # by what: the name of the signal, or MAX_TIME
_limit_reached = False
_depth = 0  # of `deferred` blocks


def install() -> None:
    """Handle the signals from now on, and forget earlier requests. Does nothing outside the main thread."""
    global _asked, _limit_reached, _depth
    _asked, _limit_reached, _depth = "", False, 0
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves SIGHUP
            signal.signal(number, _handle)


def asked() -> str:
    """What asked to stop (`SIGTERM`, `SIGINT`, `SIGHUP`, `trainer.max_time`), or nothing."""
    return _asked


def exit_status(by: str) -> int:
    """130 after Ctrl-C, 143 after SIGTERM or a time limit, 129 after SIGHUP, as a shell has them."""
    return {"SIGINT": 130, "SIGHUP": 129}.get(by, 143)


class _Deferred:
    """A block that a request waits for; may be nested."""

    def __enter__(self) -> None:
        global _depth
        _depth += 1

    def __exit__(self, kind: object, *_: object) -> None:
        global _depth
        _depth -= 1
        if _asked and _depth == 0 and kind is None:
            raise KeyboardInterrupt(_asked)


deferred = _Deferred()  # `with stopping.deferred:`; one object, for it is entered twice a step


@contextmanager
def after(seconds: float | None) -> Iterator[None]:
    """Ask the block to stop after so many seconds; None: never."""
    if seconds is None:
        yield
        return
    main = threading.main_thread().ident

    def ask() -> None:
        global _limit_reached
        _limit_reached = True
        if main is not None:
            signal.pthread_kill(main, signal.SIGTERM)  # a real signal: it wakes the main thread from a wait

    timer = threading.Timer(seconds, ask)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    if _asked:
        return  # a scheduler may send SIGTERM twice; what it asked for is under way
    _asked = MAX_TIME if _limit_reached and number == signal.SIGTERM else signal.Signals(number).name
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if _depth == 0:
        raise KeyboardInterrupt(_asked)
    if number == signal.SIGINT:
        # not print: the signal may have come in the middle of one
        os.write(2, b"\nstopping after this step; Ctrl-C again leaves at once\n")
