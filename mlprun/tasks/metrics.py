"""The evaluation of a split, and the metrics of the built-in tasks, with the interface of torchmetrics.

They sum on the device: an uneven last batch gets its weight, and nothing waits before `compute`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from mlprun.errors import ConfigError
from mlprun.formatting import first_few
from mlprun.tasks.base import Metric, Step, Task
from mlprun.tasks.names import CUSTOM

log = logging.getLogger("mlprun")
# The tasks that a metric is for, by what a target is.
PER_CLASS, PER_TOKEN = ("classification", CUSTOM), ("token_classification", "language_modeling")
VALUES = ("regression", CUSTOM)


class Undefined(ValueError):  # noqa: N818  reads as an outcome, not as an error
    """Why a metric has no value for a split: raised by its `compute`, or in the place of one of several values."""


def exact(values: Tensor) -> Tensor:
    """In float64, because sums of many float32 values lose digits; mps has none."""
    return values.to(torch.float32 if values.device.type == "mps" else torch.float64)


def predicted_classes(outputs: Tensor, threshold: float = 0.0) -> Tensor:
    """Class indices (N,) of outputs (N, K); a single output is class 1 above `threshold`, 0 for a logit."""
    return (outputs[:, 0] > threshold).long() if outputs.shape[1] == 1 else outputs.argmax(1)


class Evaluation:
    """The loss and the metrics over the batches of a split: call `update` with each, then `compute`.

    Args:
        metrics: by name, in addition to what the task logs.
        warned: warnings that were logged, which are not repeated.

    Attributes:
        undefined: name -> why a metric has no value.
    """

    def __init__(self, task: Task, metrics: dict[str, Metric], warned: set[str] | None = None) -> None:
        self.task, self.metrics = task, metrics
        self.undefined: dict[str, str] = {}
        self._warned = set() if warned is None else warned
        self._loss: Tensor | float = 0.0
        self._weight: Tensor | int = 0
        self._count: Tensor | int = 0
        self._sums: dict[str, Tensor] = {}

    def update(self, step: Step) -> None:
        """Add the task's `eval_step` of a batch."""
        self._count = self._count + step.num_targets
        self._weight = self._weight + (step.num_targets if self.task.sums_loss else step.weight)
        self._loss = self._loss + exact(step.loss) * (1 if self.task.sums_loss else step.weight)
        for name, value in step.sums.items():
            self._sums[name] = exact(value) + self._sums.get(name, 0.0)
        if self.metrics:
            outputs, targets = self.task.compared(step)
            for metric in self.metrics.values():
                metric.update(outputs, targets)

    def compute(self) -> dict[str, float]:
        """Metric name -> value over all targets, `NAME/KEY` of one with several; NaN with a warning if undefined.

        Raises:
            ValueError: there were none.
            ConfigError: a metric is neither a number nor a dict of numbers.
        """
        if not int(self._count):
            raise ValueError("no targets that count")
        means = {"loss": float(self._loss) / float(self._weight)}
        means |= {name: float(value) / int(self._count) for name, value in self._sums.items()}
        values = self.task.summarize(means)
        for name, metric in self.metrics.items():
            values |= self._values(name, metric)
        return values

    def _values(self, name: str, metric: Metric) -> dict[str, float]:
        try:
            value = metric.compute()
        except Undefined as error:
            value = error
        except ConfigError as error:
            raise error.under(f"metrics.{name}") from error
        values = {name: value}
        if isinstance(value, Mapping):
            values = {f"{name}/{key}": item for key, item in value.items()}
        undefined = {key: str(item) for key, item in values.items() if isinstance(item, Undefined)}
        self.undefined |= undefined
        for reason in dict.fromkeys(undefined.values()):
            text = f"metrics.{first_few([key for key in undefined if undefined[key] == reason], 5)}: {reason}"
            if text not in self._warned:
                self._warned.add(text)
                log.warning("%s (logged as null)", text)
        return {key: math.nan if key in undefined else _number(key, item) for key, item in values.items()}

    @property
    def confusion(self) -> Tensor | None:
        """(K, K) int64 counts, rows the true class, columns the predicted; None for a task without classes."""
        return next((m.confusion for m in self.metrics.values() if isinstance(m, MacroF1)), None)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        shape = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        problem = f"gives {shape}, neither a number nor a dict of numbers"
        remedy = "most classes of torchmetrics have an argument for that, such as average=macro"
        raise ConfigError(f"metrics.{name}", ConfigError.MISSING, problem, remedy) from error


class FunctionMetric:
    """A function of all outputs and targets of a split, such as one of scikit-learn or of the user.

    Args:
        function: (outputs (M, K) or (M,), targets) -> number, called once per evaluation, with tensors on the CPU.
        higher_is_better: None if unknown.
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Any], higher_is_better: bool | None = None) -> None:
        self.function, self.higher_is_better = function, higher_is_better
        self.reset()

    def reset(self) -> None:
        self._outputs: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self._outputs.append(outputs)
        self._targets.append(targets)

    def compute(self) -> Any:
        return self.function(torch.cat(self._outputs).cpu(), torch.cat(self._targets).cpu())


class _OfConfusion:
    """A score of the confusion matrix: (K, K) int64 counts, rows the true class, columns the predicted.

    Args:
        num_classes: K.
        threshold: above which a single output means class 1; None: the task's.
    """

    higher_is_better = True
    tasks: ClassVar[Sequence[str]] = (*PER_CLASS, *PER_TOKEN)

    def __init__(self, num_classes: int, threshold: float | None = None, device: torch.device | str = "cpu") -> None:
        self.threshold = threshold
        self.confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def set_task(self, task: Task) -> None:
        self.threshold = task.threshold if self.threshold is None else self.threshold

    def to(self, device: torch.device) -> _OfConfusion:
        self.confusion = self.confusion.to(device)
        return self

    def reset(self) -> None:
        self.confusion.zero_()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        # index_add_ of integers: bincount has no deterministic kernel on a GPU
        pair = targets * len(self.confusion) + predicted_classes(outputs, self.threshold or 0.0)
        self.confusion.view(-1).index_add_(0, pair, torch.ones_like(pair))


class MacroF1(_OfConfusion):
    """F1 = 2 TP / (2 TP + FP + FN), averaged over the classes that occur (as scikit-learn's f1_score)."""

    def compute(self) -> float:
        confusion = self.confusion.cpu()
        return _macro_f1(confusion.diag(), confusion.sum(1) + confusion.sum(0))


def _macro_f1(num_hits: Tensor, num_true_and_predicted: Tensor) -> float:
    occurs = num_true_and_predicted > 0
    return float(((2 * num_hits[occurs]).double() / num_true_and_predicted[occurs]).mean())


class BalancedAccuracy(_OfConfusion):
    """The recall averaged over the classes that occur, so that each class counts equally."""

    def compute(self) -> float:
        confusion = self.confusion.cpu()
        num_true = confusion.sum(1)
        return float((confusion.diag()[num_true > 0].double() / num_true[num_true > 0]).mean())


class _Mean:
    """The mean over the targets of what `summed` sums over a batch."""

    higher_is_better: bool | None = True

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._sum: Tensor | float = 0.0
        self._count = 0

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        self._sum = self._sum + self.summed(outputs, targets)
        self._count += len(targets)

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """A scalar, or one sum per value of an example."""
        raise NotImplementedError

    def compute(self) -> float:
        """The mean over all targets, and over the values of an example."""
        return float((exact(torch.as_tensor(self._sum)) / self._count).mean())


class TopAccuracy(_Mean):
    """The fraction of targets among the `k` classes with the largest logits."""

    tasks = (*PER_CLASS, *PER_TOKEN)

    def __init__(self, k: int) -> None:
        self.k = k
        super().__init__()

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        if not 1 <= self.k < (num_classes := max(outputs.shape[-1], 2)) or outputs.shape[-1] == 1:
            raise ConfigError("k", self.k, f"must be 1 or more, and less than the {num_classes} classes")
        super().update(outputs, targets)

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.topk(self.k, dim=-1).indices == targets[..., None]).sum()


class LabelF1(_Mean):
    """F1 of each label (N, K), averaged over the labels that occur; 0 if none does."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        super().__init__()

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        predicted, true = outputs > self.threshold, targets > 0.5
        return torch.stack([(predicted & true).sum(0), predicted.sum(0) + true.sum(0)])

    def compute(self) -> float:
        hits, either = torch.as_tensor(self._sum)
        return _macro_f1(hits, either) if bool(either.any()) else 0.0


class MeanSquaredError(_Mean):
    """Of values (N, D), in the data's units."""

    higher_is_better = False

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(0)


class RootMeanSquaredError(MeanSquaredError):
    """Of values (N, D), in the data's units; the mean of the D roots."""

    tasks = VALUES

    def compute(self) -> float:
        return float((exact(torch.as_tensor(self._sum)) / self._count).sqrt().mean())


class MeanAbsoluteError(_Mean):
    """Of values (N, D), in the data's units."""

    higher_is_better = False

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().sum(0)


class R2(_Mean):
    """The explained fraction of the variance, averaged over the D values of an example; 0 for the mean of the targets.

    The same in every unit.
    """

    def reset(self) -> None:
        super().reset()
        self._origin: Tensor | None = None  # subtracted before summing, so that a large mean costs no digits

    def summed(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """(3, D): squared errors, targets and their squares."""
        if self._origin is None:
            self._origin = targets.mean(0)
        centred = targets - self._origin
        return torch.stack([(outputs - targets).square().sum(0), centred.sum(0), centred.square().sum(0)])

    def compute(self) -> float:
        squared, total, squares = torch.as_tensor(self._sum)
        spread = squares - total.square() / self._count
        perfect = (squared == 0).to(squared.dtype)
        return float(torch.where(spread > 0, 1 - squared / spread.clamp(min=1e-300), perfect).mean())


def confusion_rows(confusion: Tensor, labels: Sequence[str]) -> list[list[str | int]]:
    """The confusion matrix as a table with a header; rows the true class, columns the predicted."""
    rows: list[list[str | int]] = [["true \\ predicted", *labels]]
    return rows + [[label, *row] for label, row in zip(labels, confusion.tolist(), strict=True)]
