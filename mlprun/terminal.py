"""What a terminal can show: its width, colour, and lines that are drawn again. Only this file decides it."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from textwrap import wrap
from typing import Any, TextIO

from tqdm import tqdm

from mlprun.formatting import printable
from mlprun.process import without_collections

BEAT_SEC = 30.0  # without a terminal, the longest silence of a training or a sweep
_GREEN, _BEST = "32", "1;32"  # codes of ANSI
# The first words of a line, after a sweep's count: `error: …`, `best    …`, ` 3/12  failed      …`
_LABELS = {"31": "error:|failed |not run ", "33": "warning:|interrupted ", _GREEN: "best  |equal  |completed "}
_COUNT = re.compile(r" *\d+(/\d+)?  (?=\w)")


def is_live(stream: TextIO) -> bool:
    """Whether it is a terminal that can draw a line again, so that a bar, or colour, is of use."""
    # `!mlprun …` in a notebook has a terminal, but what it draws again is printed below
    return stream.isatty() and os.environ.get("TERM") != "dumb" and "JPY_PARENT_PID" not in os.environ


def width(otherwise: int = sys.maxsize) -> int:
    """Columns of the terminal that stdout is; `otherwise` for a file or a pipe."""
    return max(shutil.get_terminal_size((otherwise, 0)).columns, 20) if sys.stdout.isatty() else otherwise


def progress_bar(**how: Any) -> tqdm[Any] | None:
    """A bar on stderr, or in the output of a notebook's cell, with tqdm's arguments; None where it cannot be drawn."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if getattr(shell, "kernel", None) is not None:
        return tqdm(file=_CellOutput(), ncols=100, ascii=False, **how | {"mininterval": 0.5})
    return tqdm(leave=False, dynamic_ncols=True, **how) if is_live(sys.stderr) else None


class _CellOutput(io.StringIO):
    """A file of one line, which is an output of the cell that is running."""

    def __init__(self) -> None:
        from IPython.display import display

        super().__init__()
        self._handle: Any = display({"text/plain": ""}, raw=True, display_id=True)  # type: ignore[no-untyped-call]

    def write(self, text: str) -> int:
        if line := text.strip():
            self._handle.update({"text/plain": line}, raw=True)
        return len(text)


def wrapped(line: str, indent: str) -> list[str]:
    """Prose in the columns of the terminal, the further lines indented. Not for commands, which may be pasted."""
    if len(line) <= (columns := width()):
        return [line]
    return wrap(line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def print_line(text: str, stream: TextIO | None = None, *, best: str = "") -> None:
    """Print a line above a progress bar, its label in colour. A closed pipe (`| head`) or terminal stops no work.

    Args:
        best: the part of the line to highlight.
    """
    stream = stream or sys.stdout
    text = printable(text)
    try:
        tqdm.write(_coloured(text, best) if is_live(stream) and not os.environ.get("NO_COLOR") else text, file=stream)
        if isinstance(stream, io.TextIOWrapper):  # a notebook makes an output of its own of what is flushed
            stream.flush()
    except OSError:  # a pipe without a reader, or a terminal that was closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def stdout_for_json(wanted: bool) -> Iterator[None]:
    """If wanted, what is printed meanwhile goes to stderr, also by the user's own code."""
    with contextlib.redirect_stdout(sys.stderr) if wanted else contextlib.nullcontext():
        yield


def _coloured(text: str, best: str) -> str:
    if best:
        return text.replace(best, f"\x1b[{_BEST}m{best}\x1b[0m", 1)
    start = 0 if (count := _COUNT.match(text)) is None else count.end()
    for code, labels in _LABELS.items():
        if label := re.compile(labels).match(text, start):
            return f"{text[:start]}\x1b[{code}m{label[0]}\x1b[0m{text[label.end() :]}"
    return text


@contextlib.contextmanager
def importing_torch() -> Iterator[None]:
    """Say that torch is imported, which takes seconds, where that can be wiped away again."""
    text = "importing torch …"
    says = "torch" not in sys.modules and is_live(sys.stderr)
    if says:
        print(text, end="\r", file=sys.stderr, flush=True)
    try:
        with without_collections():
            yield
    finally:
        if says:
            print(" " * len(text), end="\r", file=sys.stderr, flush=True)
