"""What a run is: the part of its config that decides its result."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
from typing import Any

from mlprun.config.schema import Text
from mlprun.version_one import downgrade_config, upgrade_config

# What may change when a run is continued.
RESUMABLE = ("epochs", "steps", "trainer.max_time", "device", "checkpoint", "logging")
LENGTH_KEYS = ("epochs", "steps")
# What no result depends on, beside `RESUMABLE`.
RESULT_FREE = ("sweep", "inspect", "data.root")
# Keys that came later, with the value that says what every run did before: with it, a run is the same as one that was
# recorded without the key.
_LATER: dict[tuple[str, str], Any] = {
    ("trainer", "weights"): None,
    ("trainer", "freeze"): [],
    ("data", "normalize_targets"): False,
    ("data", "normalize_test_by"): "train",
    ("data", "text"): dataclasses.asdict(Text()),
    ("data", "audio"): None,
}


def identity(stored: dict[str, Any], *, length: bool = True) -> dict[str, Any]:
    """What of a run's config decides its result; without `length`, what must be the same in all its checkpoints."""
    kept = upgrade_config(stored)
    for key in (*RESUMABLE, *RESULT_FREE):
        if length and key in LENGTH_KEYS:
            continue
        *parents, last = key.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    for (group, key), value in _LATER.items():
        if isinstance(kept.get(group), dict):
            kept[group].setdefault(key, copy.copy(value))
    dataset = kept.get("data", {}).get("dataset", {})
    if str(dataset.get("_target_")).startswith(("mlprun.data.mnist.", "mlprun.data.cifar.")):
        dataset.pop("root", None)  # known files, by their checksums: it does not matter where they lie
    return kept


def _as_floats(value: Any) -> Any:
    """1 and 1.0 are one value, however they were typed."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def fingerprint(stored: dict[str, Any]) -> str:
    """Ten hex digits that stand for what a run is: the same for the same `identity`."""
    kept = identity(stored)
    for (group, key), value in _LATER.items():
        if isinstance(kept.get(group), dict) and kept[group][key] == value:
            del kept[group][key]
    text = json.dumps(_as_floats(downgrade_config(kept)), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
