"""Lines as processes of their own that share one import of torch, so that tests can start and kill many of them."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import pytest

CONTEXT = multiprocessing.get_context("forkserver")
# A line as a shell starts it imports these for three seconds; some tests have it so: `mlprun_shell`.
CONTEXT.set_forkserver_preload(["tests.helpers.preload", __name__])
# No test loses power: none waits for a disk, 45 times a run. What `mlprun_shell` starts does.
os.fsync = lambda descriptor: None
IN_PROC = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds processes through /proc")


@dataclass(frozen=True)
class Result:
    """What a line did.

    Attributes:
        status: exit status.
        out, err: what it printed.
        folder: where it was typed.
    """

    status: int
    out: str
    err: str
    folder: Path

    @property
    def runs(self) -> list[Path]:
        """The run directories below the folder, by name."""
        return sorted(file.parent for file in self.folder.glob("outputs/**/run.json"))

    def record(self) -> dict:
        """run.json of the only run."""
        from tests.helpers.runs import record_of  # late: whoever runs lines need not import torch

        (run,) = self.runs
        return record_of(run)


def enter(folder: str, output: str, errors: str, environment: dict[str, str]) -> None:
    """Be a process that a shell has started in this folder."""
    os.setsid()  # a group of its own, as a shell gives it
    multiprocessing.set_start_method("fork", force=True)  # for its own workers, as in any process
    os.environ.update(environment)
    os.chdir(folder)
    for number, file in ((1, output), (2, errors)):  # where they are one, what is printed keeps its order
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)


def run_line(words: list[str], *where) -> None:
    """What the process of a `Line` does."""
    enter(*where)
    run_main(words)


def run_main(words: list[str]) -> None:
    """Run a line in this process, which ends with it."""
    sys.argv = ["mlprun", *words]
    from mlprun.cli import main
    from mlprun.sweep import pool
    from tests.helpers.servers import ForkedServer

    pool.Server = ForkedServer
    main.main()


class Line:
    """`with Line(folder, "seed=1") as line: line.kill()`: a line that runs beside the test.

    Attributes:
        pid: of the process.
    """

    target = staticmethod(run_line)

    def __init__(self, folder: Path, *words: str, split: bool = False, **environment: str) -> None:
        self._output = self.new_output(folder)
        self._errors = self._output.with_suffix(".err") if split else self._output
        arguments = ([*words], str(folder), str(self._output), str(self._errors), environment)
        self._process = CONTEXT.Process(target=self.target, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    def new_output(self, folder: Path) -> Path:
        """The file that it prints to."""
        return folder / f"output-{random.randrange(10**9)}.txt"

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    def __enter__(self) -> Line:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.join()

    def signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def wait(self, timeout: float = 120) -> int:
        """The exit status; negative for a signal."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s:\n{self.output}"
        return self._process.exitcode

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self._output.read_text() if self._output.exists() else ""

    @property
    def errors(self) -> str:
        """What it has printed to stderr, if that was split off."""
        return self._errors.read_text() if self._errors.exists() else ""


def _run_code(words: list[str], *where) -> None:
    code, *sys.argv[1:] = words
    enter(*where)
    exec(code, {"__name__": "__main__"})


class Code(Line):
    """A program as `python -c` gets it, in a process that has imported torch already."""

    target = staticmethod(_run_code)


def wait_until(condition, timeout: float = 60) -> None:
    """Return when `condition()` is true."""
    limit = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < limit, "it did not come to pass"
        time.sleep(0.005)


def finish(folder: Path, *words: str) -> str:
    """Run a line to its end; what it printed."""
    with Line(folder, *words) as line:
        assert line.wait() == 0, line.output
        return line.output


def run_code(folder: Path, code: str, *arguments: str) -> Result:
    """What a program did, in a process of its own that has imported torch already."""
    with Code(folder, code, *arguments, split=True) as process:
        return Result(process.wait(), process.output, process.errors, folder)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    return status.exists() and "State:\tZ" not in status.read_text()
