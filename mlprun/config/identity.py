"""The identity of a run: the part of its resolved config that determines its result.

Directory names end in a hash of its difference from the defaults, `fingerprint`, so that a new key of the schema
renames no existing directory.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import MISSING

from mlprun.config.options import as_dict, default_of, fields_of
from mlprun.config.schema import INPUT_SECTIONS, Config
from mlprun.runs.record import section
from mlprun.version_one import upgrade_config

# Keys that may change when a run is resumed.
RESUMABLE = ("epochs", "steps", "trainer.max_time", "trainer.devices", "device", "checkpoint", "logging", "writers")
LENGTH_KEYS = ("epochs", "steps")
# Further keys that no result depends on.
RESULT_FREE = ("sweep", "inspect", "data.root", "data.path")
IMAGE_FOLDER = "mlprun.data.image_folder.image_folder"


def with_defaults(stored: dict[str, Any]) -> dict[str, Any]:
    """A copy of a stored config in today's terms, in which newer keys have their defaults."""
    config = without_unused(upgrade_config(stored))
    data = section(config, "data")
    dataset = section(data, "dataset")
    repeated = {name: group for group in INPUT_SECTIONS for name in _repeats(data, group)}
    _add_defaults(config, Config)
    for name, group in repeated.items():
        dataset[name] = data[group]
    if dataset.get("_target_") == IMAGE_FOLDER and dataset.get("resize") == data.get("resize"):
        dataset.pop("resize", None)  # `data.resize` says it, and older runs have no such argument
    return config


def identity(stored: dict[str, Any], *, length: bool = True) -> dict[str, Any]:
    """The keys that determine a run's result, newer ones with their defaults; `length`: with epochs and steps."""
    config = with_defaults(stored)
    for key in (*RESUMABLE, *RESULT_FREE):
        if length and key in LENGTH_KEYS:
            continue
        *parents, last = key.split(".")
        node = config
        for parent in parents:
            node = section(node, parent)
        node.pop(last, None)
    drop_known_root(section(section(config, "data"), "dataset"))
    return config


def difference(stored: dict[str, Any]) -> dict[str, Any]:
    """The part of a run's `identity` that differs from the schema's defaults, and all arguments of classes."""
    config = identity(stored)
    if isinstance(config.get("data"), dict):
        for group in INPUT_SECTIONS:
            for name in _repeats(config["data"], group):
                config["data"]["dataset"][name] = f"${{data.{group}}}"
    return _without_defaults(config, Config)


def fingerprint(stored: dict[str, Any]) -> str:
    """Ten hex digits of a hash of a run's `difference`."""
    return digest(difference(stored))


def digest(value: Any) -> str:
    """Ten hex digits of a hash of nested dicts and lists."""
    text = json.dumps(_as_floats(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def without_unused(config: dict[str, Any]) -> dict[str, Any]:
    """The config without a null `loss.class_weights`, which older runs lack; it is changed in place."""
    loss = section(config, "loss")
    if loss.get("class_weights") is None:
        loss.pop("class_weights", None)
    return config


def drop_known_root(dataset: dict[str, Any]) -> None:
    """Remove the folder of files that are verified by checksums."""
    if str(dataset.get("_target_")).startswith(("mlprun.data.mnist.", "mlprun.data.cifar.")):
        dataset.pop("root", None)


def _repeats(data: dict[str, Any], group: str) -> list[str]:
    """The arguments of the data set that repeat a group of `data`."""
    values = data.get(group)
    same = [name for name, value in section(data, "dataset").items() if value == values]
    return same if isinstance(values, dict) else []


def _add_defaults(config: dict[str, Any], schema: type) -> None:
    for name, (option, spec) in fields_of(schema).items():
        if option.section is not None and isinstance(config.get(name), dict):
            _add_defaults(config[name], option.section)
        elif name not in config and spec.default != MISSING:
            config[name] = as_dict(default_of(spec))


def _without_defaults(config: dict[str, Any], schema: type) -> dict[str, Any]:
    changed = dict(config)
    for name, (option, spec) in fields_of(schema).items():
        if name not in config:
            continue
        value = config[name]
        if option.section is not None and isinstance(value, dict):
            changed[name] = _without_defaults(value, option.section)
            is_default = not changed[name] and spec.default is not None  # else the default is null
        else:
            is_default = value == default_of(spec)
        if is_default:
            del changed[name]
    return changed


def _as_floats(value: Any) -> Any:
    """Make 1 and 1.0 equal."""
    if isinstance(value, dict):
        return {key: _as_floats(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    # no bool; larger ones would round
    return float(value) if type(value) is int and abs(value) < 2**53 else value
