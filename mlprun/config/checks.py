"""Checks of a composed config that need no torch: ranges, durations, and what must fit together."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.durations import parse as parse_duration
from mlprun.config.durations import parse_seconds
from mlprun.config.hydra_private import is_missing, iter_nodes
from mlprun.config.options import CLOCK_TIME, DURATION, iter_options
from mlprun.config.schema import Config
from mlprun.config.suggest import raise_explained
from mlprun.errors import ConfigError
from mlprun.task_names import CUSTOM, check_monitor


def _rate(value: Any) -> str | None:
    """`optim.lr` is the one foreign key that every optimizer has; null where there is none."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if value is None or (number and 0 <= value < math.inf):
        return None
    return "must be a finite number, 0 or more, such as 1e-3"


# Keys of somebody's class that every choice has.
_FOREIGN_CHECKS: dict[str, Callable[[Any], str | None]] = {
    "optim.lr": _rate,
    "loss.one_hot": lambda v: None if v is None or isinstance(v, bool) else "must be true or false",
}


def check(cfg: DictConfig) -> Config:
    """The composed config as a `Config`: types, ranges and durations are known to be good. Its `hydra` is left out.

    Raises:
        ConfigError: names the first key that cannot work, its value and the remedy.
    """
    return check_config(to_config(cfg))


def to_config(cfg: DictConfig) -> Config:
    """The composed config as a `Config` whose types are known to be good, and nothing else."""
    cfg = copy.deepcopy(cfg)
    with flag_override(cfg, ["struct", "readonly"], [False, False]):
        cfg.pop("hydra", None)
    try:
        for key, node in iter_nodes(cfg):
            if is_missing(node):
                raise ConfigError(key, ConfigError.MISSING, "has no value", f"add {key}=… to the command line")
        config = OmegaConf.to_object(cfg)
    except OmegaConfBaseException as error:
        raise_explained(error)
    if not isinstance(config, Config):
        raise TypeError(f"expected a config of the schema, got {type(config).__name__}")
    # a whole group that an argument repeats, `audio: ${data.audio}`, is plain, as it is in a record
    config.data.dataset = {
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in config.data.dataset.items()
    }
    return config


def check_config(config: Config) -> Config:
    """The config itself, if it can work.

    Raises:
        ConfigError: as `check`.
    """
    _check_values(config)
    for key, problem_of in _FOREIGN_CHECKS.items():
        group, _, name = key.partition(".")
        value = getattr(config, group).get(name)
        if (problem := problem_of(value)) is not None:
            raise ConfigError(key, value, problem)
    check_monitor(config.monitor, config.data.task, config.data.num_outputs, config.metrics)
    if config.data.input_shape is None and config.data.task != CUSTOM:
        raise ConfigError(
            "data.input_shape", None, f"data.task={config.data.task} needs pairs of input and target",
            "give the shape of an input; null is for task=custom and task=model",
        )  # fmt: skip
    if config.data.normalize_targets and config.data.task != "regression":
        raise ConfigError(
            "data.normalize_targets",
            True,
            f"scales values, and the targets of {config.data.name} are classes",
            "leave it out; it is for data.task=regression",
        )
    if config.data.audio is not None and (config.data.augment.crop or config.data.augment.flip):
        raise ConfigError(
            "data.augment", dataclasses.asdict(config.data.augment), "is for images: it would play sound backwards",
            "leave it out",
        )  # fmt: skip
    if "_target_" not in config.data.dataset:
        raise ConfigError("data.dataset", ConfigError.MISSING, "needs a `_target_`: the class of the data set")
    for group in ("model", "optim", "scheduler", "loss"):
        if "_target_" not in getattr(config, group):
            raise ConfigError(group, ConfigError.MISSING, "needs a `_target_`: the class to build")
    _check_writers(config.writers)
    _check_durations(config)
    if config.batch_size != "all" and config.trainer.accumulate > config.batch_size:
        raise ConfigError(
            "trainer.accumulate",
            config.trainer.accumulate,
            f"cannot split a batch of {config.batch_size} examples into so many parts",
            f"choose at most batch_size={config.batch_size}",
        )
    return config


def _check_writers(writers: dict[str, Any]) -> None:
    for name, node in writers.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(f"writers.{name}", ConfigError.MISSING, "needs a `_target_`: the class of the writer")
    if "jsonl" not in writers:
        raise ConfigError(
            "writers.jsonl", ConfigError.MISSING,
            "is switched off, and what it writes is what resume, plot, runs and reproduce read",
            f"keep it: writer=[{','.join(['jsonl', *writers])}]",
        )  # fmt: skip


def _check_values(config: Config) -> None:
    for key, option, value in iter_options(Config, config):
        if option.check is not None and (problem := option.check.problem(value)) is not None:
            raise ConfigError(key, value, problem)


def _check_durations(config: Config) -> None:
    for key, option, value in iter_options(Config, config):
        if option.unit == DURATION and parse_duration(value, key=key).amount == 0:
            raise ConfigError(key, value, "must be longer than 0")
        if option.unit == CLOCK_TIME and value is not None:
            parse_seconds(value, key)
