"""From config to the task with its loss, and the metrics of an evaluation."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mlprun.config.instantiate import bind, construct, locate
from mlprun.config.schema import Config
from mlprun.data.normalize import Normalizer
from mlprun.errors import ConfigError
from mlprun.tasks.base import Metric, Task
from mlprun.tasks.custom import Custom, ModelStep
from mlprun.tasks.metrics import FunctionMetric
from mlprun.tasks.names import TARGETS
from mlprun.tasks.supervised import Supervised


def build_task(config: Config, target_normalizer: Normalizer | None = None) -> Task:
    """The task, with the config's loss if it uses one.

    Args:
        target_normalizer: the scaling of a regression's targets, if any.

    Raises:
        ConfigError: the loss does not fit the targets, or `task` names no task.
    """
    node = dict(config.task)
    if "_target_" not in node:
        if (built_in := TARGETS.get(config.data.task)) is None:
            remedy = "write task=custom task._target_=my_module.my_task, or task=model for a model with a training_step"
            raise ConfigError("data.task", config.data.task, "names no built-in task", remedy)
        node["_target_"] = built_in
    target = locate(node["_target_"], "task._target_")
    if target is ModelStep and config.trainer.compile:
        problem, remedy = "does not reach a model's own training_step", "write the step as a function: task=custom"
        raise ConfigError("trainer.compile", True, problem, remedy)
    if isinstance(target, type) and issubclass(target, Task):
        given = _criterion(config) if issubclass(target, Supervised) else ()
        task: Task = construct(node, "task", *given)
        task.target_normalizer = target_normalizer
        return task
    higher_is_better = node.pop("higher_is_better", None)
    return Custom(bind(node, "task", 2), higher_is_better)


def _criterion(config: Config) -> tuple[nn.Module, int, bool]:
    """The arguments of a supervised task: the criterion, the number of outputs and whether targets are one-hot."""
    node = dict(config.loss)
    one_hot = bool(node.pop("one_hot", False))  # a key of mlprun's, not of torch's classes
    for name in ("weight", "pos_weight"):  # torch takes tensors, the command line lists and numbers
        if isinstance(node.get(name), list | int | float):
            node[name] = torch.tensor(node[name], dtype=torch.float32)
    criterion = construct(node, "loss")
    if not isinstance(criterion, nn.Module):
        raise ConfigError("loss._target_", node["_target_"], "does not give a torch.nn.Module")
    if config.data.normalize_targets and isinstance(criterion, nn.BCELoss | nn.BCEWithLogitsLoss):
        problem = f"{type(criterion).__name__} takes probabilities, in [0, 1]"
        raise ConfigError("data.normalize_targets", True, problem, "leave it out")
    return criterion, config.data.num_outputs, one_hot


def build_metrics(config: Config, task: Task, device: torch.device) -> dict[str, Metric]:
    """New metrics for an evaluation: the task's and those of the config, by name.

    Raises:
        ConfigError: a name is taken, or a `_target_` is no metric.
    """
    metrics = task.metrics(device)
    for name, node in config.metrics.items():
        key = f"metrics.{name}"
        if name in metrics or name in task.higher_is_better:
            raise ConfigError(key, node, f"is already a metric of data.task={task.name}", "choose another name")
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(key, node, "needs a `_target_`", "name a class of torchmetrics, or a function of yours")
        metrics[name] = _build_metric(dict(node), key, device)
    return metrics


def _build_metric(node: dict[str, Any], key: str, device: torch.device) -> Metric:
    target = locate(node["_target_"], f"{key}._target_")
    higher_is_better = node.pop("higher_is_better", None)
    if higher_is_better is not None and not isinstance(higher_is_better, bool):
        raise ConfigError(f"{key}.higher_is_better", higher_is_better, "must be true or false")
    if not isinstance(target, type):
        return FunctionMetric(bind(node, key, 2), higher_is_better)
    metric = construct(node, key)
    missing = [name for name in ("update", "compute", "reset") if not callable(getattr(metric, name, None))]
    if missing:
        remedy = "a metric is a class with update(outputs, targets), compute() and reset(), or a function of both"
        raise ConfigError(f"{key}._target_", node["_target_"], f"has no {' and no '.join(missing)}", remedy)
    metric = metric.to(device) if hasattr(metric, "to") else metric
    if higher_is_better is not None:
        metric.higher_is_better = higher_is_better
    return metric  # type: ignore[no-any-return]


def higher_is_better(config: Config, task: Task, metrics: dict[str, Metric]) -> dict[str, bool | None]:
    """Whether each metric of an evaluation is better when higher; None if unknown.

    Raises:
        ConfigError: it is unknown for `monitor`.
    """
    directions: dict[str, bool | None] = dict(task.higher_is_better)
    directions |= {name: getattr(metric, "higher_is_better", None) for name, metric in metrics.items()}
    name = config.monitor.removeprefix("val/")
    if directions.get(name) is None:
        key = f"metrics.{name}.higher_is_better" if name in config.metrics else f"task.higher_is_better.{name}"
        problem = "it is unknown whether it is better when higher or lower"
        raise ConfigError("monitor", config.monitor, problem, f"add +{key}=true or false")
    return directions
