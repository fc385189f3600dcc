"""The directories of a sweep's points, found by what is run in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.config.identity import fingerprint
from mlprun.config.version_one_identity import version_one_fingerprint
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory


class PointDirectories:
    """What is in a sweep's folder.

    Args:
        folder: of the sweep; read once.
    """

    def __init__(self, folder: Path) -> None:
        self._by_mark: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            self._by_mark.setdefault(path.name.rpartition("_")[2], []).append(path)

    def find(self, config: dict[str, Any]) -> Path | None:
        """The directory of the point with this config, if it was begun.

        One whose config was another, because a default has changed since, is not the point's.
        """
        if not self._by_mark:
            return None
        mark = fingerprint(config)
        found = [path for path in self._by_mark.get(mark, []) if not _has_other_defaults(path, mark)]
        if not found and (old := version_one_fingerprint(config)) is not None:
            found = [path for path in self._by_mark.get(old, []) if not _has_other_defaults(path, mark)]
        return found[0] if found else None

    def free_mark(self, mark: str) -> str:
        """How the name of a new directory ends: with the fingerprint, numbered if other defaults had the same."""
        others = self._by_mark.get(mark)
        return f"{len(others) + 1}_{mark}" if others else mark


def _has_other_defaults(path: Path, mark: str) -> bool:
    """Whether the run there has another fingerprint now, though no resume made it longer."""
    try:
        record = RunDirectory(path).read() if (path / "run.json").exists() else {}
    except RunError:
        return False  # damaged; who uses the directory says so
    if "config" not in record or fingerprint(record["config"]) == mark:
        return False
    changed = [line for entry in record.get("resumed", []) for line in entry.get("changed", [])]
    return not any(line.startswith(("epochs:", "steps:")) for line in changed)
