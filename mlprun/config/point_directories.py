"""Finds the directories of a sweep's points by their configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.config.identity import fingerprint
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord


class PointDirectories:
    """The directories in a sweep's folder, which is read once."""

    def __init__(self, sweep_dir: Path) -> None:
        self._by_fingerprint: dict[str, list[Path]] = {}
        for path in sorted(sweep_dir.iterdir()) if sweep_dir.is_dir() else []:
            self._by_fingerprint.setdefault(path.name.rpartition("_")[2], []).append(path)

    def find(self, config: dict[str, Any]) -> Path | None:
        """The directory of the point with this config, if the run was started with the defaults of today."""
        if not self._by_fingerprint:
            return None
        key = fingerprint(config)
        paths = [path for path in self._by_fingerprint.get(key, []) if not _has_other_defaults(path, key)]
        if not paths and (old := version_one_fingerprint(config)) is not None:
            paths = [path for path in self._by_fingerprint.get(old, []) if not _has_other_defaults(path, key)]
        return paths[0] if paths else None

    def free_suffix(self, key: str) -> str:
        """The end of a new directory's name: the fingerprint `key`, numbered if runs with other defaults have it."""
        others = self._by_fingerprint.get(key)
        return f"{len(others) + 1}_{key}" if others else key


def _has_other_defaults(path: Path, key: str) -> bool:
    """Whether the run in `path` has another fingerprint than `key` now, although no resume extended it."""
    directory = RunDirectory(path)
    try:
        record = directory.read() if directory.record_file.exists() else RunRecord()
    except RunError:
        return False  # damaged; reported when the directory is used
    if not record.has_config or fingerprint(record.config) == key:
        return False
    changes = [change for entry in record.resumed for change in entry.get("changed", [])]
    return not any(change.startswith(("epochs:", "steps:")) for change in changes)
