"""Replaces values in a composed config without composing again, for the points of a large sweep."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check_config, to_config
from mlprun.config.hydra_private import converted, find_node, is_value
from mlprun.config.schema import Config

# Resolvers that read only their arguments. Others may read any key.
KNOWN_RESOLVERS = (
    *("mlprun.data_root", "mlprun.loss_of", "mlprun.num_class_folders", "mlprun.num_frames", "mlprun.table"),
    *("oc.env", "now"),
)


class Template:
    """A composed config, and the keys on which nothing else in it depends."""

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._config = to_config(cfg)
        self._references: set[str] | None = _references(cfg)
        self._nodes: dict[str, ValueNode | None] = {}
        self._changes: dict[str | None, tuple[list[str], Any] | None] = {}  # by the line of an override

    def with_values(self, overrides: list[Override]) -> Config | None:
        """The checked config with these values; None if it must be composed. Raises ConfigError as `check`."""
        config = self._config
        for override in overrides:
            line = override.input_line
            if line not in self._changes:
                self._changes[line] = self._change(override)
            if (change := self._changes[line]) is None:
                return None
            if not override.is_hydra_override():  # not part of `Config`
                config = _replaced(config, *change)
        return check_config(config)

    def _change(self, override: Override) -> tuple[list[str], Any] | None:
        """The path and the value of an override, None if it must be composed."""
        if (node := self._node(override)) is None:
            return None
        try:
            return override.key_or_group.split("."), converted(node, override.value())
        except OmegaConfBaseException:
            return None  # a composition explains the error

    def _node(self, override: Override) -> ValueNode | None:
        """The node of a single value, None if something else depends on it."""
        key, value = override.key_or_group, override.value()
        is_unresolved = isinstance(value, str) and ("${" in value or "???" in value)
        if override.is_add() or override.is_force_add() or override.is_delete() or override.package:
            return None
        if is_unresolved or isinstance(value, list | dict):
            return None
        if override.is_hydra_override():
            node = find_node(self._cfg, key)
            return node if isinstance(node, ValueNode) else None
        if key not in self._nodes:
            node = None if self._is_referenced(key) else find_node(self._cfg, key)
            self._nodes[key] = node if is_value(node) else None
        return self._nodes[key]

    def _is_referenced(self, key: str) -> bool:
        if self._references is None:
            return True
        return any(
            key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.") for other in self._references
        )


def _references(cfg: DictConfig) -> set[str] | None:
    """The keys used by interpolations outside of `hydra`; None if their text does not determine them."""
    keys: set[str] = set()
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    plain.pop("hydra", None)
    for inner in re.findall(r"\$\{([^${}]*)", json.dumps(plain, ensure_ascii=False, default=str)):
        name, is_resolver, _ = inner.partition(":")
        if inner.startswith(".") or (is_resolver and name not in KNOWN_RESOLVERS):
            return None
        if inner and not is_resolver:
            keys.add(inner.strip())
    return keys


def _replaced(config: Any, path: list[str], value: Any) -> Any:
    """A copy of nested dataclasses and dicts with one value replaced; copies along the path only."""
    first, *rest = path
    if isinstance(config, dict):
        return {**config, first: _replaced(config[first], rest, value) if rest else value}
    changed = _replaced(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: changed})
