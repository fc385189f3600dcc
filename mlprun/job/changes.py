"""What has changed since a run: its code, environment, data and start weights, compared with its record.

What is not recorded is not compared: older versions recorded less.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlprun.analysis.diff import Difference, compare_records
from mlprun.config.identity import RESULT_FREE, RESUMABLE, identity
from mlprun.config.stored import with_root
from mlprun.runs import provenance
from mlprun.runs.record import RunRecord, section

SECTIONS = ("code", "environment", "data")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Difference]]:
    """The differences of two records by section, as `compare_records`, in what both hold."""
    shared = before.keys() & now.keys()
    ours, theirs = ({key: value for key, value in record.items() if key in shared} for record in (before, now))
    return compare_records(ours, theirs)


def changes_since(before: RunRecord, device: Mapping[str, Any] | None = None) -> dict[str, list[Difference]]:
    """How mlprun, the modules that a run used, its environment and its start weights differ now.

    Commits are left out, which may have changed other modules.

    Args:
        device: in use; None: only code matters.
    """
    mlprun, host = before.mlprun, section(before, "host")
    then = {**before, "mlprun": _some(mlprun, "version", "source"), "host": _some(host, "cpu")}
    state = provenance.mlprun_state(Path(__file__).parents[1])
    now: dict[str, Any] = {
        "mlprun": {key: state[key] for key in then["mlprun"]},
        "sources": provenance.files_now(before.sources, Path.cwd()),
    }
    if device is not None:
        now |= {"packages": provenance.packages(), "device": device}
        now |= {"host": {"cpu": provenance.cpu_name()}} if then["host"] else {}
        now |= {} if (weights := weights_now(before)) is None else {"weights": {"sha256": weights}}
    return changes(then, now)


def _some(values: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: values[key] for key in keys if key in values}


def weights_now(record: RunRecord) -> str | None:
    """The hash of the file that the run started from, as it is now; None if it is gone or there was none."""
    path = record.weights.get("path")
    if not isinstance(path, str) or not os.path.isfile(path):
        return None
    return _hash_of(path, os.stat(path).st_mtime_ns)


@cache  # the points of a sweep share a file
def _hash_of(path: str, modified: int) -> str | None:
    return provenance.files_now([path], Path()).get(path)


def data_changes(before: RunRecord, data: Mapping[str, Any]) -> list[Difference]:
    return changes({"data": before.data}, {"data": data})["data"] if before.data else []


def are_test_examples_others(found: Iterable[Difference], *, has_digest: bool) -> bool:
    """Whether differences of data mean that the test split has other examples.

    Args:
        has_digest: the examples were compared, or will be when they have been read; else any change of the data counts.
    """
    keys = {d.key for d in found} - {"weights"}
    return bool(keys & {"sizes.test", "examples.test"}) if has_digest else bool(keys)


def true_config(stored: dict[str, Any], trained: dict[str, Any] | None) -> tuple[dict[str, Any], list[Difference]]:
    """The config that a checkpoint was trained with, and how that of run.json differs from it.

    Keys that a resume may change, and the folder of the data, are those of run.json: they change no result.

    Args:
        stored: of run.json.
        trained: of the checkpoint; None if it has none.
    """
    if trained is None:
        return stored, []
    ours, theirs = ({"config": identity_without_root(config)} for config in (stored, trained))
    if not (found := compare_records(ours, theirs)["config"]):
        return stored, []
    root = section(stored, "data").get("root")
    config = copy.deepcopy(with_root(trained, root) if isinstance(root, str) else trained)
    for key in (*RESUMABLE, *RESULT_FREE):
        *parents, last = key.split(".")
        source, target = stored, config
        for parent in parents:
            source, target = section(source, parent), target[parent]
        if last in source:
            target[last] = source[last]
    return config, found


def identity_without_root(config: dict[str, Any]) -> dict[str, Any]:
    """The identity of a run of any length, wherever its data lie."""
    return identity(with_root(config, "${data.root}"), length=False)
