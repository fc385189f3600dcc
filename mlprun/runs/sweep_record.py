"""`sweep.json`, the record of a sweep: its command lines, points and resources. Imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from mlprun.errors import RunError, shown
from mlprun.formatting import truncate
from mlprun.runs.directory import now_utc
from mlprun.runs.record import read_json, write_json
from mlprun.runs.signature import is_signed, sign

FILE_NAME = "sweep.json"
FORMAT = 1  # incremented whenever the keys change; `read` then upgrades older files. Version one wrote no number.


@dataclass(frozen=True)
class Needs:
    """The resources of a run."""

    num_threads: int = 1  # CPU threads, of all its processes
    device: str = "cpu"  # `cpu`, `cuda` or `mps`
    num_gpus: int = 0  # of the machine, if it uses one
    memory_mib: float | None = None  # resident memory of a process that has built it; None if unknown
    num_processes: int = 1  # of `trainer.devices`, each with its own GPU if it uses one


@dataclass(frozen=True)
class SweepRecord:
    """The contents of `sweep.json`; the fields are its keys."""

    lines: list[list[str]]  # the words of each command line, without `mlprun`
    typed_in: str  # working directory of the last one
    needs: dict[str, Needs]  # of each point, by its fingerprint
    points: dict[str, list[str]]  # the overrides of each point, by its fingerprint
    status: str = "running"  # (also if the process is gone), `completed` or `interrupted`
    max_failures: int | None = None  # failed runs after which no other is started; None: no limit
    num_workers: int = 1  # concurrent runs
    gpus: list[str] = field(default_factory=list)  # CUDA_VISIBLE_DEVICES of each concurrent run; empty: unchanged
    scales: dict[str, str] = field(default_factory=dict)  # of the numeric keys of a search: `log` or `linear`
    started_at: str = field(default_factory=now_utc)  # ISO 8601, UTC
    ended_at: str | None = None
    is_own: bool = True  # no key: signed by this user, so that its lines may name any code

    def needs_of(self, path: Path) -> Needs:
        """The resources of the run in `path`; the largest of all for a trial, which was not checked itself."""
        return self.needs.get(path.name.rpartition("_")[2], self._largest)

    @cached_property
    def _largest(self) -> Needs:
        return max(self.needs.values(), key=lambda needs: needs.num_threads, default=Needs())

    def write(self, directory: Path) -> None:
        """Replace the file; it is signed unless a stranger's lines are in it."""
        values = {"format": FORMAT, **asdict(self)}
        if values.pop("is_own") and (signature := sign(FILE_NAME, _signed_part(values))):
            values["signature"] = signature
        write_json(directory / FILE_NAME, values)


def read(directory: Path) -> SweepRecord | None:
    """Read the record of the sweep in `directory`; None if there is no sweep.

    RunError if the file is damaged, or a later version wrote it.
    """
    file = directory / FILE_NAME
    if not file.exists():
        return None
    remedy = f"  remove it and repeat the sweep's command with hydra.sweep.dir={directory}: completed runs are kept"
    try:
        values = read_json(file)
    except RunError as error:
        raise RunError(f"{error}\n{remedy}") from error
    if (number := values.get("format", FORMAT)) != FORMAT:
        raise RunError(
            f"{file}: format={shown(number)} is not known; this version of mlprun reads format {FORMAT}"
            "\n  use the version of mlprun that started the sweep, or a later one"
        )
    if missing := {"lines", "typed_in", "needs", "points"} - values.keys():
        raise RunError(f"{file} is damaged: it has no {', '.join(sorted(missing))}\n{remedy}")
    types = get_type_hints(SweepRecord)
    known = {key: value for key, value in values.items() if key in types}
    for key, value in known.items():
        try:
            known[key] = _convert(value, types[key])
        except TypeError as error:
            expected = SweepRecord.__annotations__[key]
            raise RunError(
                f"{file} is damaged: {key}={truncate(json.dumps(value), 100)} is not {expected}\n{remedy}"
            ) from error
    known["is_own"] = is_signed(FILE_NAME, _signed_part(values), values.get("signature"))
    return SweepRecord(**known)


def _signed_part(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: values.get(key) for key in ("lines", "typed_in")}


def _convert(value: Any, expected: Any) -> Any:
    """Convert a value from JSON to the type of a field; TypeError if it has another type."""
    origin, arguments = get_origin(expected), get_args(expected)
    if origin is list and isinstance(value, list):
        return [_convert(item, arguments[0]) for item in value]
    if origin is dict and isinstance(value, dict):
        return {key: _convert(item, arguments[1]) for key, item in value.items()}
    if isinstance(expected, type) and is_dataclass(expected) and isinstance(value, dict):
        types = get_type_hints(expected)
        return expected(**{key: _convert(item, types[key]) for key, item in value.items() if key in types})
    if origin in (list, dict) or not isinstance(value, expected):
        raise TypeError(f"{value!r} is not {expected}")
    return value
