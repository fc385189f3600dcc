"""The process that starts a sweep's jobs, forked from a line that has imported torch: 4 s of CPU less a line.

A sweep in the test's own process, in `mlprun_shell` and in the tests of the pool has the real one.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing.connection import Pipe
from typing import NoReturn

from mlprun import signals
from mlprun.sweep.forkserver import Server
from mlprun.sweep.job_server import serve


class Forked:
    """What a `Server` uses of a `Popen`."""

    def __init__(self, pid: int) -> None:
        self.pid, self._status = pid, None

    def poll(self) -> int | None:
        if self._status is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if ended else None
        return self._status

    def wait(self, timeout: float = 60) -> int:
        limit = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > limit:
                raise subprocess.TimeoutExpired("the server", timeout)
            time.sleep(0.005)
        return self._status

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class ForkedServer(Server):
    def __init__(self, modules: tuple[str, ...]) -> None:
        self.modules, self._is_ready = modules, False
        self.connection, server_end = Pipe()
        with server_end, signals.deferred:
            pid = os.fork()
            if pid == 0:
                self._begin(server_end.fileno())
            self.process = Forked(pid)

    def _begin(self, descriptor: int) -> NoReturn:
        try:
            self.connection.close()
            os.setsid()
            for number in signals.REQUESTS:
                signal.signal(number, signal.SIG_DFL)
            sys.argv = ["", str(descriptor), *self.modules]
            serve()
        finally:
            os._exit(1)
