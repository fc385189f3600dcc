"""Checks of a composed config that need no torch: ranges, durations, and keys that must fit together."""

from __future__ import annotations

import copy
import dataclasses
import math
from typing import Any

from omegaconf import DictConfig, OmegaConf, flag_override
from omegaconf.errors import OmegaConfBaseException

from mlprun.config.durations import parse as parse_duration
from mlprun.config.durations import parse_seconds
from mlprun.config.environment import keep_environment
from mlprun.config.hydra_private import is_missing, iter_nodes
from mlprun.config.options import CLOCK_TIME, DURATION, default_of, iter_options
from mlprun.config.schema import TABLE_KEYS, Config, DataConfig
from mlprun.config.suggest import raise_explained
from mlprun.errors import ConfigError
from mlprun.tasks.names import check_data, check_monitor

LIBRARIES = ("mlprun.", "torch.", "torchvision.", "torchmetrics.")  # none of their arguments may be infinite


def check(cfg: DictConfig) -> Config:
    """The composed config as a valid `Config`; ConfigError names the first invalid key, its value and the remedy."""
    return check_config(to_config(cfg))


def to_config(cfg: DictConfig) -> Config:
    """The composed config as a `Config` of which only the types are checked."""
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
    keep_environment(cfg, config)
    # a group that an argument repeats, `audio: ${data.audio}`, becomes a plain dict, as in a record
    config.data.dataset = {
        # an instance, as configs hold no classes
        name: dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value  # type: ignore[arg-type]
        for name, value in config.data.dataset.items()
    }
    for key, nodes in _transforms(config):
        nodes[:] = [_transform_node(node, f"{key}[{index}]") for index, node in enumerate(nodes)]
    return config


def _transforms(config: Config) -> list[tuple[str, list[Any]]]:
    lists = config.data.transforms
    return [("data.transforms.train", lists.train), ("data.transforms.eval", lists.eval)]


def _transform_node(typed: Any, key: str) -> dict[str, Any]:
    """A transform as typed: a name of torchvision.transforms.v2, a path, or either as a `_target_` with arguments."""
    node = typed if isinstance(typed, dict) else {"_target_": typed}
    target = node.get("_target_")
    if not isinstance(target, str) or not target:
        remedy = "write a name such as RandAugment, my_module.MyTransform or {_target_:RandomErasing,p:0.5}"
        raise ConfigError(key, typed, "is no transform", remedy)
    return node | {"_target_": target if "." in target else f"torchvision.transforms.v2.{target}"}


def check_config(config: Config) -> Config:
    """The same config; raises ConfigError as `check`."""
    options = list(iter_options(Config, config))
    for key, option, value in options:
        if option.check is not None and (problem := option.check.problem(value)) is not None:
            raise ConfigError(key, value, problem)
    if _has_other_numbers(config):
        _check_numbers(config.to_dict(), "")
    _check_class_arguments(config)
    for key, nodes in _transforms(config):
        if any(not isinstance(node, dict) or "_target_" not in node for node in nodes):
            raise ConfigError(key, nodes, "each transform needs a `_target_`")
    data = config.data
    _check_table_keys(data)
    check_monitor(config.monitor, data.task, data.num_outputs, config.metrics)
    check_data(data.task, data.name, data.input_shape, data.normalize_targets)
    _check_folds(data.num_folds, data.fold)
    for key, option, value in options:
        if option.unit == DURATION and value is not None and parse_duration(value, key=key).amount == 0:
            raise ConfigError(key, value, "must be longer than 0")
        if option.unit == CLOCK_TIME and value is not None:
            parse_seconds(value, key)
    if (unfreeze_at := config.trainer.unfreeze_at) is not None and not config.trainer.freeze:
        problem = "nothing is frozen that could start training"
        raise ConfigError("trainer.unfreeze_at", unfreeze_at, problem, "add trainer.freeze=[…], or leave it out")
    if config.batch_size != "all" and (accumulate := config.trainer.accumulate) > config.batch_size:
        problem = f"cannot split a batch of {config.batch_size} examples into so many parts"
        raise ConfigError("trainer.accumulate", accumulate, problem, f"choose at most batch_size={config.batch_size}")
    return config


def _check_folds(num_folds: int | None, fold: int | None) -> None:
    if num_folds is None:
        if fold is not None:
            raise ConfigError("data.fold", fold, "there are no folds", "add data.num_folds=5")
    elif fold is None:
        remedy = f"write data.fold=0, or run all: mlprun -m data.num_folds={num_folds} 'data.fold=range(0,{num_folds})'"
        raise ConfigError("data.num_folds", num_folds, "one of the folds must be val", remedy)
    elif fold >= num_folds:
        problem = f"the {num_folds} folds are 0 to {num_folds - 1}"
        raise ConfigError("data.fold", fold, problem, f"choose one of them, or data.num_folds={fold + 1}")


def _has_other_numbers(value: Any) -> bool:
    """Whether NaN or infinity is among the values."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if value is None or isinstance(value, (str, int)):
        return False
    if dataclasses.is_dataclass(value):
        value = vars(value)
    items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return any(map(_has_other_numbers, items))


def _check_numbers(value: Any, key: str, *, is_users_own: bool = False) -> None:
    """Refuse NaN, which passes checks such as `x > 1`, and infinity, except in arguments of the user's own classes."""
    if isinstance(value, dict):
        if "_target_" in value:
            is_users_own = not str(value["_target_"]).startswith(LIBRARIES)
        for name, item in value.items():
            _check_numbers(item, f"{key}.{name}" if key else str(name), is_users_own=is_users_own)
        return
    for number in value if isinstance(value, list | tuple) else [value]:
        if isinstance(number, float) and (math.isnan(number) or (math.isinf(number) and not is_users_own)):
            remedy = f"if it is a name, quote it: \"{key}='{value}'\"" if is_users_own else ""
            raise ConfigError(key, value, "must be a finite number", remedy)


def _check_table_keys(data: DataConfig) -> None:
    """Refuse keys of tables that would have no effect."""
    defaults = {spec.name: default_of(spec) for spec in dataclasses.fields(DataConfig)}
    for name in TABLE_KEYS:
        if (value := getattr(data, name)) != defaults[name] and name not in data.dataset:
            problem = f"is for tables, and data={data.name} is none"
            raise ConfigError(f"data.{name}", value, problem, "leave it out, or write data=csv")


def _check_class_arguments(config: Config) -> None:
    """Check the keys that every choice of a group has."""
    one_hot = config.loss.get("one_hot")
    _check_lr(config.optim, "optim")
    _check_optim_groups(config.optim.get("groups", {}))
    if one_hot is not None and not isinstance(one_hot, bool):
        raise ConfigError("loss.one_hot", one_hot, "must be true or false")
    if "_target_" not in config.data.dataset:
        raise ConfigError("data.dataset", ConfigError.MISSING, "needs a `_target_`: the class of the data set")
    for name in ("val_dataset", "test_dataset"):
        if (node := getattr(config.data, name)) and "_target_" not in node:
            raise ConfigError(f"data.{name}", node, "needs a `_target_`: the class of the data set")
    for group in ("model", "optim", "scheduler", "loss"):
        if "_target_" not in getattr(config, group):
            raise ConfigError(group, ConfigError.MISSING, "needs a `_target_`: the class to build")
    for name, node in config.writers.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(f"writers.{name}", ConfigError.MISSING, "needs a `_target_`: the class of the writer")
    if "jsonl" not in config.writers:
        problem = "is switched off, but resume, plot, runs and reproduce read its file"
        remedy = f"keep it: writer=[{','.join(['jsonl', *config.writers])}]"
        raise ConfigError("writers.jsonl", ConfigError.MISSING, problem, remedy)


def _check_lr(optim: dict[str, Any], key: str) -> None:
    lr = optim.get("lr")
    if lr is not None and not (isinstance(lr, int | float) and not isinstance(lr, bool) and 0 <= lr < math.inf):
        raise ConfigError(f"{key}.lr", lr, "must be a finite number, 0 or more, such as 1e-3")


def _check_optim_groups(groups: Any) -> None:
    """Check what each group of parameters says about itself; `job/build_optimizer.py` compares it with the model."""
    example = "write for example '+optim.groups.body={params:\"hidden.*\",lr:1e-5}'"
    if not isinstance(groups, dict):
        raise ConfigError("optim.groups", groups, "must be groups of parameters by name", example)
    for name, node in groups.items():
        key = f"optim.groups.{name}"
        if not isinstance(node, dict):
            raise ConfigError(key, node, "must be a group of parameters", example)
        params, ndim = node.get("params"), node.get("ndim")
        if params is None and ndim is None:
            remedy = f"write +{key}.params='hidden.*', a pattern or a list of them, or +{key}.ndim=2 for matrices"
            raise ConfigError(key, node, "does not say which parameters are in it", remedy)
        patterns = params if isinstance(params, list) else [params]
        if params is not None and (not patterns or any(not isinstance(p, str | int) or p is True for p in patterns)):
            remedy = "write for example hidden.* or [conv1,layer1]; quote what looks like a number"
            raise ConfigError(f"{key}.params", params, "must be a pattern of names of parameters, or a list", remedy)
        if ndim is not None and (not isinstance(ndim, int) or isinstance(ndim, bool) or ndim < 0):
            raise ConfigError(f"{key}.ndim", ndim, "must be a whole number: 2 for matrices")
        if not node.keys() - {"params", "ndim"}:
            raise ConfigError(key, node, "has no argument of its own", f"write for example +{key}.lr=1e-5")
        _check_lr(node, key)
