"""Which choice of a group a stored config has: `mlp` for one whose `_target_` is `mlprun.models.mlp.MLP`."""

from __future__ import annotations

from functools import cache
from typing import Any

from omegaconf import OmegaConf

from mlprun.config.resolvers import conf_dirs


def choice_of(group: str, node: dict[str, Any]) -> str:
    """The choice of mlprun's own that names the class and shares most values; empty if none does."""
    known = [(name, values) for name, values in _choices(group).items() if values["_target_"] == node.get("_target_")]
    shared = {name: sum(node.get(key) == value for key, value in values.items()) for name, values in known}
    return max(shared, key=lambda name: shared[name], default="")


@cache
def _choices(group: str) -> dict[str, dict[str, Any]]:
    files = {file.stem: file for folder in conf_dirs() for file in sorted((folder / group).glob("*.yaml"))}
    nodes: dict[str, Any] = {name: OmegaConf.to_container(OmegaConf.load(file)) for name, file in files.items()}
    return {name: node for name, node in nodes.items() if isinstance(node, dict) and "_target_" in node}
