"""train.log and the terminal."""

from __future__ import annotations

import io
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import cast

from mlprun.files import naming_path, open_to_read, open_to_write
from mlprun.formatting import printable
from mlprun.process import is_guest
from mlprun.terminal import print_line

log = logging.getLogger("mlprun")


class RunLog:
    """Log to train.log and the terminal while a job runs."""

    def __init__(self, path: Path) -> None:
        self._file = _File(path, encoding="utf-8")
        self._file.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        self._terminal = Terminal(logging.INFO)
        self._loggers = (log, logging.getLogger("py.warnings"))

    def __enter__(self) -> Terminal:
        shown = warnings.showwarning
        logging.captureWarnings(True)
        self._captured = warnings.showwarning is not shown  # else the program had captured them already
        self._before = [(logger.propagate, logger.level) for logger in self._loggers]
        for logger in self._loggers:
            logger.propagate = False
            logger.setLevel(logging.DEBUG)
            logger.addHandler(self._file)
            logger.addHandler(self._terminal)
        return self._terminal

    def __exit__(self, *_: object) -> None:
        if self._captured:
            logging.captureWarnings(False)
        for logger, (propagate, level) in zip(self._loggers, self._before, strict=True):
            logger.removeHandler(self._file)
            logger.removeHandler(self._terminal)
            logger.propagate = propagate
            logger.setLevel(level)
        self._file.close()


class _Printable(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class _File(logging.FileHandler):
    def _open(self) -> io.TextIOWrapper:
        path = Path(self.baseFilename)
        with naming_path(path):
            return cast(io.TextIOWrapper, open_to_write(path, self.mode, self.encoding))


class Terminal(logging.Handler):
    """Prints information to stdout, and warnings and errors to stderr, above a progress bar.

    A record's `shown` replaces its message there, and its `best` is the part to highlight.
    """

    anomaly = ""  # the warning of torch's anomaly detection

    def emit(self, record: logging.LogRecord) -> None:
        if getattr(record, "is_raised", False) and is_guest():  # the exception says it
            return
        text = getattr(record, "shown", record.getMessage())
        if record.name == "py.warnings":
            if "Traceback of forward call" in text:
                self.anomaly = text
                return
            text = f"warning: {_short(text)}"  # train.log has it whole
        stream = sys.stdout if record.levelno < logging.WARNING else sys.stderr
        print_line(text, stream, best=getattr(record, "best", ""))


def _short(warning: str) -> str:
    """The message of `path:line: Category: message`, which a line of source follows."""
    return warning.splitlines()[0].split(": ", 2)[-1]


def read_warnings(path: Path) -> list[str]:
    """The different warnings in a train.log, without times; none if there is no such file."""
    found: list[list[str]] = []
    is_warning = False
    if not path.is_file():
        return []
    with naming_path(path, "read"), open_to_read(path) as file:
        content = file.read()
    if b" WARNING " in content:  # few logs have any
        for line in io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="replace"):
            begins = re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} ([A-Z]+) (.*)", line)
            if begins:
                is_warning = begins[1] == "WARNING"
            if is_warning and begins:
                found.append([begins[2]])
            elif is_warning:
                found[-1].append(line.rstrip("\n"))
    texts = ["\n".join(lines) for lines in found]
    return [*dict.fromkeys(_short(text) if re.match(r".+:\d+: \w+: ", text) else text for text in texts)]
