"""What a run is: the part of its config that decides its result.

Two runs are the same if their resolved configs are, `identity`. The name of a directory ends in a hash of their
difference from the defaults, `fingerprint`: a key that is added to the schema renames nothing that is on disk.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from omegaconf import MISSING

from mlprun.config.options import Option, default_of
from mlprun.config.schema import Config
from mlprun.version_one import upgrade_config

# What may change when a run is continued.
RESUMABLE = ("epochs", "steps", "trainer.max_time", "device", "checkpoint", "logging", "writers")
LENGTH_KEYS = ("epochs", "steps")
# What no result depends on, beside `RESUMABLE`.
RESULT_FREE = ("sweep", "inspect", "data.root")
# Groups of `data` that an argument of the data set may repeat, as `text: ${data.text}`.
_REPEATED = ("text", "audio")


def identity(stored: dict[str, Any], *, length: bool = True) -> dict[str, Any]:
    """What of a run's config decides its result; without `length`, what must be the same in all its checkpoints.

    Keys that are newer than the config have their defaults.
    """
    kept = upgrade_config(stored)
    data = kept.get("data", {})
    dataset = data.get("dataset", {})
    repeated = {name: group for group in _REPEATED for name in _repeats(data, group)}
    _add_defaults(kept, Config)
    for name, group in repeated.items():
        dataset[name] = data[group]
    for key in (*RESUMABLE, *RESULT_FREE):
        if length and key in LENGTH_KEYS:
            continue
        *parents, last = key.split(".")
        node = kept
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    drop_known_root(dataset)
    return kept


def difference(stored: dict[str, Any]) -> dict[str, Any]:
    """What of a run's `identity` is not as the schema has it by default; arguments of classes are all kept."""
    kept = identity(stored)
    if isinstance(kept.get("data"), dict):
        for group in _REPEATED:
            for name in _repeats(kept["data"], group):
                kept["data"]["dataset"][name] = f"${{data.{group}}}"
    return _without_defaults(kept, Config)


def fingerprint(stored: dict[str, Any]) -> str:
    """Ten hex digits that stand for a run's `difference` from the defaults."""
    return digest(difference(stored))


def digest(value: Any) -> str:
    """Ten hex digits that stand for plain nested dicts and lists."""
    text = json.dumps(_as_floats(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def drop_known_root(dataset: dict[str, Any]) -> None:
    """Forget where files lie that are known by their checksums."""
    if str(dataset.get("_target_")).startswith(("mlprun.data.mnist.", "mlprun.data.cifar.")):
        dataset.pop("root", None)


def _repeats(data: dict[str, Any], group: str) -> list[str]:
    """The arguments of the data set that repeat a group of `data`."""
    values = data.get(group)
    if not isinstance(values, dict):
        return []
    return [name for name, value in data.get("dataset", {}).items() if value == values]


def _add_defaults(kept: dict[str, Any], section: type) -> None:
    for spec in dataclasses.fields(section):
        option: Option = spec.metadata["option"]
        if option.section is not None and isinstance(kept.get(spec.name), dict):
            _add_defaults(kept[spec.name], option.section)
        elif spec.name not in kept and spec.default != MISSING:
            default = default_of(spec)
            kept[spec.name] = dataclasses.asdict(default) if option.section and default is not None else default


def _without_defaults(kept: dict[str, Any], section: type) -> dict[str, Any]:
    found = dict(kept)
    for spec in dataclasses.fields(section):
        if spec.name not in kept:
            continue
        option, value = spec.metadata["option"], kept[spec.name]
        if option.section is not None and isinstance(value, dict):
            found[spec.name] = _without_defaults(value, option.section)
            unchanged = not found[spec.name] and spec.default is not None  # a group that may be null is not by default
        else:
            unchanged = value == default_of(spec)
        if unchanged:
            del found[spec.name]
    return found


def _as_floats(value: Any) -> Any:
    """1 and 1.0 are one value, however they were typed."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
