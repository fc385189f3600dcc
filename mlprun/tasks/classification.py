"""One class per example."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch, Batch
from mlprun.errors import ConfigError
from mlprun.formatting import printable
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.losses import NLL, Hinge
from mlprun.tasks.metrics import MacroF1, TopAccuracy, predicted_classes
from mlprun.tasks.names import TOP5_FROM
from mlprun.tasks.supervised import TAKE_CLASSES, TAKE_VALUES, Supervised


class Classification(Supervised):
    """Targets are class indices (N,) int64; the model returns logits (N, K).

    With one output, targets 0 and 1 reach the criterion as float (N, 1), and with `one_hot` as float (N, K). So do the
    shares of classes of MixUp and CutMix, which have no accuracy.
    """

    name = "classification"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True})

    @property
    def num_classes(self) -> int:
        return max(self.num_outputs, 2)  # one output is enough for two classes

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if targets.is_floating_point():  # shares of classes, of MixUp and CutMix
            targets = targets.to(outputs.dtype)
        elif self.num_outputs == 1:
            targets = targets.to(outputs.dtype).unsqueeze(1)
        elif self.one_hot:
            targets = F.one_hot(targets, self.num_outputs).to(outputs.dtype)
        return super().loss(outputs, targets)

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        if targets.is_floating_point():  # no class is the right one
            return Step(loss, len(targets), len(targets), {}, outputs, targets)
        num_correct = (self.predicted_classes(outputs) == targets).sum()
        return Step(loss, len(targets), self.weight_of(targets), {"accuracy": num_correct}, outputs, targets)

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        metrics: dict[str, Metric] = {"macro_f1": MacroF1(self.num_classes, self.threshold, device)}
        if self.num_outputs >= TOP5_FROM:
            metrics["top5_accuracy"] = TopAccuracy(5)
        return metrics

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """Softmax over the logits of a cross entropy; with BCE the sigmoid of each, which need not sum to 1.

        None for a user's criterion, whose outputs may mean anything.
        """
        if type(self.criterion) in (nn.CrossEntropyLoss, NLL):
            return F.softmax(outputs, dim=1)
        if type(self.criterion) not in (nn.BCEWithLogitsLoss, nn.BCELoss):
            return None
        probabilities = outputs if type(self.criterion) is nn.BCELoss else outputs.sigmoid()
        return torch.cat([1 - probabilities, probabilities], dim=1) if self.num_outputs == 1 else probabilities

    def predicted_classes(self, outputs: Tensor) -> Tensor:
        return predicted_classes(outputs, self.threshold)

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        self.check_labels(error, self.pair(batch)[1], when, self.num_classes)

    def describe_targets(self) -> str:
        return f"{self.num_classes} classes"

    def class_names(self, known: Sequence[str]) -> list[str]:
        return list(known) if len(known) == self.num_classes else [str(i) for i in range(self.num_classes)]

    def target_lines(self, targets: Tensor, first: Batch, known: Sequence[str], *, redrawn: bool) -> list[str]:
        counts, names = targets.flatten().bincount(minlength=self.num_classes).tolist(), self.class_names(known)
        names = [printable(name, keep="") for name in names]
        if len(counts) > 20:
            few, many = counts.index(min(counts)), counts.index(max(counts))
            return [
                f"classes of train  {counts[few]:,} ({names[few]}) to {counts[many]:,} ({names[many]}) examples each"
            ]
        lines = ["classes of train  "]
        for name, count in zip(names, counts, strict=True):
            word = f"{name}: {count:,}  "
            if len(lines[-1]) + len(word) > 100:
                lines.append(" " * len(lines[0]))
            lines[-1] += word
        return [line.rstrip() for line in lines]

    def check_criterion(self) -> None:
        super().check_criterion()
        kind = type(self.criterion)
        if self.num_outputs == 1:
            if kind in TAKE_CLASSES and kind is not Hinge:
                raise self.misfit("has nothing to choose from with data.num_outputs=1", "write loss=bce")
        elif kind in TAKE_VALUES and not self.one_hot:
            raise self.misfit(f"cannot compare {self.num_outputs} outputs with a class index", "add loss.one_hot=true")
        elif kind in TAKE_CLASSES and self.one_hot and kind is not nn.CrossEntropyLoss:
            raise ConfigError("loss.one_hot", self.one_hot, f"{kind.__name__} takes class indices", "leave it out")
