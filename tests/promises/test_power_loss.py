"""What a power loss leaves: of a run, at any moment, the old state or the new one."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from mlprun.runs.checkpoint import Checkpointer
from tests.helpers.runs import assert_identical, record_of, rows_of

RUN = (
    *("data=digits", "model=linear", "epochs=3", "logging.every=10 steps", "hydra.run.dir=run"),
    *("checkpoint.keep=2", "checkpoint.keep_best=2", "eval_every=25 steps"),
)


class Disk(logging.Handler):
    """A disk that keeps what was synced alone: of a file its bytes, of a folder its names.

    It notes each rename, and fails where something is logged while a rename is not on disk yet.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.bytes: dict[int, bytes] = {}  # by inode
        self.names: dict[str, dict[str, int]] = {}  # by folder
        self.states: list[tuple[dict[int, bytes], dict[str, dict[str, int]]]] = []
        self.renamed: list[str] = []
        self._unsynced: dict[str, str] = {}  # what was renamed, by folder
        self._open: list[int] = []  # else an inode could be used again
        self._fsync, self._replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", self.fsync)
        for name in ("replace", "rename"):
            monkeypatch.setattr(os, name, self.replace)
        monkeypatch.setattr(logging.getLogger("mlprun"), "handlers", [self, *logging.getLogger("mlprun").handlers])

    def fsync(self, file: int | IO[bytes]) -> None:
        descriptor = file if isinstance(file, int) else file.fileno()
        self._fsync(descriptor)
        path, about = os.readlink(f"/proc/self/fd/{descriptor}"), os.fstat(descriptor)
        if stat.S_ISDIR(about.st_mode):
            self.names[path] = {entry.name: entry.inode() for entry in os.scandir(path)}
            self._unsynced.pop(path, None)
        else:
            self._open.append(os.dup(descriptor))
            self.bytes[about.st_ino] = Path(path).read_bytes()
        self.states.append((dict(self.bytes), {folder: dict(names) for folder, names in self.names.items()}))

    def replace(self, old: str | Path, new: str | Path) -> None:
        content, inode = Path(old).read_bytes(), os.stat(old).st_ino
        assert self.bytes.get(inode) == content, f"{new} gets content that is not on disk"
        self._replace(old, new)
        self.renamed.append(Path(new).name)
        self._unsynced[os.path.realpath(os.path.dirname(new))] = str(new)

    def emit(self, record: logging.LogRecord) -> None:
        assert not self._unsynced, f"{record.getMessage()!r} before {self._unsynced} is on disk"

    def close(self) -> None:
        super().close()
        for descriptor in self._open:
            os.close(descriptor)

    def restored(self, state: int, folder: Path, to: Path) -> Path:
        """Write to `to` what of `folder` the disk had in this state."""
        contents, names = self.states[state]
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for name, inode in names.get(str(folder), {}).items():
            if (folder / name).is_dir():
                self.restored(state, folder / name, to / name)
            else:
                (to / name).write_bytes(contents.get(inode, b""))
                self.bytes[(to / name).stat().st_ino] = contents.get(inode, b"")  # a resume may rename it
        return to


@pytest.fixture
def disk(monkeypatch) -> Iterator[Disk]:
    with contextlib.closing(Disk(monkeypatch)) as disk:
        yield disk


def test_each_file_is_on_disk_before_its_name_and_its_name_before_it_is_announced(disk, mlprun, tmp_path):
    assert mlprun(*RUN).status == 0
    assert {"run.json", "last.pt", "best.pt", "step_123.pt", "confusion_matrix.csv"} <= set(disk.renamed)
    with open("run/checkpoints/last.pt", "wb", buffering=0) as last:
        last.write(b"damaged")
        os.fsync(last)
    assert mlprun("resume", "run", "epochs=4").status == 0
    assert "last.pt.damaged" in disk.renamed
    grid = mlprun("-m", "data=digits", "model=linear", "epochs=1", "seed=0,1", "hydra/launcher=basic", "sweep.name=s")
    assert grid.status == 0
    assert {"sweep.json", "leaderboard.csv"} <= set(disk.renamed)


def test_whenever_the_power_fails_there_is_a_state_to_go_on_from(disk, mlprun, tmp_path, caplog):
    assert mlprun(*RUN).status == 0
    whole, rows = tmp_path / "run", rows_of(tmp_path / "run")
    steps = set()
    for number in range(len(disk.states)):
        run = disk.restored(number, whole, tmp_path / "lost")
        if not (run / "run.json").exists():
            continue
        status = json.loads((run / "run.json").read_bytes())["status"]
        recovered = Checkpointer(run / "checkpoints").recover()
        assert not caplog.records, "nothing is damaged"
        step = recovered.state.step if recovered else 0
        steps.add(step)
        kept = rows_of(run) if step else []
        assert [row for row in kept if row["step"] <= step] == [row for row in rows if row["step"] <= step]
        if status == "completed":
            assert record_of(run) == record_of(whole)
            assert_identical(run, whole)
    assert steps == {0, 25, 41, 50, 75, 82, 100, 123}


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_what_the_disk_kept_is_resumed_to_the_same_bits(disk, mlprun, tmp_path, share):
    assert mlprun(*RUN).status == 0
    run = disk.restored(int(share * len(disk.states)), tmp_path / "run", tmp_path / "lost")
    assert mlprun("resume", "lost").status == 0
    assert_identical(run, tmp_path / "run")
