"""The points of a sweep, their directories, and whether they were run already."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.config.point_directories import PointDirectories
from mlprun.config.resolvers import file_name
from mlprun.config.schema import Config
from mlprun.errors import RunError
from mlprun.runs import provenance
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord
from mlprun.text_table import render


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    fingerprint: str  # of its config
    overrides: list[str]
    config: Config
    path: Path | None = None  # of its directory; None if it is new
    record: RunRecord = field(default_factory=RunRecord)  # the run.json there, or empty
    outdated: tuple[str, ...] = ()  # code files that have changed since it was started
    suffix: str = ""  # of a new directory: the fingerprint, numbered if a directory with it exists

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running` (maybe by a process that is gone), or `new`."""
        return self.record.status or "new"


def points(composer: Composer, overrides: list[str], sweep_dir: Path | None) -> tuple[list[Point], int]:
    """The different points of the overrides, checked, in their order; and the number of repeated ones.

    ConfigError if a point is invalid; RunError if a run.json in `sweep_dir` (None: a new sweep) is damaged.
    """
    source = provenance.mlprun_state(Path(__file__).parents[1])["source"]
    directories = None if sweep_dir is None else PointDirectories(sweep_dir)
    by_fingerprint: dict[str, Point] = {}
    num_points = 0
    for point_overrides in composer.points(overrides):
        num_points += 1
        config = composer.point(point_overrides)
        values = config.to_dict()
        key = fingerprint(values)
        if key in by_fingerprint:
            continue
        path = None if directories is None else directories.find(values)
        record = RunRecord() if path is None else _read_record(path, key)
        outdated = _outdated(record, source) if record else ()
        suffix = directories.free_suffix(key) if directories else key
        by_fingerprint[key] = Point(key, point_overrides, config, path, record, outdated, suffix)
    return list(by_fingerprint.values()), num_points - len(by_fingerprint)


def _read_record(path: Path, expected: str) -> RunRecord:
    """The record of the run in `path`, empty if it was not started; RunError unless its fingerprint is `expected`."""
    directory = RunDirectory(path)
    if not directory.record_file.exists():
        return RunRecord()
    remedy = f"  remove {path}, and the point is run again"
    try:
        record = directory.read()
    except RunError as error:
        raise RunError(f"{error}\n{remedy}") from error
    if record.missing("status", "config"):
        raise RunError(f"{directory.record_file} is damaged\n{remedy}")
    if fingerprint(record.config) != expected:
        raise RunError(
            f"{path} is not what the sweep made any more: its config was changed, by a resume perhaps"
            "\n  move it out of the sweep's folder, and the point is run again"
        )
    return record


def shared_overrides(points: list[Point]) -> set[str]:
    """The overrides that all points have; none for a single point."""
    return set(points[0].overrides).intersection(*(p.overrides for p in points)) if len(points) > 1 else set()


def shared_keys(points: list[Point]) -> list[str]:
    return sorted(override.partition("=")[0] for override in shared_overrides(points))


def directory_names(points: list[Point], rewritten: dict[str, str]) -> dict[tuple[str, ...], str]:
    """Overrides of each point, also as Hydra's sweeper writes them (`rewritten`) -> the name of its directory.

    The name is the swept overrides and the fingerprint. A point that was started keeps its directory.
    """
    shared = shared_overrides(points)
    names = {}
    for point in points:
        swept = [override for override in point.overrides if override not in shared]
        name = point.path.name if point.path else f"{file_name(','.join(swept))[:80] or 'run'}_{point.suffix}"
        pairs = [(override, rewritten.get(override, override)) for override in point.overrides]
        names[tuple(override for override, as_hydra in pairs if as_hydra)] = name
        names[tuple(as_hydra for _, as_hydra in pairs if as_hydra)] = name
    return names


def table(points: list[Point]) -> list[str]:
    """A line for each point: what would be done, and its swept overrides."""
    shared = shared_overrides(points)
    rows = []
    for point in points:
        status = {"completed": "done", "new": "to do"}.get(point.status, f"again ({point.status})")
        status = "outdated" if point.outdated else status
        swept = "  ".join(override for override in point.overrides if override not in shared)
        rows.append((status, point.fingerprint, swept))
    num_done = sum(point.status == "completed" for point in points)
    return [*render(rows, "<<<"), f"{len(points)} runs: {num_done} done, {len(points) - num_done} to do"]


def _outdated(record: RunRecord, source: str) -> tuple[str, ...]:
    if not record.mlprun:
        return ()  # killed before that was recorded
    changed = ["mlprun"] if record.mlprun.get("source") != source else []
    for name, recorded in record.sources.items():
        file = Path(name)
        content = file.read_bytes() if file.is_file() else b""
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != recorded:
            changed.append(name)
    return tuple(changed)
