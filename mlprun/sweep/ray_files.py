"""The files of a run on a node without the sweep's folder: sent there, and back at each checkpoint and at the end."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mlprun.files import atomic_write
from mlprun.runs.directory import RunDirectory, make
from mlprun.runs.record import write_record
from mlprun.runs.repository import git_state

RECORD = "run.json"
Stamps = dict[str, tuple[int, int]]  # name of a file -> time of its last change, size


def stamps(path: Path) -> Stamps:
    """The files of a run, without its lock and those that are being written."""
    found = {}
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if name != ".lock" and not name.endswith(".tmp") and file.is_file():
            status = file.stat()
            found[name] = status.st_mtime_ns, status.st_size
    return found


def read_files(path: Path) -> dict[str, bytes]:
    """All files of a run; none if it has not begun."""
    return {name: (path / name).read_bytes() for name in stamps(path)} if (path / RECORD).exists() else {}


def write_files(path: Path, files: dict[str, bytes]) -> None:
    """Write files of a run; the record is signed anew, by who writes it here.

    Rows come before the checkpoints that they belong to, and the record comes last: whenever this stops, the run can be
    resumed.
    """
    make(path)
    for name in sorted(files, key=lambda name: (name == RECORD, name.startswith("checkpoints/"))):
        target = path / name
        if not target.resolve().is_relative_to(path.resolve()):
            raise ValueError(f"{name} is outside the run")
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target) as file:
            file.write(files[name])
    if RECORD in files:
        own(path)


def own(path: Path, **values: Any) -> None:
    """Sign the record of a run, which this user's own job has written, with the key of this machine."""
    directory = RunDirectory(path)
    record = directory.read()
    record.update(values)
    record.is_own = True
    write_record(directory.record_file, record)


class Copy:
    """Sends what has changed in the run's directory to the sweep's folder.

    Args:
        folder: the actor `Folder`, on the machine that started the sweep.
    """

    def __init__(self, path: Path, folder: Any) -> None:
        self._path, self._folder = path, folder
        self._sent = stamps(path)

    def send_checkpoint(self) -> None:
        """Send all that has changed if a checkpoint has."""
        now = stamps(self._path)
        if _checkpoints(now) != _checkpoints(self._sent):
            self.send(now)

    def send(self, now: Stamps | None = None) -> None:
        import ray

        now = now or stamps(self._path)
        changed = sorted((name for name in now if now[name] != self._sent.get(name)), key=_is_checkpoint, reverse=True)
        try:
            files = {name: (self._path / name).read_bytes() for name in changed}
        except FileNotFoundError:  # a checkpoint that is not kept
            return
        if _checkpoints(stamps(self._path)) != _checkpoints(
            now
        ):  # another one came meanwhile: it is sent at the next call
            return
        ray.get(self._folder.write.remote(self._path, files, [*now]))
        self._sent = now


def _is_checkpoint(name: str) -> bool:
    return name.startswith("checkpoints/")


def _checkpoints(files: Stamps) -> Stamps:
    return {name: stamp for name, stamp in files.items() if _is_checkpoint(name)}


class Folder:
    """The actor that writes what nodes without the sweep's folder send, on the machine that started the sweep."""

    def __init__(self, directory: str, environment: dict[str, str]) -> None:
        os.chdir(directory)
        os.environ.update(environment)  # where the key for signatures is

    def write(self, path: Path, files: dict[str, bytes], names: list[str]) -> None:
        """Write the files of a run; those that are not in `names` are gone on the node, and are removed."""
        for name in stamps(path).keys() - set(names):
            (path / name).unlink()
        write_files(path, files)
        if RECORD in files:
            own(path, folder=os.getcwd(), git=git_state(Path.cwd(), path / "code.patch"))
