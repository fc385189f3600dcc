"""A composed config in which values are replaced without composing it again: the points of a large sweep."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, ValueNode
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check_config, to_config
from mlprun.config.hydra_private import converted, find_node, is_value
from mlprun.config.schema import Config

# Resolvers that read nothing of the config but their arguments. What another one reads is not known.
KNOWN_RESOLVERS = ("mlprun.data_root", "mlprun.num_class_folders", "mlprun.num_frames", "oc.env", "now")


class Template:
    """A config, and the keys whose values nothing else in it depends on.

    Args:
        cfg: composed; not changed.
    """

    def __init__(self, cfg: DictConfig) -> None:
        self._cfg = cfg
        self._config = to_config(cfg)
        self._references: set[str] | None = _references(cfg)
        self._nodes: dict[str, ValueNode | None] = {}

    def with_values(self, overrides: list[Override]) -> Config | None:
        """The checked config with these values, None where it has to be composed to know it.

        Raises:
            ConfigError: as `check`.
        """
        config = self._config
        for override in overrides:
            node = self._node(override)
            if node is None:
                return None
            try:
                value = converted(node, override.value())
            except OmegaConfBaseException:
                return None  # a composition says what is wrong with it
            if not override.is_hydra_override():  # no Config holds those
                config = _replaced(config, override.key_or_group.split("."), value)
        return check_config(config)

    def _node(self, override: Override) -> ValueNode | None:
        """The node of a single value on which nothing else depends, else None."""
        key, value = override.key_or_group, override.value()
        plain = not (override.is_add() or override.is_force_add() or override.is_delete() or override.package)
        unresolved = isinstance(value, str) and ("${" in value or "???" in value)
        if not plain or unresolved or isinstance(value, list | dict):
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
    """The keys that interpolations outside of `hydra` name; None where that cannot be told from their text."""
    found: set[str] = set()
    plain = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(plain, dict)
    texts = [text for name, value in plain.items() if name != "hydra" for text in _interpolations(value)]
    for text in texts:
        for inner in re.findall(r"\$\{([^${}]*)", text):
            name, is_resolver, _ = inner.partition(":")
            if is_resolver:
                if name not in KNOWN_RESOLVERS:
                    return None
            elif inner.startswith("."):
                return None
            elif inner:
                found.add(inner.strip())
    return found


def _interpolations(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _interpolations(item)]
    if isinstance(value, list):
        return [text for item in value for text in _interpolations(item)]
    return [value] if isinstance(value, str) and "${" in value else []


def _replaced(config: Any, path: list[str], value: Any) -> Any:
    """A copy along the path only, of dataclasses and dicts."""
    first, *rest = path
    if isinstance(config, dict):
        return {**config, first: _replaced(config[first], rest, value) if rest else value}
    changed = _replaced(getattr(config, first), rest, value) if rest else value
    return dataclasses.replace(config, **{first: changed})
