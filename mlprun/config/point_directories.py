"""The directories of a sweep's points, found by what is run in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.config.identity import fingerprint
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord


class PointDirectories:
    """What is in a sweep's folder.

    Args:
        sweep_dir: directory of the sweep; read once.
    """

    def __init__(self, sweep_dir: Path) -> None:
        self._by_fingerprint: dict[str, list[Path]] = {}
        for path in sorted(sweep_dir.iterdir()) if sweep_dir.is_dir() else []:
            self._by_fingerprint.setdefault(path.name.rpartition("_")[2], []).append(path)

    def find(self, config: dict[str, Any]) -> Path | None:
        """The directory of the point with this config, if it was begun.

        One whose config was another, because a default has changed since, is not the point's.
        """
        if not self._by_fingerprint:
            return None
        key = fingerprint(config)
        paths = [path for path in self._by_fingerprint.get(key, []) if not _has_other_defaults(path, key)]
        if not paths and (old := version_one_fingerprint(config)) is not None:
            paths = [path for path in self._by_fingerprint.get(old, []) if not _has_other_defaults(path, key)]
        return paths[0] if paths else None

    def free_suffix(self, key: str) -> str:
        """How the name of a new directory ends: with the fingerprint `key`, numbered if other defaults had the same."""
        others = self._by_fingerprint.get(key)
        return f"{len(others) + 1}_{key}" if others else key


def _has_other_defaults(path: Path, key: str) -> bool:
    """Whether the run in `path` has another fingerprint than `key` now, though no resume made it longer."""
    directory = RunDirectory(path)
    try:
        record = directory.read() if directory.record_file.exists() else RunRecord()
    except RunError:
        return False  # damaged; who uses the directory says so
    if not record.has_config or fingerprint(record.config) == key:
        return False
    changes = [change for entry in record.resumed for change in entry.get("changed", [])]
    return not any(change.startswith(("epochs:", "steps:")) for change in changes)
