"""`run.json`, the record of a run: what ran, on what, and how it ended."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.files import atomic_write
from mlprun.version_one import HIGHER_IS_BETTER, upgrade_config


class RunRecord(dict[str, Any]):
    """The values of a run.json, also those that this version does not know, and typed access to those it does.

    A run is killed at any time, and files are edited: but for `config`, what is missing or of another type is empty
    or None.
    """

    @property
    def status(self) -> str:
        """`running` (also of a process that is gone), `completed`, `failed` or `interrupted`."""
        return self._text("status")

    @property
    def has_config(self) -> bool:
        """Whether anything is known of the run but that it failed."""
        return isinstance(self.get("config"), dict)

    @property
    def config(self) -> dict[str, Any]:
        """As composed, by this version's names."""
        config: dict[str, Any] = self["config"]
        return config

    @property
    def monitor(self) -> str:
        """The metric that selects the best checkpoint."""
        return str(self.config["monitor"])

    @property
    def overrides(self) -> list[str] | None:
        """The override lines of this run; None if it does not say."""
        lines = self.get("overrides")
        return [str(line) for line in lines] if isinstance(lines, list) else None

    @property
    def command(self) -> str:
        """The whole line that was typed."""
        return self._text("command")

    @property
    def folder(self) -> str | None:
        """Where it was typed."""
        return self._text("folder") or None

    @property
    def started_at(self) -> str:
        """ISO 8601, UTC."""
        return self._text("started_at")

    @property
    def elapsed_sec(self) -> float | None:
        """Seconds until it ended, over all attempts."""
        return self._number("elapsed_sec")

    @property
    def steps(self) -> int | None:
        """Optimizer steps done."""
        return self._int("steps")

    @property
    def num_steps(self) -> int | None:
        """Optimizer steps it was to do."""
        return self._int("num_steps")

    @property
    def steps_per_epoch(self) -> int | None:
        """None also for a stream."""
        return self._int("steps_per_epoch")

    @property
    def best_step(self) -> int | None:
        """Step of the best checkpoint."""
        return self._int("best_step")

    @property
    def ended_by(self) -> str:
        """`finished`, `early_stopping` or `diverged`."""
        return self._text("ended_by")

    @property
    def error(self) -> str:
        """What it failed of."""
        return self._text("error")

    @property
    def metrics(self) -> dict[str, float | None]:
        """`val/…` of the best checkpoint and `test/…`; None where the value was not finite."""
        return self.section("metrics")

    def metric(self, name: str) -> float | None:
        """A finite metric."""
        return _finite(self.metrics.get(name))

    def higher_is_better(self, metric: str) -> bool:
        """Whether a metric, with or without its split's name, is better when higher; false where nobody says."""
        name = metric.rpartition("/")[2]
        return bool(self.section("higher_is_better").get(name, name in HIGHER_IS_BETTER))

    @property
    def device(self) -> dict[str, Any]:
        """`type`, `name` and `num_threads`."""
        return self.section("device")

    @property
    def num_threads(self) -> int | None:
        """CPU threads of torch."""
        threads = self.device.get("num_threads")
        return threads if isinstance(threads, int) else None

    @property
    def data(self) -> dict[str, Any]:
        """`sizes` and `fingerprints`, and `tokens` for text."""
        return self.section("data")

    @property
    def sources(self) -> dict[str, str]:
        """The user's own modules -> `sha256:…`."""
        return self.section("sources")

    @property
    def mlprun(self) -> dict[str, Any]:
        """`version` and `source` of mlprun, the latter a hash of its code; empty if the run never got that far."""
        value = self.get("mlprun")
        return value if isinstance(value, dict) else {} if value is None else {"version": value}

    @property
    def git(self) -> dict[str, Any]:
        """`commit`, `dirty` and `changes`; also empty outside a repository."""
        return self.section("git")

    @property
    def weights(self) -> dict[str, Any]:
        """`path` and `sha256` of the file that the weights came from; empty if they are random."""
        return self.section("weights")

    @property
    def resumed(self) -> list[dict[str, Any]]:
        """An entry for each time it went on."""
        entries = self.get("resumed")
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    @property
    def is_reproduction(self) -> bool:
        """Whether it repeats another run."""
        return "reproduces" in self

    def section(self, key: str) -> dict[str, Any]:
        """The dict under a key."""
        return section(self, key)

    def missing(self, *names: str) -> list[str]:
        """Which of these attributes the record lacks, or has as another type; sorted."""

        def is_missing(name: str) -> bool:
            return not self.has_config if name == "config" else getattr(self, name) in (None, "", {})

        return sorted(filter(is_missing, names))

    def _text(self, key: str) -> str:
        value = self.get(key)
        return value if isinstance(value, str) else ""

    def _int(self, key: str) -> int | None:
        value = self.get(key)
        return value if isinstance(value, int) else None

    def _number(self, key: str) -> float | None:
        return _finite(self.get(key))


def section(record: Mapping[str, Any], key: str) -> dict[str, Any]:
    """The dict under a key of a record or of a part of one; empty if there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else {}


def _finite(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def read_record(file: Path) -> RunRecord:
    """What a run.json holds; the config of one of version one by this version's names.

    Raises:
        RunError: it cannot be read, or is damaged.
    """
    record = RunRecord(read_json(file))
    if record.has_config:
        record["config"] = upgrade_config(record.config)
    return record


def read_json(file: Path) -> dict[str, Any]:
    """The object in `file`.

    Raises:
        RunError: it cannot be read, or is damaged.
    """
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}") from error
    if not isinstance(record, dict):
        raise RunError(f"{file} is damaged: it holds no object")
    return record


def write_json(file: Path, record: Mapping[str, Any]) -> None:
    """Write the record whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    try:
        with atomic_write(file) as whole:
            whole.write(f"{json.dumps(record, indent=2)}\n".encode())
    except OSError as error:
        raise cannot_write(file.parent, error) from error


def cannot_write(path: Path, error: OSError) -> RunError:
    """The error for an output folder that the system refuses."""
    return RunError(
        f"{path}: the output folder cannot be written: {error.strerror}"
        "\n  make it writable, or choose another with hydra.run.dir=… (a sweep: hydra.sweep.dir=…)"
    )
