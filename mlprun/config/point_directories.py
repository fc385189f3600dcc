"""Finds the directories of a sweep's points by their configs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlprun.config.identity import fingerprint
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.errors import RunError
from mlprun.runs.record import RunRecord, read_record


class PointDirectories:
    """The directories in a sweep's folder, which is read once."""

    def __init__(self, sweep_dir: Path) -> None:
        self._by_fingerprint: dict[str, list[Path]] = {}
        for path in sorted(sweep_dir.iterdir()) if sweep_dir.is_dir() else []:
            self.add(path)

    def add(self, path: Path) -> None:
        paths = self._by_fingerprint.setdefault(path.name.rpartition("_")[2], [])
        if path not in paths:
            paths.append(path)

    def find(self, config: dict[str, Any]) -> Path | None:
        """The directory of the point with this config, if the run was started with the defaults of today."""
        return self.find_run(config, fingerprint(config))[0] if self._by_fingerprint else None

    def find_run(self, config: dict[str, Any], key: str) -> tuple[Path | None, RunRecord]:
        """As `find`, with the record, which is empty if there is none or it is damaged; `key`: the fingerprint."""
        for name in self._names(config, key):
            for path in self._by_fingerprint.get(name, []):
                record = _read(path)
                if not _has_other_defaults(record, config, key):
                    return path, record
        return None, RunRecord()

    def _names(self, config: dict[str, Any], key: str) -> Iterator[str]:
        if self._by_fingerprint:
            yield key
            if (old := version_one_fingerprint(config)) is not None:
                yield old

    def free_suffix(self, key: str) -> str:
        """The end of a new directory's name: the fingerprint `key`, numbered if runs with other defaults have it."""
        others = self._by_fingerprint.get(key)
        return f"{len(others) + 1}_{key}" if others else key


def is_of(record: RunRecord, config: dict[str, Any], key: str) -> bool:
    """Whether a record has the identity of a config, whose fingerprint is `key`."""
    # Most are equal, which is seen a hundred times as fast.
    return {**record.config, "sweep": None} == {**config, "sweep": None} or fingerprint(record.config) == key


def _read(path: Path) -> RunRecord:
    file = path / "run.json"
    try:
        return read_record(file) if file.exists() else RunRecord()
    except RunError:
        return RunRecord()  # damaged; reported when the directory is used


def _has_other_defaults(record: RunRecord, config: dict[str, Any], key: str) -> bool:
    """Whether a run has another fingerprint than `key` now, although no resume extended it."""
    if not record.has_config or is_of(record, config, key):
        return False
    changes = [change for entry in record.resumed for change in entry.get("changed", [])]
    return not any(change.startswith(("epochs:", "steps:")) for change in changes)
