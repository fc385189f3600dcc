"""From config to the task with its loss, and the metrics of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from mlprun.config.instantiate import bind, construct, locate
from mlprun.config.schema import Config
from mlprun.data.normalize import Normalizer
from mlprun.errors import ConfigError
from mlprun.job.class_weights import Weights
from mlprun.tasks.base import Metric, Task
from mlprun.tasks.custom import Custom, ModelStep
from mlprun.tasks.metrics import FunctionMetric
from mlprun.tasks.names import CUSTOM, TARGETS
from mlprun.tasks.supervised import Supervised


def build_task(
    config: Config,
    target_normalizer: Normalizer | None = None,
    class_names: Sequence[str] = (),
    class_weights: Weights | None = None,
) -> Task:
    """The task, with the config's loss if it uses one.

    Args:
        target_normalizer: the scaling of a regression's targets, if any.
        class_names: the data set's, if any.
        class_weights: those of `loss.class_weights`; None: all classes count alike.

    Raises:
        ConfigError: the loss does not fit the targets, or `task` names no task.
    """
    node = dict(config.task)
    if "_target_" not in node:
        if (built_in := TARGETS.get(config.data.task)) is None:
            remedy = "write task=custom task._target_=my_module.my_task, or task=model for a model with a training_step"
            raise ConfigError("data.task", config.data.task, "is not a built-in task", remedy)
        node["_target_"] = built_in
    target = locate(node["_target_"], "task._target_")
    if target is ModelStep and config.trainer.compile:
        problem, remedy = "has no effect on a model's own training_step", "write the step as a function: task=custom"
        raise ConfigError("trainer.compile", True, problem, remedy)
    if isinstance(target, type) and issubclass(target, Task):
        given = _criterion(config, class_weights) if issubclass(target, Supervised) else ()
        task: Task = construct(node, "task", *given)
        task.target_normalizer = target_normalizer
    else:
        higher_is_better = node.pop("higher_is_better", None)
        task = Custom(bind(node, "task", 2), higher_is_better)
    task.known_classes = class_names
    return task


def _criterion(config: Config, class_weights: Weights | None) -> tuple[nn.Module, int, bool]:
    """The arguments of a supervised task: the criterion, the number of outputs and whether targets are one-hot."""
    node = {**config.loss, **(class_weights or {})}
    one_hot = bool(node.pop("one_hot", False))  # keys of mlprun's, not of torch's classes
    node.pop("class_weights", None)
    for name in ("weight", "pos_weight"):  # torch takes tensors, the command line lists and numbers
        if isinstance(node.get(name), list | int | float):
            node[name] = torch.tensor(node[name], dtype=torch.float32)
    criterion = construct(node, "loss")
    if not isinstance(criterion, nn.Module):
        raise ConfigError("loss._target_", node["_target_"], "does not return a torch.nn.Module")
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
        metrics[name] = _build_metric(dict(node), key, task, device)
    return metrics


def _build_metric(node: dict[str, Any], key: str, task: Task, device: torch.device) -> Metric:
    target = locate(node["_target_"], f"{key}._target_")
    higher_is_better = node.pop("higher_is_better", None)
    by_name = higher_is_better.values() if isinstance(higher_is_better, dict) else [higher_is_better]
    if higher_is_better is not None and not all(isinstance(value, bool) for value in by_name):
        raise ConfigError(f"{key}.higher_is_better", higher_is_better, "must be true or false")
    if not isinstance(target, type):
        return FunctionMetric(bind(node, key, 2), higher_is_better)
    metric = construct(node, key)
    missing = [name for name in ("update", "compute", "reset") if not callable(getattr(metric, name, None))]
    if missing:
        remedy = "a metric is a class with update(outputs, targets), compute() and reset(), or a function of both"
        raise ConfigError(f"{key}._target_", node["_target_"], f"has no {' and no '.join(missing)}", remedy)
    tasks = getattr(metric, "tasks", None)
    if isinstance(tasks, tuple | list) and task.name not in tasks:
        known = ", ".join(name for name in tasks if name != CUSTOM)
        raise ConfigError(key, ConfigError.MISSING, f"does not suit data.task={task.name}", f"it is for {known}")
    if hasattr(metric, "set_task"):
        metric.set_task(task)
    metric = metric.to(device) if hasattr(metric, "to") else metric
    if higher_is_better is not None:
        metric.higher_is_better = higher_is_better
    return metric  # type: ignore[no-any-return]  # of any class; checked above


def higher_is_better(config: Config, task: Task, metrics: dict[str, Metric]) -> dict[str, bool | None]:
    """Whether each metric of an evaluation, and `monitor`, is better when higher; None if unknown.

    Raises:
        ConfigError: it is unknown for `monitor`.
    """
    directions: dict[str, bool | None] = dict(task.higher_is_better)
    for name, metric in metrics.items():
        directions |= _directions(name, metric)
    name = config.monitor.removeprefix("val/")
    group = name.partition("/")[0]
    if (direction := directions.get(name, directions.get(group))) is None:
        known = group if group in config.metrics else name
        key = f"metrics.{known}.higher_is_better" if group in config.metrics else f"task.higher_is_better.{name}"
        problem = "it is unknown whether it is better when higher or lower"
        raise ConfigError("monitor", config.monitor, problem, f"add +{key}=true or false")
    return directions | {name: direction}


def _directions(name: str, metric: Metric) -> dict[str, bool | None]:
    """Of a metric, or of each of its values: a MetricCollection has several metrics."""
    known: Any = getattr(metric, "higher_is_better", None)
    if known is None and isinstance(metric, nn.ModuleDict):
        known = {key: getattr(item, "higher_is_better", None) for key, item in metric.items()}
    if isinstance(known, Mapping):
        return {f"{name}/{key}": value for key, value in known.items()}
    return {name: known}
