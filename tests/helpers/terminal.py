"""Lines in a terminal of a given size, and what they sent to it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import sys
import termios
from pathlib import Path

from tests.helpers.lines import Line, enter, run_main

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_in_terminal(words: list[str], *where) -> None:
    """What the process of a `TerminalLine` does: its streams are made anew, those of its parent are of files."""
    enter(*where)
    for number, name in ((1, "stdout"), (2, "stderr")):
        encoding = os.environ.get("PYTHONIOENCODING", "utf-8")
        setattr(sys, name, open(number, "w", encoding=encoding, buffering=1, closefd=False))  # noqa: SIM115  until the end
    run_main(words)


class TerminalLine(Line):
    """A line whose stdout and stderr are a terminal, named by its path."""

    target = staticmethod(run_in_terminal)

    def __init__(self, folder: Path, *words: str, terminal: str, **environment: str) -> None:
        self.terminal = Path(terminal)
        super().__init__(folder, *words, **environment)

    def new_output(self, folder: Path) -> Path:
        return self.terminal


def in_terminal(folder: Path, *words: str, columns: int = 80, rows: int = 24, **environment: str) -> tuple[int, str]:
    """The exit status of a line, and all that it sent to a terminal of this size, escape sequences too."""
    environment = {"TERM": "xterm", "NO_COLOR": "", "COLUMNS": ""} | environment
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    sent = b""
    try:
        with TerminalLine(folder, *words, terminal=os.ttyname(its), **environment) as line:
            while line.is_alive or select.select([ours], [], [], 0)[0]:
                if select.select([ours], [], [], 0.05)[0]:
                    sent += os.read(ours, 1 << 16)
            return line.wait(), sent.decode()
    finally:
        os.close(ours)
        os.close(its)


def lines_of(sent: str) -> list[str]:
    """The lines that stay on the screen: what a carriage return overwrites with as much or blanks is gone."""
    lines = ESCAPE.sub("", sent).replace("\r\n", "\n").split("\n")
    return [line.rpartition("\r")[2].rstrip() for line in lines]
