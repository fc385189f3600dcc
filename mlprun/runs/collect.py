"""All runs below a folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from mlprun.errors import RunError
from mlprun.process import collections_paused
from mlprun.runs.record import RunRecord, read_record, section, version_of

Run = tuple[Path, RunRecord]  # a run's directory and its record


def read_runs(folder: Path, known: Iterable[Run] = ()) -> list[Run]:
    """`folder`, if it is a run, and every run below it, sorted by name; RunError if there is no such folder.

    The record of a run whose run.json is damaged is `{"status": "failed", "error": …}`, without a config. All others
    have a status and a config that can be ranked. Hidden folders, `checkpoints` and symbolic links are skipped.

    Args:
        known: runs that were read before; those whose file has changed since are read again.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder\n  name one that holds runs, such as outputs")
    directories: list[Path] = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "checkpoints"]
        if "run.json" in files:
            directories.append(Path(path))
    read = dict(known)
    with collections_paused():
        return sort_by_name((path, _read(path, read.get(path))) for path in directories)


def _read(path: Path, known: RunRecord | None) -> RunRecord:
    file = path / "run.json"
    try:
        is_same = known is not None and known.version is not None and known.version == version_of(file)
        record = known if known is not None and is_same else read_record(file)
    except RunError as error:
        return RunRecord(status="failed", error=str(error).replace(f"{path}{os.sep}", ""))
    problem = ""
    if not record.has_config or not isinstance(record.config.get("monitor"), str):
        problem = "it holds no config with a monitor"
    elif not all(isinstance(record.config.get(group, {}), dict) for group in ("data", "trainer")):
        problem = "groups of its config are not mappings"
    elif not isinstance(section(record.config, "data").get("dataset", {}), dict):
        problem = "data.dataset in its config is not a mapping"
    elif not record.status:
        problem = "it does not say how the run ended"
    return RunRecord(status="failed", error=f"run.json is damaged: {problem}") if problem else record


def sort_by_name(runs: Iterable[Run]) -> list[Run]:
    """With `2_…` before `10_…`."""
    return sorted(runs, key=lambda run: re.sub(r"\d+", lambda digits: digits[0].zfill(12), str(run[0])))
