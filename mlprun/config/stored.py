"""The config of a run that is on disk: read from its record, and changed by `mlprun resume`."""

from __future__ import annotations

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.checks import check
from mlprun.config.hydra_private import apply_override, find_node, iter_nodes
from mlprun.config.identity import RESUMABLE
from mlprun.config.overrides import parse_override, typed_value
from mlprun.config.schema import FOREIGN, Config
from mlprun.config.suggest import nearest_key, raise_explained
from mlprun.errors import ConfigError

# Where every run wrote to before it was configured.
_WRITERS = {
    "tensorboard": {"_target_": "mlprun.writers.tensorboard.TensorBoard"},
    "jsonl": {"_target_": "mlprun.writers.jsonl.JsonLines"},
    "images": {"_target_": "mlprun.writers.image_files.ImageFiles"},
    "console": {"_target_": "mlprun.writers.console.Console"},
}


def with_own_writers(stored: dict[str, Any]) -> dict[str, Any]:
    """A stored config with mlprun's own writers and no others: whoever only looks at a run tells no one else of it."""
    return {**stored, "writers": _WRITERS}


def from_record(stored: dict[str, Any]) -> Config:
    """The `Config` of a run that was recorded in `run.json`; keys that are newer than the run get their defaults."""
    try:
        cfg = OmegaConf.merge(OmegaConf.structured(Config), with_own_writers({}) | stored)
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
        node, adds = find_node(cfg, key), override.is_add() or override.is_force_add()
        foreign = any(key.startswith(f"{known}.") for known in FOREIGN)
        if (adds and node is not None) or ((adds or override.is_delete()) and not foreign):
            raise ConfigError(line, ConfigError.MISSING, "the key is there already", f"write {key}=…")
        if override.is_sweep_override():
            raise ConfigError(key, typed_value(override), "takes one value when a run is continued")
        if isinstance(node, DictConfig) and not override.is_delete():
            known = ", ".join(f"{key}.{name}" for name in map(str, node))
            raise ConfigError(key, typed_value(override), "is a group of keys", f"choose one of {known}")
        if node is None and not adds:
            remedy = nearest_key(key, [k for k, _ in iter_nodes(cfg)])
            raise ConfigError(key, typed_value(override), "there is no such key", remedy)
        try:
            apply_override(override, cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise_explained(error, [override])
    if "epochs" in typed and "steps" not in typed and config.steps is not None:
        raise ConfigError(
            "epochs", cfg.epochs, f"the length of this run is steps={config.steps}, which wins", "write steps=…"
        )
    return check(cfg)
