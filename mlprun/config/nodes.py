"""Nodes of a config, with nothing resolved."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig


def find_node(cfg: DictConfig, key: str) -> Any:
    """The node at a dotted key, with nothing resolved; None where there is none."""
    node: Any = cfg
    for part in re.split(r"[.\[\]]+", key.rstrip("]")):
        if isinstance(node, ListConfig) and part.isdigit() and int(part) < len(node):
            node = node._get_node(int(part))
        elif isinstance(node, DictConfig) and not (node._is_none() or node._is_missing()) and part in list(node):
            node = node._get_node(part)
        else:
            return None
    return node


def iter_nodes(cfg: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, node) of everything in `cfg`, with nothing resolved."""
    if cfg._is_none() or cfg._is_missing():
        return
    for name in map(str, cfg):
        node = cfg._get_node(name)
        yield f"{prefix}{name}", node
        if isinstance(node, DictConfig):
            yield from iter_nodes(node, f"{prefix}{name}.")
