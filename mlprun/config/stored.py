"""The config of a run on disk: from its record, and with the changes of `mlprun resume`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check
from mlprun.config.hydra_private import apply_override, find_node, iter_nodes
from mlprun.config.identity import RESUMABLE
from mlprun.config.overrides import parse_override, quote_numbers, refuse_none, typed_value
from mlprun.config.schema import FOREIGN, Config
from mlprun.config.suggest import nearest_key, raise_explained
from mlprun.errors import ConfigError
from mlprun.files import expand_home

_ROOTED = ("root", "path", "dataset", "val_dataset", "test_dataset")  # where data.root is repeated
_ROOTS = ("data.root", "data.path")  # of data=csv both are the file
# The writers of a record from before they were configured.
_WRITERS = {
    "tensorboard": {"_target_": "mlprun.writers.tensorboard.TensorBoard"},
    "jsonl": {"_target_": "mlprun.writers.jsonl.JsonLines"},
    "images": {"_target_": "mlprun.writers.image_files.ImageFiles"},
    "console": {"_target_": "mlprun.writers.console.Console"},
}


def with_own_writers(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored config with mlprun's own writers only: inspecting a run reports it to no other service."""
    return {**stored, "writers": _WRITERS}


def with_root(stored: dict[str, Any], root: str) -> dict[str, Any]:
    """A stored config whose data lie in the folder `root`."""
    data = stored.get("data")
    if not isinstance(data, dict) or not isinstance(old := data.get("root"), str):
        return stored

    def moved(node: Any) -> Any:
        if isinstance(node, dict):
            return {name: moved(value) for name, value in node.items()}
        if isinstance(node, list):
            return [moved(value) for value in node]
        if isinstance(node, str) and f"{node}{os.sep}".startswith(f"{old.rstrip(os.sep)}{os.sep}"):
            return root + node.removeprefix(old.rstrip(os.sep)).rstrip(os.sep)
        return node

    return {**stored, "data": {name: moved(value) if name in _ROOTED else value for name, value in data.items()}}


def with_found_root(stored: dict[str, Any], typed: Path | None) -> dict[str, Any]:
    """A stored config whose data lie in `typed`; if that is None and they are gone, in the folder of MLPRUN_DATA."""
    root, known = stored["data"].get("root"), os.environ.get("MLPRUN_DATA")
    if typed is not None:
        if root is None:
            problem = f"is not where data={stored['data'].get('name')} is read from"
            raise ConfigError("data.root", typed, problem, "leave it out")
        return with_root(stored, str(typed))
    if not (known and isinstance(root, str)) or os.path.exists(os.path.expanduser(root)):
        return stored
    folder = expand_home(known).absolute()
    inside = folder / Path(root).name
    return with_root(stored, str(inside if inside.exists() else folder))


def take_root(lines: list[str]) -> tuple[Path | None, list[str]]:
    """The place that an override `data.root=FOLDER` or `data.path=FILE` names, absolute, and the other overrides."""
    root, others = None, []
    for line in lines:
        key = line.partition("=")[0]
        if key not in _ROOTS:
            others.append(line)
            continue
        override = parse_override(OverridesParser.create(), quote_numbers(line))
        if override.is_sweep_override() or not isinstance(value := override.value(), str) or not value:
            what = "folder" if key == "data.root" else "file"
            raise ConfigError(key, typed_value(override), f"must be one {what}, where the data lie now")
        root = expand_home(value).absolute()
    return root, others


def from_record(stored: dict[str, Any]) -> Config:
    """The `Config` recorded in `run.json`; keys that are newer than the run get their defaults."""
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(Config), with_own_writers({}) | stored)
        return check(cfg)  # type: ignore[arg-type]  # merged into a DictConfig, it is one
    except OmegaConfBaseException as error:
        raise_explained(error)


def resumed(config: Config, lines: list[str]) -> Config:
    """`config` with the overrides of `mlprun resume`; ConfigError for a key that cannot change or an invalid value."""
    cfg = OmegaConf.structured(config)
    typed = set()
    for line in lines:
        override = parse_override(OverridesParser.create(), line)
        refuse_none(override)
        key, value = override.key_or_group, typed_value(override)
        typed.add(key)
        if not any(key == known or key.startswith(f"{known}.") for known in RESUMABLE):
            remedy = f"only {', '.join(RESUMABLE)} can; for anything else start a new run"
            raise ConfigError(key, value, "cannot change when a run is resumed", remedy)
        node, adds = find_node(cfg, key), override.is_add() or override.is_force_add()
        is_foreign = any(key.startswith(f"{known}.") for known in FOREIGN)
        if (adds and node is not None) or ((adds or override.is_delete()) and not is_foreign):
            raise ConfigError(line, ConfigError.MISSING, "the key already exists", f"write {key}=…")
        if override.is_sweep_override():
            raise ConfigError(key, value, "takes one value when a run is resumed")
        if isinstance(node, DictConfig) and not override.is_delete():
            known = ", ".join(f"{key}.{name}" for name in map(str, node))
            raise ConfigError(key, value, "is a group of keys", f"choose one of {known}")
        if node is None and not adds:
            raise ConfigError(key, value, "there is no such key", nearest_key(key, [k for k, _ in iter_nodes(cfg)]))
        try:
            apply_override(override, cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise_explained(error, [override])
    if "epochs" in typed and "steps" not in typed and config.steps is not None:
        problem = f"this run's length is steps={config.steps}, which takes precedence"
        raise ConfigError("epochs", cfg.epochs, problem, "write steps=…")
    return check(cfg)
