"""The weights of classes in the loss (`loss.class_weights`)."""

from __future__ import annotations

import inspect
import math
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from mlprun.config.instantiate import locate
from mlprun.config.schema import Config
from mlprun.data.parts import known_targets
from mlprun.data.source import IGNORED
from mlprun.data.splits import Splits
from mlprun.errors import ConfigError, suggestion
from mlprun.formatting import printable
from mlprun.tasks.supervised import TAKE_CLASSES

KEY = "loss.class_weights"
Weights = dict[str, list[float]]  # `weight` or `pos_weight` -> its values, as torch's criteria take them
_ARGUMENTS = {**dict.fromkeys(TAKE_CLASSES, "weight"), nn.BCEWithLogitsLoss: "pos_weight"}
_MOST_SHOWN = 20


def class_weights(config: Config, splits: Splits) -> Weights | None:
    """The argument of the criterion that weights classes or labels; None without `loss.class_weights`.

    A criterion that compares the output of each class with 0 or 1 (`loss=bce`) gets a `pos_weight`: of each label, or
    of class 1 if there is a single output. All others get a `weight` of each class.

    Raises:
        ConfigError: the loss has no such argument, the targets are no classes, or the numbers of a `balanced` training
            split are unknown.
    """
    typed = config.loss.get("class_weights")
    if typed is None:
        return None
    argument = _argument(config)
    _check(config, typed, argument)
    names, is_binary = _names(config, splits), argument == "pos_weight"
    if typed == "balanced":
        values = _balanced(config, splits, names, is_binary=is_binary)
    else:
        values = _given(typed, names)
        if is_binary and config.data.num_outputs == 1:
            values = [values[1] / values[0]] if values[0] else _refuse(typed, "class 0 needs a weight above 0")
    return {argument: values}


def _argument(config: Config) -> str:
    """`weight` or `pos_weight`; empty if the criterion has neither."""
    criterion = locate(config.loss["_target_"], "loss._target_")
    if criterion in _ARGUMENTS:
        return _ARGUMENTS[criterion]
    if getattr(criterion, "__module__", "").startswith("torch."):  # BCELoss(weight=) weights the examples of a batch
        return ""
    taken = inspect.signature(criterion).parameters
    return next((name for name in ("weight", "pos_weight") if name in taken), "")


def _check(config: Config, typed: Any, argument: str) -> None:
    if config.data.task == "custom" or config.task:
        _refuse(typed, "has no effect on a task of your own, which has its own loss", "leave it out")
    if config.data.task == "regression":
        _refuse(typed, "the targets of a regression are values, without classes", "leave it out")
    if typed != "balanced" and not isinstance(typed, list | dict):
        _refuse(typed, "is neither `balanced` nor a weight for each class", "write balanced, [1,5] or {cat:1,dog:5}")
    for name in ("weight", "pos_weight"):
        if config.loss.get(name) is not None:
            _refuse(typed, f"sets loss.{name}, which is given too", f"leave out one of them: ~loss.{name}")
    if not argument:
        name = str(config.loss["_target_"]).rpartition(".")[2]
        _refuse(typed, f"{name} takes no weights of classes", "write loss=cross_entropy, nll, hinge or bce")


def _names(config: Config, splits: Splits) -> list[str]:
    data = config.data
    count = max(data.num_outputs, 2) if data.task == "classification" else data.num_outputs
    has_names = len(splits.class_names) == count
    return list(splits.class_names) if has_names else [str(i) for i in range(count)]


def _given(typed: list[Any] | dict[str, Any], names: list[str]) -> list[float]:
    values = typed
    if isinstance(typed, dict):
        by_name = {str(name): value for name, value in typed.items()}
        for name in by_name:
            if name not in names:
                _refuse(typed, f"there is no class {name!r}", suggestion(name, names))
        if missing := [name for name in names if name not in by_name]:
            _refuse(typed, f"class {missing[0]} has no weight", "give one for each class; 1 is the usual one")
        values = [by_name[name] for name in names]
    if len(values) != len(names):
        _refuse(typed, f"has {len(values)} weights for {len(names)} classes", "give one for each class, in their order")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            _refuse(typed, f"{value} is no weight", "each must be a finite number, 0 or more")
    if not any(values):
        _refuse(typed, "leaves no class that counts", "give a class a weight above 0")
    return [float(value) for value in values]


def _balanced(config: Config, splits: Splits, names: list[str], *, is_binary: bool) -> list[float]:
    """n / (K n_c) for n examples in K classes, as in scikit-learn; of `pos_weight`, the negative over the positive."""
    remedy = f"write a weight for each class: '{KEY}=[1,5]'"
    if splits.perturb is not None:
        _refuse("balanced", "the targets are drawn anew in each batch, so their numbers are unknown", remedy)
    counts, total = _counts(config, splits), None
    if counts is None:
        remedy = f"give the data set an attribute `targets`, as torchvision's have, or {remedy}"
        _refuse("balanced", "the targets of these data are unknown until all examples are read", remedy)
    if config.data.task == "multi_label":
        total = len(splits.train)  # type: ignore[arg-type]  # its targets are known, so it has a length
    total = int(counts.sum()) if total is None else total
    for name, count in zip(names, counts.tolist(), strict=True):
        if count == 0 or (is_binary and count == total):
            problem = f"{'no' if count == 0 else 'every'} training example is of class {printable(name, keep='')}"
            _refuse("balanced", f"{problem}, so its weight would be {'infinite' if count == 0 else 0}", remedy)
    if is_binary:
        chosen = counts[1:] if config.data.num_outputs == 1 else counts
        return [(total - count) / count for count in chosen.tolist()]
    return [total / (len(names) * count) for count in counts.tolist()]


def _counts(config: Config, splits: Splits) -> Tensor | None:
    """The training targets of each class; None if they are unknown without reading all examples."""
    if config.data.task in ("classification", "multi_label"):
        return splits.class_counts()
    if (targets := known_targets(splits.train)) is None:
        return None
    return torch.bincount(targets[targets != IGNORED].long(), minlength=config.data.num_outputs)


def _refuse(typed: Any, problem: str, remedy: str = "") -> NoReturn:
    raise ConfigError(KEY, typed, problem, remedy)


def weight_lines(config: Config, splits: Splits, weights: Weights | None) -> list[str]:
    """The weights by class, for the start of a run."""
    if weights is None:
        return []
    ((argument, values),) = weights.items()
    names = _names(config, splits)[-len(values) :]
    pairs = [f"{printable(name, keep='')} {value:.4g}" for name, value in zip(names, values, strict=True)]
    if len(pairs) > _MOST_SHOWN:
        low, high = values.index(min(values)), values.index(max(values))
        pairs = [f"{pairs[low]} to {pairs[high]}"]
    return [f"{argument} of classes: {', '.join(pairs)}"]
