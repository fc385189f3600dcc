"""A run's directory: its layout, its lock, and the life of its `run.json`."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import platform
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.files import naming_path, open_to_write, sync_folder
from mlprun.runs import metrics, provenance
from mlprun.runs.record import RunRecord, cannot_write, read_record, write_record

log = logging.getLogger("mlprun")
_IGNORE_ALL = b"*\n"


def claim(pattern: str) -> Path:
    """Make a new directory `pattern_XXXX`, which git ignores; RunError if that fails.

    mkdir fails if the directory exists, also on a network file system, so two runs started in the same second never
    get the same one.
    """
    try:
        make(Path(pattern).parent, ignored=True)
        while True:
            path = Path(f"{pattern}_{secrets.token_hex(2)}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            except FileNotFoundError:  # another process has just removed it, as `remove` does
                make(path.parent, ignored=True)
                continue
            sync_folder(path.parent)
            _keep_out_of_git(path)
            return path
    except OSError as error:
        raise cannot_write(Path(pattern).parent, error) from error


def make(path: Path, *, ignored: bool = False) -> None:
    """Make the directory `path` unless it exists, for git to see or `ignored`; RunError if that fails."""
    try:
        new = [folder for folder in (path, *path.parents) if not folder.exists()]
        path.mkdir(parents=True, exist_ok=True)
        for folder in new:
            sync_folder(folder.parent)
    except OSError as error:
        raise cannot_write(path, error) from error
    if new and ignored:
        _keep_out_of_git(new[-1])


def remove(path: Path, made: Sequence[Path]) -> None:
    """Remove a directory and, innermost first, the folders that were `made` for it and hold nothing else."""
    shutil.rmtree(path)
    remove_empty(made)


def remove_empty(folders: Iterable[Path]) -> None:
    """Remove those of the folders, innermost first, that hold nothing but what `claim` put there."""
    for folder in folders:
        with contextlib.suppress(OSError):
            ignore = folder / ".gitignore"
            if list(folder.iterdir()) == [ignore] and ignore.read_bytes() == _IGNORE_ALL:
                ignore.unlink()
            folder.rmdir()


def _keep_out_of_git(new: Path) -> None:
    """Let git ignore a folder that was just made: otherwise every run would make the repository dirty for the next."""
    for folder in new.parents:
        with contextlib.suppress(OSError):
            if (folder / ".gitignore").read_bytes() == _IGNORE_ALL:
                return
    ignore = new / ".gitignore"
    with naming_path(ignore), open_to_write(ignore, "wb") as file:
        file.write(_IGNORE_ALL)


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.record_file = path / "run.json"
        self.log_file = path / "train.log"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.pictures = path / "pictures"
        self._record = RunRecord()
        self._started, self._earlier_sec = time.monotonic(), 0.0

    @property
    def is_open(self) -> bool:
        """Whether this process has started the record and not closed it."""
        return self._record.status == "running"

    @property
    def record(self) -> RunRecord:
        """What this process has recorded."""
        return RunRecord(self._record)

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pt"

    def read(self) -> RunRecord:
        """Read `run.json`; RunError if it is missing or damaged."""
        if not self.record_file.exists():
            raise RunError(
                f"{self.path} is not a run: it has no run.json"
                "\n  name a run directory, such as outputs/2026-11-21/10-33-12_digits_mlp_adam_3f2a"
            )
        return read_record(self.record_file)

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the run against other processes during the block; RunError if another has it.

        The operating system keeps the lock (POSIX, also on NFS): it is released when the process ends, and DataLoader
        workers do not inherit it.
        """
        make(self.path)
        lock_file = self.path / ".lock"
        try:
            file = open_to_write(lock_file, "a+", "utf-8")
        except OSError as error:
            raise cannot_write(lock_file if os.path.lexists(lock_file) else self.path, error) from error
        with file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EAGAIN):
                    file.seek(0)
                    holder = file.read().strip() or "another process has it"
                    raise RunError(f"{self.path} is in use: {holder}\n  wait for it, or stop it first") from error
                log.warning("%s: no lock (%s): make sure that no two processes use this run", self.path, error.strerror)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()} has held it since {now_utc()}\n")
            file.flush()
            yield

    def start(self, config: dict[str, Any], command: str, overrides: list[str], **values: Any) -> None:
        """Write the record of a new run, with status `running`; RunError if that fails."""
        make(self.path)
        self._record.is_own = True
        self.update(
            status="running",
            command=command,
            overrides=overrides,
            folder=str(Path.cwd()),
            config=config,
            seed=config["seed"],
            started_at=now_utc(),
            **values,
        )
        sweep = provenance.came_together(self.path)
        theirs = None if sweep == self.path else sweep
        self.update(**provenance.collect(Path.cwd(), self.path / "code.patch", theirs))

    def reopen(self, record: RunRecord) -> RunRecord:
        """Continue the run of `record`, with status `running`; return the record with the current code and machine.

        The stored record keeps the original code and machine. If the uncommitted changes differ now, they go to
        `code-N.patch`.
        """
        self._record = RunRecord(record)
        self._record.is_own = record.is_own  # a stranger's run stays a stranger's
        self._earlier_sec = record.elapsed_sec or 0.0
        own = [folder for folder in (self.path, self.pictures) if folder == self.path or not folder.is_symlink()]
        for leftover in (file for folder in own for file in folder.glob(".*.tmp")):
            leftover.unlink()
        number = 1 + len(record.resumed)
        first = "git" not in record  # killed before that was recorded
        patch = self.path / ("code.patch" if first else f"code-{number}.patch")
        theirs = None if record.is_own else provenance.came_together(self.path)
        now = RunRecord(provenance.collect(Path.cwd(), patch, theirs))
        if not first and now.git.get("changes") == record.git.get("changes"):
            patch.unlink(missing_ok=True)
        for ended in ("ended_at", "error", "traceback", "stopped_by", "metrics_sha256", "best_sha256"):
            self._record.pop(ended, None)
        self.update(**{"status": "running", **{key: value for key, value in now.items() if key not in record}})
        return RunRecord({**self._record, **now})

    def put_back(self, record: RunRecord) -> None:
        """Undo `reopen`: the run cannot be resumed as requested."""
        write_record(self.record_file, record)

    def update(self, **values: Any) -> None:
        self._record.update(values)
        write_record(self.record_file, self._record)

    def finish(self, status: str, **values: Any) -> None:
        """Close the record: `completed`, `failed` or `interrupted`."""
        elapsed = self._earlier_sec + time.monotonic() - self._started
        if self.metrics_file.exists():
            values["metrics_sha256"] = metrics.sum_of(self.metrics_file)
        self.update(status=status, ended_at=now_utc(), elapsed_sec=round(elapsed, 3), **values)


def now_utc() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
