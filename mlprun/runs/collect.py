"""All runs below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord

Run = tuple[Path, RunRecord]  # a run's directory and its record


def read_runs(folder: Path) -> list[Run]:
    """(directory, record) of `folder` itself, if it is a run, and of every run at any depth below it, by name.

    A run.json that is damaged hides no other: its record is `{"status": "failed", "error": …}`, without a config.
    All others have a status and a config with what ranking needs.

    Args:
        folder: hidden folders and those of checkpoints are not looked into, symbolic links not followed.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder\n  name one that holds runs, such as outputs")
    directories: list[Path] = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "checkpoints"]
        if "run.json" in files:
            directories.append(Path(path))
    return sort_by_name((path, _read(path)) for path in directories)


def _read(path: Path) -> RunRecord:
    try:
        record = RunDirectory(path).read()
    except RunError as error:
        return _failed(str(error).replace(f"{path}{os.sep}", ""))
    if not record.has_config or not isinstance(record.config.get("monitor"), str):
        return _failed("run.json is damaged: it holds no config with a monitor")
    if not all(isinstance(record.config.get(group, {}), dict) for group in ("data", "trainer")):
        return _failed("run.json is damaged: its config's groups are none")
    if not record.status:
        return _failed("run.json is damaged: it does not say how the run ended")
    return record


def _failed(error: str) -> RunRecord:
    return RunRecord(status="failed", error=error)


def sort_by_name(runs: Iterable[Run]) -> list[Run]:
    """`2_…` before `10_…`."""
    return sorted(runs, key=lambda run: re.sub(r"\d+", lambda digits: digits[0].zfill(12), str(run[0])))
