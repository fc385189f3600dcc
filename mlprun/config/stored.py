"""The config of a run that is on disk: read from its record, and changed by `mlprun resume`."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check
from mlprun.config.hydra_private import find_node, iter_nodes
from mlprun.config.identity import RESUMABLE
from mlprun.config.overrides import parse_override, typed_value
from mlprun.config.schema import Config
from mlprun.config.suggest import nearest_key, raise_explained
from mlprun.errors import ConfigError


def from_record(stored: dict[str, Any]) -> Config:
    """The `Config` of a run that was recorded in `run.json`; keys that are newer than the run get their defaults."""
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(Config), stored)
        return check(cfg)  # type: ignore[arg-type]
    except OmegaConfBaseException as error:
        raise_explained(error)


def resumed(config: Config, lines: list[str]) -> Config:
    """`config` with the override lines of `mlprun resume`.

    Raises:
        ConfigError: a key that decides what the run is, or a value that cannot work.
    """
    cfg = OmegaConf.structured(config)
    typed = set()
    for line in lines:
        override = parse_override(OverridesParser.create(), line)
        key = override.key_or_group
        typed.add(key)
        if not any(key == known or key.startswith(f"{known}.") for known in RESUMABLE):
            raise ConfigError(
                key, typed_value(override), "cannot change when a run is continued",
                f"only {', '.join(RESUMABLE)} can; for anything else start a new run",
            )  # fmt: skip
        if override.is_add() or override.is_force_add() or override.is_delete():
            raise ConfigError(line, ConfigError.MISSING, "the key is there already", f"write {key}=…")
        if override.is_sweep_override():
            raise ConfigError(key, typed_value(override), "takes one value when a run is continued")
        node = find_node(cfg, key)
        if isinstance(node, DictConfig):
            known = ", ".join(f"{key}.{name}" for name in map(str, node))
            raise ConfigError(key, typed_value(override), "is a group of keys", f"choose one of {known}")
        if node is None:
            remedy = nearest_key(key, [k for k, _ in iter_nodes(cfg)])
            raise ConfigError(key, typed_value(override), "there is no such key", remedy)
        try:
            OmegaConf.update(cfg, key, override.value())
        except OmegaConfBaseException as error:
            raise_explained(error, [override])
    if "epochs" in typed and "steps" not in typed and config.steps is not None:
        raise ConfigError(
            "epochs", cfg.epochs, f"the length of this run is steps={config.steps}, which wins", "write steps=…"
        )
    return check(cfg)
