"""One class per example."""

from __future__ import annotations

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch
from mlprun.errors import ConfigError, DataError
from mlprun.task_names import TOP5_FROM
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.losses import NLL, Hinge
from mlprun.tasks.metrics import ConfusionMatrix, MacroF1, TopAccuracy, predicted_classes
from mlprun.tasks.supervised import TAKE_CLASSES, TAKE_VALUES, Supervised


class Classification(Supervised):
    """Targets are class indices (N,) int64; the model gives logits (N, K).

    With one output, targets 0 and 1 reach the criterion as float (N, 1), and with `one_hot` as float (N, K).
    """

    name = "classification"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True})

    @property
    def num_classes(self) -> int:
        """One output is enough for two classes."""
        return max(self.num_outputs, 2)

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of logits and class indices."""
        if self.num_outputs == 1:
            targets = targets.to(outputs.dtype).unsqueeze(1)
        elif self.one_hot:
            targets = F.one_hot(targets, self.num_outputs).to(outputs.dtype)
        return super().loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        """With the number of examples that are classified correctly."""
        num_correct = (predicted_classes(outputs, self.threshold) == targets).sum()
        count = len(targets)
        return Step(loss, count, self.weight_of(targets), {"accuracy": num_correct}, outputs, targets)

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """`macro_f1`; from 20 classes on `top5_accuracy`."""
        found: dict[str, Metric] = {"macro_f1": MacroF1(self.num_classes, self.threshold, device)}
        if self.num_outputs >= TOP5_FROM:
            found["top5_accuracy"] = TopAccuracy(5)
        return found

    def confusion(self, device: torch.device) -> ConfusionMatrix:
        """Counts the classes that are predicted for each true class."""
        return ConfusionMatrix(self.num_classes, self.threshold, device)

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """Softmax over the logits of a cross entropy; the sigmoid of each where one class is learned against the rest.

        The latter need not sum to 1. None for a criterion of the user's own, whose outputs may mean anything.
        """
        if type(self.criterion) in (nn.CrossEntropyLoss, NLL):
            return F.softmax(outputs, dim=1)
        if type(self.criterion) not in (nn.BCEWithLogitsLoss, nn.BCELoss):
            return None
        found = outputs if type(self.criterion) is nn.BCELoss else outputs.sigmoid()
        return torch.cat([1 - found, found], dim=1) if self.num_outputs == 1 else found

    def predicted_classes(self, outputs: Tensor) -> Tensor:
        """The class of the largest logit; of a single output, whether it is above the threshold."""
        return predicted_classes(outputs, self.threshold)

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        """Raise a DataError if a label is no class."""
        targets = self.pair(batch)[1]
        wrong = targets[(targets < 0) | (targets >= self.num_classes)]
        if len(wrong):
            raise DataError(
                f"data: at {when}, a label is {int(wrong[0])} (data.num_outputs={self.num_outputs})"
                f"\n  labels are 0 to {self.num_classes - 1}: correct data.num_outputs, or the labels of the data set"
            ) from error

    def describe_targets(self) -> str:
        """The number of classes."""
        return f"{self.num_classes} classes"

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion cannot learn one class of several."""
        super().check_criterion()
        kind, name = type(self.criterion), type(self.criterion).__name__
        if self.num_outputs == 1:
            if kind in TAKE_CLASSES and kind is not Hinge:
                raise self.misfit("has nothing to choose from with data.num_outputs=1", "write loss=bce")
        elif kind in TAKE_VALUES and not self.one_hot:
            problem = f"cannot compare {self.num_outputs} outputs with a class index"
            raise self.misfit(problem, "add loss.one_hot=true")
        elif kind in TAKE_CLASSES and self.one_hot and not isinstance(self.criterion, nn.CrossEntropyLoss):
            raise ConfigError("loss.one_hot", self.one_hot, f"{name} takes class indices", "leave it out")
