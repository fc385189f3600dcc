"""From config to the task with its loss, and the metrics of an evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mlprun.config.instantiate import bind, construct, locate
from mlprun.config.schema import Config
from mlprun.data.normalize import Normalizer
from mlprun.errors import ConfigError
from mlprun.task_names import TARGETS
from mlprun.tasks.base import Metric, Task
from mlprun.tasks.custom import Custom
from mlprun.tasks.metrics import FunctionMetric
from mlprun.tasks.regression import Regression
from mlprun.tasks.supervised import Supervised


def build_task(config: Config, target_normalizer: Normalizer | None = None) -> Task:
    """The task, with the loss of the config where it has one.

    Args:
        target_normalizer: how the targets of a regression are scaled.

    Raises:
        ConfigError: the loss does not fit the targets, or `task` names nothing that is a task.
    """
    node = dict(config.task)
    if "_target_" not in node:
        if config.data.task not in TARGETS:
            raise ConfigError(
                "data.task", config.data.task, "names no built-in task",
                "write task=custom task._target_=my_module.my_task, or task=model for a model with a training_step",
            )  # fmt: skip
        node["_target_"] = TARGETS[config.data.task]
    found = locate(node["_target_"], "task._target_")
    if isinstance(found, type) and issubclass(found, Supervised):
        criterion, one_hot = build_criterion(config)
        more = (target_normalizer,) if issubclass(found, Regression) else ()
        return construct(node, "task", criterion, config.data.num_outputs, one_hot, *more)  # type: ignore[no-any-return]
    if isinstance(found, type) and issubclass(found, Task):
        return construct(node, "task")  # type: ignore[no-any-return]
    higher_is_better = node.pop("higher_is_better", None)
    return Custom(bind(node, "task", 2), higher_is_better)


def build_criterion(config: Config) -> tuple[nn.Module, bool]:
    """What compares outputs with targets, and whether class indices are to be one-hot rows for it."""
    node = dict(config.loss)
    one_hot = bool(node.pop("one_hot", False))  # ours; a loss without the key has no use for it
    for name in ("weight", "pos_weight"):  # torch wants tensors, and a line of text has lists and numbers
        if isinstance(node.get(name), list | int | float):
            node[name] = torch.tensor(node[name], dtype=torch.float32)
    criterion = construct(node, "loss")
    if not isinstance(criterion, nn.Module):
        raise ConfigError("loss._target_", node["_target_"], "does not give a torch.nn.Module")
    if config.data.normalize_targets and isinstance(criterion, nn.BCELoss | nn.BCEWithLogitsLoss):
        raise ConfigError(
            "data.normalize_targets", True, f"{type(criterion).__name__} takes probabilities, in [0, 1]", "leave it out"
        )
    return criterion, one_hot


def build_metrics(config: Config, task: Task, device: torch.device) -> dict[str, Metric]:
    """New metrics for an evaluation: the task's and those of the config, by name.

    Raises:
        ConfigError: a name is taken, or what is named is no metric.
    """
    metrics = task.metrics(device)
    for name, node in config.metrics.items():
        key = f"metrics.{name}"
        if name in metrics or name in task.higher_is_better:
            raise ConfigError(key, node, f"is a metric of data.task={task.name} already", "choose another name")
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(key, node, "needs a `_target_`", "name a class of torchmetrics, or a function of yours")
        metrics[name] = _build_metric(dict(node), key, device)
    return metrics


def _build_metric(node: dict[str, Any], key: str, device: torch.device) -> Metric:
    found = locate(node["_target_"], f"{key}._target_")
    higher_is_better = node.pop("higher_is_better", None)
    if higher_is_better is not None and not isinstance(higher_is_better, bool):
        raise ConfigError(f"{key}.higher_is_better", higher_is_better, "must be true or false")
    if not isinstance(found, type):
        return FunctionMetric(bind(node, key, 2), higher_is_better)
    metric = construct(node, key)
    missing = [name for name in ("update", "compute", "reset") if not callable(getattr(metric, name, None))]
    if missing:
        raise ConfigError(
            f"{key}._target_", node["_target_"], f"has no {' and no '.join(missing)}",
            "a metric is a class with update(outputs, targets), compute() and reset(), or a function of both",
        )  # fmt: skip
    metric = metric.to(device) if hasattr(metric, "to") else metric
    if higher_is_better is not None:
        metric.higher_is_better = higher_is_better
    return metric  # type: ignore[no-any-return]


def higher_is_better(config: Config, task: Task, metrics: dict[str, Metric]) -> dict[str, bool | None]:
    """Whether each metric of an evaluation is better when higher; None where nobody says.

    Raises:
        ConfigError: nobody says it of `monitor`.
    """
    directions: dict[str, bool | None] = dict(task.higher_is_better)
    directions |= {name: getattr(metric, "higher_is_better", None) for name, metric in metrics.items()}
    name = config.monitor.removeprefix("val/")
    if directions.get(name) is None:
        key = f"metrics.{name}.higher_is_better" if name in config.metrics else f"task.higher_is_better.{name}"
        problem = "nobody says whether it is better when higher or lower"
        raise ConfigError("monitor", config.monitor, problem, f"add +{key}=true or false")
    return directions
