"""Names and values that complete an override, as the other overrides of its line have it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from hydra.core.object_type import ObjectType
from omegaconf import BooleanNode, DictConfig

from mlprun.config.compose import OPTIONAL, Composer
from mlprun.config.hydra_private import find_node, is_optional, is_value
from mlprun.config.options import iter_options
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.formatting import as_typed


class Completion:
    """What can follow `words`; a line that is wrong elsewhere is completed as if it were empty."""

    def __init__(self, words: Sequence[str], config_dir: str | None = None, config_name: str = "config") -> None:
        self._composer = Composer(config_dir, config_name)
        self._loader, self._words = self._composer.loader, [*words]

    @cached_property
    def _cfg(self) -> DictConfig:
        try:
            return self._composer.compose(self._words, multirun=True)
        except UserError:
            return self._composer.compose([], multirun=True)

    def names(self, prefix: str) -> list[str]:
        """Groups, as `model=`, and keys, as `seed=` or `optim.`, of the level that `prefix` is in."""
        found = []
        parent = prefix.rpartition("/")[0]
        for name in self._loader.list_groups(parent):
            group = f"{parent}/{name}" if parent else name
            found += [f"{group}="] * bool(self._loader.options(group))
            found += [f"{group}/"] * bool(self._loader.list_groups(group))
        parent = prefix.rpartition(".")[0]
        node = find_node(self._cfg, parent) if parent else self._cfg
        if isinstance(node, DictConfig):
            for name in map(str, node):
                key = f"{parent}.{name}" if parent else name
                has_keys = isinstance(child := find_node(self._cfg, key), DictConfig) and len(child)
                found.append(f"{key}." if has_keys else f"{key}=")
        return found

    def values(self, key: str) -> list[str]:
        """The options of a group; of a key, all its values if they are known, or else the one that it has."""
        if options := self._loader.options(key):
            folders = self._loader.get_group_options(key, ObjectType.GROUP)
            return [*options, *(f"{folder}/" for folder in folders), *["null"] * (key in OPTIONAL)]
        node = find_node(self._cfg, key)
        known = [*_choices().get(key, []), *["null"] * (node is not None and is_optional(node))]
        present = node._value() if is_value(node) else None
        if isinstance(node, BooleanNode) or isinstance(present, bool):
            known += ["true", "false"]
        elif key not in _choices() and present is not None:
            known.append(as_typed(present))
        return known


def _choices() -> dict[str, list[str]]:
    """The values that the range of each key names."""
    checked = ((key, option.check) for key, option, _ in iter_options(Config, Config()) if option.check)
    return {key: found for key, check in checked if (found := re.findall(r"`([a-z]\w*)`", check.text))}
