"""Standard output and error of any encoding, or none: what is shown there never ends a run."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# What mlprun itself prints beyond ASCII; other characters, of names, become escapes.
_ASCII = {
    "±": "+-", "×": "x", "…": "...", "·": ".", "²": "^2", "µ": "u", "–": "-", "—": "-", "−": "-",
    "→": "->", "←": "<-", "↑": "^", "↓": "v", "≤": "<=", "≥": ">=", "≠": "!=", "≈": "~", "∞": "inf",
    "‘": "'", "’": "'", "“": '"', "”": '"', "✓": "ok", "✗": "x", "█": "#", "░": ".", "─": "-", "│": "|",
}  # fmt: skip


def accept_any_text() -> None:
    """Let stdout and stderr show what their encoding has, and the rest in ASCII; a closed one shows nothing."""
    for number, name in ((0, "stdin"), (1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:  # the next file that is opened must not get its number
            _occupy(number)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115  open until the end
            setattr(sys, name, stream)
        if number and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="mlprun.ascii")


@contextmanager
def any_text_accepted() -> Iterator[None]:
    """As `accept_any_text`, for a block in another's program."""
    before = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    errors = {name: getattr(stream, "errors", None) for name, stream in before.items()}
    accept_any_text()
    try:
        yield
    finally:
        for name, stream in before.items():
            if stream is None:
                setattr(sys, name, None)
            elif isinstance(stream, io.TextIOWrapper) and not stream.closed:
                stream.reconfigure(errors=errors[name])


def _occupy(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    escaped = (_ASCII.get(char) or char.encode("ascii", "backslashreplace").decode() for char in text)
    return "".join(escaped), error.end


codecs.register_error("mlprun.ascii", _in_ascii)
