"""`run.json`, the record of a run: its command, code, machine and result."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from mlprun.errors import RunError
from mlprun.files import LARGEST_JSON, atomic_write, open_to_read
from mlprun.runs.signature import is_signed, sign
from mlprun.version_one import HIGHER_IS_BETTER, upgrade_config

KIND, SIGNATURE = "run.json", "signature"
SUM = "sha256"  # of the rest of the object, as json.dumps writes it
DONE = ("completed", "pruned")  # statuses of runs that a sweep does not run again
MAX_DEPTH = 60  # levels of a record; a config has ten
MAX_DIGITS = 300  # of an integer, which a float holds
TOO_DEEP = f"it is more than {MAX_DEPTH} levels deep"
T = TypeVar("T")

log = logging.getLogger("mlprun")


class _Key(Generic[T]):
    """Descriptor for a key of a record; `empty` if the key is missing or its value has another type."""

    def __init__(self, kind: type[Any], empty: T) -> None:
        self.kind, self.empty = kind, empty

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, record: Mapping[str, Any], owner: type) -> T:
        value: T = record.get(self.name)  # type: ignore[assignment]  # checked in the next line
        return value if isinstance(value, self.kind) else copy.copy(self.empty)


class RunRecord(dict[str, Any]):
    """The contents of a run.json, with typed access to the keys that this version knows.

    Attributes:
        is_own: signed by this user, so that its config may name any code.
        version: of the file, if it was read.

    Runs are killed and files edited: a value that is missing or of another type is empty or None, except for `config`.
    """

    is_own = False
    version: tuple[int, int] | None = None

    status = _Key(str, "")  # `running` (also if the process is gone), `completed`, `failed` or `interrupted`
    command = _Key(str, "")  # as typed
    started_at = _Key(str, "")  # ISO 8601, UTC
    error = _Key(str, "")
    ended_by = _Key(str, "")  # `finished`, `early_stopping` or `diverged`
    steps = _Key[int | None](int, None)  # optimizer steps done
    num_steps = _Key[int | None](int, None)  # optimizer steps planned
    steps_per_epoch = _Key[int | None](int, None)  # None for a stream
    best_step = _Key[int | None](int, None)  # of the best checkpoint
    metrics = _Key[dict[str, float | None]](dict, {})  # `val/…` of the best checkpoint, `test/…`; None: not finite
    device = _Key[dict[str, Any]](dict, {})  # `type`, `name` and `num_threads`
    data = _Key[dict[str, Any]](dict, {})  # `sizes` and `fingerprints`, and `tokens` for text
    sources = _Key[dict[str, str]](dict, {})  # the user's own modules -> `sha256:…`
    git = _Key[dict[str, Any]](dict, {})  # `commit`, `dirty` and `changes`; empty outside a repository
    weights = _Key[dict[str, Any]](dict, {})  # `path` and `sha256` of the initial weights; empty if they are random

    @property
    def has_config(self) -> bool:
        return isinstance(self.get("config"), dict)

    @property
    def config(self) -> dict[str, Any]:
        """With the names of this version."""
        config: dict[str, Any] = self["config"]
        return config

    @property
    def signed_config(self) -> dict[str, Any] | None:
        """The config, if the user has signed it."""
        return self.config if self.is_own and self.has_config else None

    @property
    def monitor(self) -> str:
        return str(self.config["monitor"])

    @property
    def overrides(self) -> list[str] | None:
        lines = self.get("overrides")
        return [str(line) for line in lines] if isinstance(lines, list) else None

    @property
    def is_debug(self) -> bool:
        """Whether `debug=…` was typed."""
        return any(re.match(r"\+{0,2}debug(@.*)?=(?!null$)", line) for line in self.overrides or [])

    @property
    def folder(self) -> str | None:
        """Working directory of `command`."""
        folder = self.get("folder")
        return folder if folder and isinstance(folder, str) else None

    @property
    def elapsed_sec(self) -> float | None:
        """Over all attempts."""
        return _finite(self.get("elapsed_sec"))

    @property
    def num_threads(self) -> int | None:
        threads = self.device.get("num_threads")
        return threads if isinstance(threads, int) else None

    @property
    def mlprun(self) -> dict[str, Any]:
        """`version` and `source`, a hash of its code; empty if the run was killed too early."""
        value = self.get("mlprun")
        if value is None:
            return {}
        return value if isinstance(value, dict) else {"version": value}

    @property
    def resumed(self) -> list[dict[str, Any]]:
        """An entry per resume."""
        entries = self.get("resumed")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    @property
    def next_best(self) -> list[tuple[int, float]]:
        """Step and monitored value of the checkpoints that are kept besides the best, the better first."""
        entries = self.get("next_best")
        found = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        pairs = [(entry.get("step"), _finite(entry.get("value"))) for entry in found]
        return [(step, value) for step, value in pairs if type(step) is int and value is not None]

    @property
    def is_reproduction(self) -> bool:
        return "reproduces" in self

    def run_id(self, path: Path) -> str:
        """16 hexadecimal digits, the run's own, also if its directory is moved."""
        return hashlib.sha256(f"{self.started_at} {path.resolve().name}".encode()).hexdigest()[:16]

    def metric(self, name: str) -> float | None:
        """A metric; None if it is not finite."""
        return _finite(self.metrics.get(name))

    def higher_is_better(self, metric: str) -> bool:
        """For a metric with or without the name of its split; false if unknown."""
        split, _, rest = metric.partition("/")
        name = rest if split in ("train", "val", "test") else metric
        known, group = section(self, "higher_is_better"), name.partition("/")[0]
        return bool(known.get(name, known.get(group, name in HIGHER_IS_BETTER)))

    def missing(self, *names: str) -> list[str]:
        """The names of these properties that the record lacks, sorted."""

        def is_missing(name: str) -> bool:
            return not self.has_config if name == "config" else getattr(self, name) in (None, "", {})

        return sorted(filter(is_missing, names))


def section(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The dict under a key of a record or of a part of one; empty if there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_record(file: Path) -> RunRecord:
    """Read a run.json, and upgrade the config of version one; RunError if that fails."""
    before = version_of(file)
    record = RunRecord(read_json(file))
    record.version = before
    record.is_own = is_signed(KIND, _signed_part(record), record.get(SIGNATURE))
    if record.has_config:
        record["config"] = upgrade_config(record.config)
    return record


def version_of(file: Path) -> tuple[int, int] | None:
    """Inode and time of a file, which is replaced at each change; None without a file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def write_record(file: Path, record: RunRecord) -> None:
    """Replace a run.json, signed if the record is the user's own; RunError if that fails."""
    values = {key: value for key, value in record.items() if key != SIGNATURE}
    if record.is_own and (signature := sign(KIND, _signed_part(record))):
        values[SIGNATURE] = signature
    write_json(file, values)


def _signed_part(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a command may execute, or print for the user to paste."""
    return {key: record.get(key) for key in ("config", "command", "overrides", "folder")}


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object; RunError if that fails."""
    try:
        with open_to_read(file) as stream:
            text = stream.read(LARGEST_JSON + 1)
        if len(text) > LARGEST_JSON:
            raise ValueError(f"it has more than {LARGEST_JSON >> 20} MiB")
        record = parse_json(text)
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise RunError(f"{file} is damaged: it does not hold an object")
    if SUM in record and record.pop(SUM) != _sum_of(record):
        warn_of_change(file)
    return record


def parse_json(text: bytes) -> Any:
    """The value of a text in UTF-8; ValueError if it is not JSON, or so deep that Python could not walk through it."""
    try:
        value = json.loads(text.decode(), parse_int=_parse_int)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    layer = [value]
    for _ in range(MAX_DEPTH):
        below = [item.values() if type(item) is dict else item for item in layer if type(item) in (dict, list)]
        layer = [item for items in below for item in items if type(item) in (dict, list)]
        if not layer:
            return value
    raise ValueError(TOO_DEEP)


def _parse_int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"it contains a number with {len(digits)} digits")
    return int(digits)


def write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Replace the file atomically; RunError if that fails."""
    try:
        with atomic_write(file) as stream:
            stream.write(f"{json.dumps({**record, SUM: _sum_of(record)}, indent=2)}\n".encode())
    except OSError as error:
        raise cannot_write(file.parent, error) from error


def _sum_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()


def warn_of_change(file: Path) -> None:
    """Warn, once, that a file is not as it was written."""
    _warn_of_change(file, file.stat().st_mtime_ns)


@cache
def _warn_of_change(file: Path, modified: int) -> None:
    log.warning("%s has changed since it was written: its values may not be those of the run", file)


def cannot_write(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: the output folder cannot be written: {error.strerror}"
        "\n  make it writable, or choose another with hydra.run.dir=… (a sweep: hydra.sweep.dir=…)"
    )
