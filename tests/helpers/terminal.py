"""Lines in a terminal of a given size, and what they sent to it."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import termios
from pathlib import Path

from tests.helpers.lines import Line

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class TerminalLine(Line):
    """A line whose stdout and stderr are a terminal, named by its path."""

    def __init__(self, folder: Path, *words: str, terminal: str, **environment: str) -> None:
        self.terminal = Path(terminal)
        super().__init__(folder, *words, **environment)

    def new_output(self, folder: Path) -> Path:
        return self.terminal


def in_terminal(folder: Path, *words: str, columns: int = 80, rows: int = 24, **environment: str) -> tuple[int, str]:
    """The exit status of a line, and all that it sent to a terminal of this size, escape sequences too."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    sent = b""
    try:
        with TerminalLine(folder, *words, terminal=os.ttyname(its), **{"TERM": "xterm", **environment}) as line:
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
