"""The points of a sweep, their directories, and whether they were run already."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from mlprun.analysis.diff import PART_KEYS
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.config.point_directories import PointDirectories, is_of
from mlprun.config.resolvers import file_name
from mlprun.config.schema import Config
from mlprun.errors import ConfigError, RunError
from mlprun.job.changes import data_changes, weights_now
from mlprun.process import collections_paused
from mlprun.runs import provenance
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import DONE, RunRecord
from mlprun.text_table import render


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    fingerprint: str  # of its config
    overrides: list[str]
    config: Config
    path: Path | None = None  # of its directory; None if it is new
    record: RunRecord = field(default_factory=RunRecord)  # the run.json there, or empty
    outdated: tuple[str, ...] = ()  # what has changed since it was started: code files, weights, data
    suffix: str = ""  # of a new directory: the fingerprint, numbered if a directory with it exists

    @property
    def status(self) -> str:
        """`completed`, `pruned`, `failed`, `interrupted`, `running` (maybe by a process that is gone), or `new`."""
        return self.record.status or "new"

    def is_to_do(self, stale: str) -> bool:
        """Whether it is to be run, by `sweep.stale`."""
        return self.status not in DONE or (stale == "redo" and bool(self.outdated))

    def compared(self, data: Mapping[str, Any]) -> Point:
        """The point, outdated also if its data has changed; `data`: as read now."""
        found = _changed_data(json.dumps(self.record.data), json.dumps(data))
        files = [key for key in found if key not in PART_KEYS and key != "tokens"]
        name, root = self.config.data.name, self.config.data.root
        whole = f"data={name}" if root is None else f"data.root={root}"
        return replace(self, outdated=(*self.outdated, *(files or [whole] * bool(found))))


@collections_paused()
def points(composer: Composer, lines: Iterable[list[str]], sweep_dir: Path | None) -> tuple[list[Point], int]:
    """The different points, given by their overrides, checked, in their order; and the number of repeated ones.

    ConfigError if a point is invalid; RunError if a run.json in `sweep_dir` (None: a new sweep) is damaged.
    """
    source = provenance.own_state()["source"]
    hash_now = cache(lambda name: provenance.files_now([name], Path.cwd()).get(name))
    directories = None if sweep_dir is None else PointDirectories(sweep_dir)
    by_fingerprint: dict[str, Point] = {}
    num_points = 0
    for point_overrides in lines:
        num_points += 1
        config = composer.point(point_overrides)
        values = config.to_dict()
        key = fingerprint(values)
        if key in by_fingerprint:
            if (root := config.data.root) != by_fingerprint[key].config.data.root:
                problem = f"takes one value in a sweep of data={config.data.name}"
                raise ConfigError("data.root", root, problem, "no result depends on it")
            continue
        path, record = (None, RunRecord()) if directories is None else directories.find_run(values, key)
        if path is not None:
            record = _checked_record(path, record, values, key)
        outdated = _outdated(record, source, hash_now) if record else ()
        suffix = directories.free_suffix(key) if directories else key
        by_fingerprint[key] = Point(key, point_overrides, config, path, record, outdated, suffix)
    return list(by_fingerprint.values()), num_points - len(by_fingerprint)


@lru_cache  # most points of a sweep have one data set
def _changed_data(before: str, now: str) -> list[str]:
    """The keys in which the data of a record differ."""
    return [d.key for d in data_changes(RunRecord(data=json.loads(before)), json.loads(now))]


def check_directories(composer: Composer, overrides: list[str], sweep_dir: Path | None) -> None:
    """ConfigError if the user's `hydra.sweep.subdir` gives a point the directory of another, or of an earlier one."""
    taken: dict[Path, str] = {}
    for name, point in composer.named_directories(overrides):
        key = fingerprint(composer.point(point).to_dict())
        path = (sweep_dir or Path()) / name
        record = RunDirectory(path).read() if (path / "run.json").exists() else RunRecord()
        there = fingerprint(record.config) if record.has_config else taken.setdefault(path, key)
        if there != key:
            line = " ".join(record.overrides or []) if record else "another point"
            problem = f"is {name} for {' '.join(point)}, and for {line} too"
            remedy = "leave it out: the directory of a point is named after its config; or choose another sweep.name"
            raise ConfigError("hydra.sweep.subdir", ConfigError.MISSING, problem, remedy)


def _checked_record(path: Path, record: RunRecord, config: dict[str, Any], key: str) -> RunRecord:
    """The record of the run in `path`, empty if it was not started; RunError if it is damaged or of another config."""
    directory = RunDirectory(path)
    if not record and not directory.record_file.exists():
        return record
    remedy = f"  remove {path}, and the point is run again"
    try:
        record = record or directory.read()
    except RunError as error:
        raise RunError(f"{error}\n{remedy}") from error
    if record.missing("status", "config"):
        raise RunError(f"{directory.record_file} is damaged\n{remedy}")
    if not is_of(record, config, key):
        raise RunError(
            f"{path} is not what the sweep made any more: its config was changed, by a resume perhaps"
            "\n  move it out of the sweep's folder, and the point is run again"
        )
    return record


def shared_overrides(points: list[Point]) -> set[str]:
    """The overrides that all points have; none for a single point."""
    return set(points[0].overrides).intersection(*(p.overrides for p in points)) if len(points) > 1 else set()


def shared_keys(points: list[Point]) -> list[str]:
    # as Hydra compares them: without the +
    return sorted(override.partition("=")[0].lstrip("+") for override in shared_overrides(points))


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
        status = {"completed": "done", "pruned": "done (pruned)", "new": "to do"}.get(
            point.status, f"again ({point.status})"
        )
        status = "outdated" if point.outdated else status
        swept = "  ".join(override for override in point.overrides if override not in shared)
        rows.append((status, point.fingerprint, swept))
    num_done = sum(point.status in DONE for point in points)
    return [*render(rows, "<<<"), f"{len(points)} runs: {num_done} done, {len(points) - num_done} to do"]


def _outdated(record: RunRecord, source: str, hash_now: Callable[[str], str | None]) -> tuple[str, ...]:
    if not record.mlprun:
        return ()  # killed before that was recorded
    changed = ["mlprun"] if record.mlprun.get("source") != source else []
    changed += [name for name, recorded in record.sources.items() if hash_now(name) != recorded]
    if weights_now(record) not in (None, record.weights.get("sha256")):
        changed.append(str(record.weights["path"]))
    return tuple(changed)
