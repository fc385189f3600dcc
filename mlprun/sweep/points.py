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


@dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
        mark: stands for what the run is (`config.fingerprint`).
        overrides: its lines.
        config: checked.
        path: of the directory that was begun, or None.
        record: the run.json there, or empty.
        outdated: files of code that have changed since it was begun.
        free_mark: the end of a new directory's name: the mark, numbered if a directory has it already.
    """

    mark: str
    overrides: list[str]
    config: Config
    path: Path | None = None
    record: RunRecord = field(default_factory=RunRecord)
    outdated: tuple[str, ...] = ()
    free_mark: str = ""

    @property
    def status(self) -> str:
        """`completed`, `failed`, `interrupted`, `running` (by a process that may be gone), or `new`."""
        return self.record.status or "new"


def points(composer: Composer, lines: list[str], folder: Path | None) -> tuple[list[Point], int]:
    """Every different point of the override lines, checked, in their order; and how many were named twice.

    Args:
        composer: composes.
        lines: with several values a key.
        folder: of the sweep, None if it is a new one.

    Raises:
        ConfigError: a point cannot work; nothing was run.
        RunError: a run.json in the folder is damaged.
    """
    now = provenance.mlprun_state(Path(__file__).parents[1])["source"]
    directories = None if folder is None else PointDirectories(folder)
    found: dict[str, Point] = {}
    num_points = 0
    for overrides in composer.points(lines):
        num_points += 1
        config = composer.point(overrides)
        values = config.to_dict()
        mark = fingerprint(values)
        if mark in found:
            continue
        path = None if directories is None else directories.find(values)
        record = RunRecord()
        if path is not None and (path / "run.json").exists():
            try:
                record = RunDirectory(path).read()
            except RunError as error:
                raise RunError(f"{error}\n  remove {path}, and the point is run again") from error
            if record.missing("status", "config"):
                raise RunError(f"{path / 'run.json'} is damaged\n  remove {path}, and the point is run again")
            if fingerprint(record.config) != mark:
                raise RunError(
                    f"{path} is not what the sweep made any more: its config was changed, by a resume perhaps"
                    "\n  move it out of the sweep's folder, and the point is run again"
                )
        outdated = _outdated(record, now) if record else ()
        free_mark = directories.free_mark(mark) if directories else mark
        found[mark] = Point(mark, overrides, config, path, record, outdated, free_mark)
    return list(found.values()), num_points - len(found)


def shared_lines(points: list[Point]) -> set[str]:
    """The override lines of all points; none for a single point."""
    return set(points[0].overrides).intersection(*(p.overrides for p in points)) if len(points) > 1 else set()


def shared_keys(points: list[Point]) -> list[str]:
    """The keys of `shared_lines`."""
    return sorted(line.partition("=")[0] for line in shared_lines(points))


def directory_names(points: list[Point], rewritten: dict[str, str]) -> dict[tuple[str, ...], str]:
    """The directory of each point, by its override lines, also as Hydra's own sweeper writes them.

    It is what is swept, as typed, and a hash of what the point is. A point that was begun keeps its directory,
    whatever else is swept now.

    Args:
        points: of the sweep.
        rewritten: `Composer.rewritten` of the sweep's lines.
    """
    shared = shared_lines(points)
    names = {}
    for point in points:
        swept = [line for line in point.overrides if line not in shared]
        name = point.path.name if point.path else f"{file_name(','.join(swept))[:80] or 'run'}_{point.free_mark}"
        names[tuple(line for line in point.overrides if rewritten.get(line, line))] = name
        names[tuple(said for line in point.overrides if (said := rewritten.get(line, line)))] = name
    return names


def table(points: list[Point]) -> list[str]:
    """The points as lines of text: what would be done, and what is swept."""
    shared = shared_lines(points)
    lines = []
    for point in points:
        what = {"completed": "done", "new": "to do"}.get(point.status, f"again ({point.status})")
        what = "outdated" if point.outdated else what
        swept = "  ".join(line for line in point.overrides if line not in shared)
        lines.append(f"{what:20} {point.mark}  {swept}")
    done = sum(point.status == "completed" for point in points)
    return [*lines, f"{len(points)} runs: {done} done, {len(points) - done} to do"]


def _outdated(record: RunRecord, source: str) -> tuple[str, ...]:
    """What code has changed since a run began: mlprun's own, or files of the user's that it had imported."""
    if not record.mlprun:
        return ()  # it was killed before it could tell
    changed = []
    if record.mlprun.get("source") != source:
        changed.append("mlprun")
    for name, was in record.sources.items():
        file = Path(name)
        content = file.read_bytes() if file.is_file() else b""
        if f"sha256:{hashlib.sha256(content).hexdigest()}" != was:
            changed.append(name)
    return tuple(changed)
