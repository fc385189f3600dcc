"""A Ray cluster of real nodes on this machine: one `ray start` each; their processes end with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.helpers.lines import children, wait_until

# Ray's own token would be written to the tester's home; on a busy machine a node takes longer than 30 s to start.
RAY = {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "60"}


class Node:
    """`ray start --block` with all that it starts."""

    def __init__(self, folder: Path, ip: str, *words: str, prefix: tuple[str, ...] = ()) -> None:
        self._output = folder / f"node-{ip}.txt"
        started = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            f"--node-ip-address={ip}",
            "--object-store-memory=100000000",
            *words,
        ]
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [*prefix, *started],
                env={**os.environ, **RAY},
                cwd="/",
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        try:
            wait_until(lambda: "Ray runtime started" in self._output.read_text() or self._process.poll(), 160)
            assert self._process.poll() is None, self._output.read_text()
        except BaseException:
            self.kill()
            raise

    def processes(self) -> list[int]:
        found = [self._process.pid]
        for pid in found:
            with contextlib.suppress(FileNotFoundError):
                found += children(pid)
        return found

    def outputs(self) -> list[Path]:
        """What the jobs on this node print to."""
        files = []
        for pid in self.processes():
            with contextlib.suppress(OSError):
                files.append(Path(f"/proc/{pid}/fd/1").readlink())
        return [file for file in files if file.name == "output.log"]

    def kill(self) -> None:
        """Be a machine that loses its power."""
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()


class Nodes:
    """A head without CPUs, where the sweep is typed, and nodes of one CPU each."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # sockets have short names
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        words = [
            "--head",
            f"--port={port}",
            "--num-cpus=0",
            "--include-dashboard=false",
            f"--temp-dir={self._folder}/t",
        ]
        self._nodes = [Node(self._folder, "127.0.0.1", *words)]

    def add(self, prefix: tuple[str, ...] = ()) -> Node:
        ip = f"127.0.0.{len(self._nodes) + 1}"
        words = [f"--address={self.address}", "--num-cpus=1"]
        try:
            node = Node(self._folder, ip, *words, prefix=prefix)
        except AssertionError:  # on a busy machine a raylet may fail to register
            node = Node(self._folder, ip, *words, prefix=prefix)
        self._nodes.append(node)
        return node

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *_: object) -> None:
        for node in reversed(self._nodes):
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
