"""The points of a sweep: what each runs, its directory, and whether it was run already."""

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
    """One run of a sweep.

    Attributes:
        fingerprint: of its config (`config.identity`).
        overrides: its own.
        config: checked.
        path: of the directory that was begun, or None.
        record: the run.json there, or empty.
        outdated: files of code that have changed since it was begun.
        suffix: the end of a new directory's name: the fingerprint, numbered if a directory has it already.
    """

    fingerprint: str
    overrides: list[str]
    config: Config
    path: Path | None = None
    record: RunRecord = field(default_factory=RunRecord)
    outdated: tuple[str, ...] = ()
    suffix: str = ""

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running` (by a process that may be gone), or `new`."""
        return self.record.status or "new"


def points(composer: Composer, overrides: list[str], sweep_dir: Path | None) -> tuple[list[Point], int]:
    """Every different point of the overrides, checked, in their order; and how many were named twice.

    Args:
        composer: composes.
        overrides: with several values per key.
        sweep_dir: directory of the sweep; None if it is a new one.

    Raises:
        ConfigError: a point cannot work; nothing was run.
        RunError: a run.json in the directory is damaged.
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
    """The record of the run in `path`, whose config has the fingerprint `expected`; empty if it was not begun."""
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
    """The keys of `shared_overrides`."""
    return sorted(override.partition("=")[0] for override in shared_overrides(points))


def directory_names(points: list[Point], rewritten: dict[str, str]) -> dict[tuple[str, ...], str]:
    """The name of each point's directory, by its overrides, also as Hydra's own sweeper writes them.

    It is what is swept, as typed, and the point's fingerprint. A point that was begun keeps its directory, whatever
    else is swept now.

    Args:
        points: of the sweep.
        rewritten: `Composer.rewritten` of the sweep's overrides.
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
    """The points as lines of text: what would be done, and what is swept."""
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
    """What code has changed since a run began: mlprun's own, or files of the user's that it had imported."""
    if not record.mlprun:
        return ()  # it was killed before it could tell
    changed = []
    if record.mlprun.get("source") != source:
        changed.append("mlprun")
    for name, recorded in record.sources.items():
        file = Path(name)
        content = file.read_bytes() if file.is_file() else b""
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != recorded:
            changed.append(name)
    return tuple(changed)
