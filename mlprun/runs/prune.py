"""Which runs of a folder can go, and their removal. Imports no torch."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlprun.errors import RunError
from mlprun.files import naming_path, open_to_read, rename
from mlprun.runs import sweep_record
from mlprun.runs.collect import read_runs
from mlprun.runs.directory import RunDirectory, remove_empty
from mlprun.runs.record import RunRecord

ENDED = ("failed", "interrupted", "killed")  # `killed`: its record says that it is running, and no process has it
STARTS = ("trainer.weights", "data.text.vocabulary")  # keys that name another run
# What mlprun and Hydra put into the directory of a run. With anything else in it, it may be a folder of the user's.
_OURS = re.compile(
    r"\.hydra|\.lock|\.gitignore|\.[0-9a-f]{32}\.tmp|run\.json|code(-\d+)?\.patch|metrics\.jsonl|(train|output)\.log"
    r"|trace\.json|events\.out\.tfevents\..*|checkpoints|pictures|export|confusion_matrix\.csv"
    r"|(curves|lr_range)\.(png|svg|pdf)"
)
_REMOVED = re.compile(r"\.[0-9a-f]{32}\.removed")  # the name of a run whose removal has begun


@dataclass(frozen=True)
class Candidate:
    """A run that can go; `record.status` is `killed` for one that was killed."""

    path: Path
    record: RunRecord
    num_bytes: int
    age_sec: float  # since it was last written to


def find(folder: Path) -> tuple[list[Candidate], dict[Path, str]]:
    """The failed, interrupted, killed and debug runs below a folder that can go, and why others of them cannot.

    RunError if there is no such folder.
    """
    runs = read_runs(folder)
    used = {start: path for path, record in runs for start in _used(record) if start != path.resolve()}
    candidates, kept = [], {}
    for path, record in runs:
        status = _status_now(path, record)
        if status not in ENDED and not (record.is_debug and status != "running"):
            continue
        if reason := _reason_to_keep(path, record, used):
            kept[path] = reason
            continue
        record = RunRecord({**record, "status": status})
        candidates.append(Candidate(path, record, _size(path), time.time() - (path / "run.json").stat().st_mtime))
    return candidates, kept


def leftovers(folder: Path) -> list[Path]:
    """What is left of runs whose removal was stopped."""
    found = []
    for path, folders, _ in os.walk(folder):
        found += [
            Path(path, name) for name in folders if _REMOVED.fullmatch(name) and not Path(path, name).is_symlink()
        ]
        folders[:] = [name for name in folders if not name.startswith(".") and name != "checkpoints"]
    return found


def remove_run(candidate: Candidate, folder: Path) -> None:
    """Remove a run at once for all who look, then its files, then the folders that were only for it.

    RunError if a process has it, it has changed since it was found, or it cannot be removed.
    """
    path = candidate.path
    with RunDirectory(path).held():
        now = RunDirectory(path).read()
        if now.status != ("running" if candidate.record.status == "killed" else candidate.record.status):
            raise RunError(f"{path} is {now.status} now, and stays")
        removed = path.with_name(f".{uuid.uuid4().hex}.removed")
        with naming_path(path, "removed"):
            rename(path, removed)
    remove_tree(removed)
    remove_empty(parent for parent in path.parents if parent != folder and folder in parent.parents)


def remove_tree(path: Path) -> int:
    """Remove a directory and what is in it, links themselves and not where they lead; the bytes that this freed."""
    size = _size(path)
    with naming_path(path, "removed"):
        shutil.rmtree(path)
    return size


def is_held(directory: Path) -> bool:
    """Whether a process has locked the directory, or may have, where locks do not work. Writes nothing."""
    try:
        with open_to_read(directory / ".lock") as file:
            fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def _status_now(path: Path, record: RunRecord) -> str:
    return "killed" if record.status == "running" and not is_held(path) else record.status


def _reason_to_keep(path: Path, record: RunRecord, used: Mapping[Path, Path]) -> str:
    """Why a run stays; empty if it can go. `used`: resolved run directories that other runs name -> one of these."""
    if not record.has_config:
        return record.error or "its record is damaged"
    if is_held(path) or ((path.parent / sweep_record.FILE_NAME).is_file() and is_held(path.parent)):
        return "a process has it, or its sweep"
    if path.is_symlink():
        return "it is a link"
    inside = path.resolve()
    if inside == Path.cwd() or inside in Path.cwd().parents:
        return "the current folder is in it"
    if foreign := next((name for name in sorted(os.listdir(path)) if not _OURS.fullmatch(name)), None):
        return f"it holds {foreign}, which is not mlprun's"
    if inside in used:
        return f"{used[inside]} began with its weights or vocabulary"
    return ""


def _used(record: RunRecord) -> Iterator[Path]:
    """The resolved paths that may be run directories whose weights or vocabulary a config names."""
    for key in STARTS:
        named: object = record.config if record.has_config else None
        for name in key.split("."):
            named = named.get(name) if isinstance(named, dict) else None
        if isinstance(named, str):
            path = Path(record.folder or "", named).resolve()
            yield from (path, path.parent, path.parent.parent)  # it, or RUN_DIR/checkpoints/best.pt


def _size(path: Path) -> int:
    """Bytes that the files of a directory take on the disk, without those that links lead to."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError:  # a file of another process
                continue
    return total
