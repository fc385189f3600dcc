"""Values of environment variables: a config keeps `${oc.env:NAME}`, which may be a secret, and not the value."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.schema import FOREIGN, Config
from mlprun.errors import ConfigError

_ENVIRONMENT = "${oc.env:"
_REFERENCE = re.compile(r"\$\{([A-Za-z_][\w.\[\]]*)\}")  # to another key


def keep_environment(cfg: DictConfig, config: Config) -> None:
    """Put back the `${oc.env:…}` of the arguments of classes, which `construct` fills in; mlprun's own keys need them.

    `config` is what `cfg` was resolved to; it is changed in place.
    """
    raw = OmegaConf.to_container(cfg, resolve=False)
    if _ENVIRONMENT not in str(raw):
        return
    for key in FOREIGN:
        *parents, name = key.split(".")
        owner: Any = config
        for parent in parents:
            owner = getattr(owner, parent)
        setattr(owner, name, _kept(_find(raw, key), getattr(owner, name), raw, cfg))


def unresolved(lines: Any) -> list[str]:
    """Overrides as typed: Hydra's list would give the values of the variables."""
    return [str(line) for line in OmegaConf.to_container(lines, resolve=False) or ()]


def filled_in(node: Any, key: str) -> Any:
    """A copy of a node with the values of environment variables; ConfigError if one is not set."""
    if isinstance(node, dict):
        return {name: filled_in(value, f"{key}.{name}") for name, value in node.items()}
    if isinstance(node, list):
        return [filled_in(value, f"{key}.{i}") for i, value in enumerate(node)]
    if not isinstance(node, str) or _ENVIRONMENT not in node:
        return node
    try:
        return OmegaConf.create({"value": node}).value
    except OmegaConfBaseException as error:
        problem = str(error).splitlines()[0]
        raise ConfigError(key, node, problem, "set the variable before the command, or give it a default") from error


def _kept(raw: Any, resolved: Any, root: Any, cfg: DictConfig) -> Any:
    if isinstance(raw, dict) and isinstance(resolved, dict):
        return {k: v if k == "_target_" else _kept(raw.get(k), v, root, cfg) for k, v in resolved.items()}
    if isinstance(raw, list) and isinstance(resolved, list) and len(raw) == len(resolved):
        return [_kept(a, b, root, cfg) for a, b in zip(raw, resolved, strict=True)]
    if not isinstance(raw, str) or not isinstance(resolved, str):
        return resolved
    reference = _REFERENCE.fullmatch(raw)
    text = _find(root, reference[1]) if reference else raw
    if not isinstance(text, str) or _ENVIRONMENT not in text:
        return resolved
    return _REFERENCE.sub(lambda match: str(OmegaConf.select(cfg, match[1])), text)


def _find(node: Any, key: str) -> Any:
    for name in key.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    return node
