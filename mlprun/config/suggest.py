"""Suggestions for unknown keys, and explanations of Hydra's and OmegaConf's errors."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from mlprun.config.hydra_private import iter_nodes
from mlprun.config.overrides import typed_value
from mlprun.config.schema import Config
from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean

# Names that other programs use.
_SYNONYMS = {
    "learning_rate": "lr",
    "batch": "batch_size",
    "bs": "batch_size",
    "optimizer": "optim",
    "criterion": "loss",
    "arch": "model",
    "net": "model",
    "dataset": "data",
    "lr_scheduler": "scheduler",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "max_steps": "steps",
    "random_seed": "seed",
    "hidden_sizes": "hidden",
    "wd": "weight_decay",
}


def nearest_key(key: str, known: Iterable[str]) -> str:
    """`did you mean 'optim.lr'?` for `lr`, `optim.learning_rate`, `optm` …"""
    known = list(dict.fromkeys(known))
    parent, _, last = key.rpartition(".")
    last = _SYNONYMS.get(last, last)
    prefix = f"{parent}." if parent else ""
    leaves = {k.rpartition(".")[2]: k for k in reversed(known)}
    siblings = [k.rpartition(".")[2] for k in known if k.rpartition(".")[0] == parent]
    candidates = (
        [k for k in (f"{prefix}{last}", f"{parent.split('.')[0]}.{last}") if k in known]
        or [k for k in known if k.rpartition(".")[2] == last]
        or [f"{prefix}{name}" for name in close_matches(last, siblings)]
        or close_matches(key, known)
        or [leaves[name] for name in close_matches(last, leaves)]
    )
    return did_you_mean(dict.fromkeys(candidates[:3])) if candidates else "`mlprun --cfg job` shows every key"


def raise_explained(error: BaseException, overrides: Iterable[Override] = ()) -> NoReturn:
    """Raise an error of Hydra or OmegaConf as a short `ConfigError`."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in chain:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    for cause in chain:
        if isinstance(cause, UserError):
            raise cause
    for cause in chain:
        key = getattr(cause, "full_key", None)
        if isinstance(cause, OmegaConfBaseException) and key:
            problem, remedy = _plain((cause.msg or str(cause)).splitlines()[0])
            override = next((o for o in overrides if o.key_or_group == key), None)
            value = ConfigError.MISSING
            if override is not None and not override.is_delete():
                value = typed_value(override)
            if isinstance(cause, ConfigKeyError | ConfigAttributeError):
                problem = "there is no such key"
                remedy = nearest_key(key, [k for k, _ in iter_nodes(OmegaConf.structured(Config))])
                parent = next((o for o in overrides if key.startswith(f"{o.key_or_group}.") and _has_dict(o)), None)
                if key.startswith("hydra.") and parent is not None:
                    remedy = f"write +{parent.input_line}, which adds it"
                elif key.startswith("hydra."):
                    remedy = "mlprun --cfg hydra shows the keys"
                is_chosen = override is not None and not override.is_delete() and "." not in key
                if key == "experiment" or is_chosen:  # a choice of a group
                    problem = f"the file puts its keys under {key}, where none belong"
                    remedy = f"begin {key}/{'NAME' if override is None else value}.yaml with: # @package _global_"
                if key == "writer":  # Hydra's package of a file in that group
                    remedy = "the first line of your writer/NAME.yaml must be: # @package writers.NAME"
            raise ConfigError(key, value, problem, remedy) from error
    text = " ".join(str(chain[0]).partition("\n    full_key:")[0].split())
    if match := re.match(r"Could not override '(.*?)'\. No match in the defaults list", text):
        raise ConfigError(match[1], ConfigError.MISSING, "is a group without a default", f"write +{match[1]}=…")
    raise ConfigError("config", ConfigError.MISSING, text[:600]) from error


def _has_dict(override: Override) -> bool:
    return not (override.is_delete() or override.is_sweep_override()) and isinstance(override.value(), dict)


def _plain(problem: str) -> tuple[str, str]:
    """A problem of OmegaConf's in plain words, and its remedy."""
    problem = re.sub(r"^\w+ raised while resolving interpolation: ", "", problem).strip('"')
    if match := re.fullmatch(r"Environment variable '(.*)' not found", problem):
        name = match[1]
        remedy = f"set it, {name}=… mlprun …, or give a default: ${{oc.env:{name},…}}"
        return f"refers to the environment variable {name}, which is not set", remedy
    if match := re.fullmatch(r"Interpolation key '(.*)' not found", problem):
        return f"refers to ${{{match[1]}}}, and there is no such key", "`mlprun --cfg job` shows every key"
    if problem.endswith("is not Optional"):
        return "cannot be null", ""
    if re.search("is not a subclass of|Cannot assign .* to Dict", problem):
        return "is a group of keys, not a value", "write GROUP.KEY=…"
    if problem == "Cannot merge DictConfig with ListConfig":
        return "a list and a group of keys do not replace one another", ""
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a text"}
    if match := re.search(r"could not be converted to (\w+)|is not a valid (bool)", problem):
        remedy = "write null there, YAML's word" if "'None'" in problem else ""
        return f"must be {kinds.get(match[1] or 'Boolean', match[1])}", remedy
    return "must be a list, such as [a,b]" if "is not a ListConfig" in problem else problem, ""
