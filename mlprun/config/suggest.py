"""Did you mean: what a wrong key or a message of Hydra's stands for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NoReturn

from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.hydra_private import iter_nodes
from mlprun.config.overrides import typed_value
from mlprun.config.schema import Config
from mlprun.errors import ConfigError, UserError, close_matches, did_you_mean

# Words that people type for ours.
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
    siblings = [k for k in known if k.rpartition(".")[0] == parent]
    candidates: list[str] = []
    for exact in (f"{parent}.{last}" if parent else last, f"{parent.split('.')[0]}.{last}"):
        candidates += [k for k in known if k == exact]
    candidates = candidates or [k for k in known if k.rpartition(".")[2] == last]
    candidates = candidates or [
        f"{parent}.{n}" if parent else n for n in close_matches(last, (s.rpartition(".")[2] for s in siblings))
    ]
    candidates = candidates or close_matches(key, known)
    if not candidates:
        leaves: dict[str, str] = {}
        for k in known:
            leaves.setdefault(k.rpartition(".")[2], k)
        candidates = [leaves[name] for name in close_matches(last, leaves)]
    if candidates:
        return did_you_mean(dict.fromkeys(candidates[:3]))
    return "`mlprun --cfg job` shows every key"


def raise_explained(error: BaseException, overrides: Iterable[Override] = ()) -> NoReturn:
    """Raise what Hydra or OmegaConf found as a `ConfigError` of at most a few lines."""
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
            problem = (cause.msg or str(cause)).splitlines()[0]
            line = next((o for o in overrides if o.key_or_group == key), None)
            value: object = ConfigError.MISSING
            if line is not None and not line.is_delete():
                value, problem = typed_value(line), _plain(problem)
            remedy = ""
            if type(cause).__name__ in ("ConfigKeyError", "ConfigAttributeError"):
                problem = "there is no such key"
                known = [k for k, _ in iter_nodes(OmegaConf.structured(Config))]
                remedy = nearest_key(key, known)
                if key == "writer":  # Hydra's package of a file in that group
                    remedy = "the first line of your writer/NAME.yaml must be: # @package writers.NAME"
            raise ConfigError(key, value, problem, remedy) from error
    text = " ".join(str(chain[0]).split())
    raise ConfigError("config", ConfigError.MISSING, text[:600]) from error


def _plain(problem: str) -> str:
    """OmegaConf's type errors in plain words."""
    kinds = {"Integer": "a whole number", "Float": "a number", "Boolean": "true or false", "String": "a text"}
    found = re.search(r"could not be converted to (\w+)|is not a valid (bool)", problem)
    if found:
        kind = kinds.get(found[1] or "Boolean", found[1])
        return f"must be {kind}"
    if "is not a ListConfig" in problem:
        return "must be a list, such as [a,b]"
    return problem.replace("\n", " ")
