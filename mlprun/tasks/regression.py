"""Values per example: a regression, or several yes-or-no labels."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.formatting import pluralize
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.metrics import R2, LabelF1, MeanAbsoluteError, MeanSquaredError, exact
from mlprun.tasks.supervised import TAKE_CLASSES, Supervised


class Regression(Supervised):
    """Targets and outputs are float32 values (N, num_outputs)."""

    name = "regression"

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        """The values in the data's own units, in float64 if the device has it."""
        outputs, targets = super().compared(step)
        return self.in_data_units(exact(outputs)), self.in_data_units(exact(targets))

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        return {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2()}

    def describe_targets(self) -> str:
        return pluralize(self.num_outputs, "value")

    def check_criterion(self) -> None:
        super().check_criterion()
        if type(self.criterion) in TAKE_CLASSES:
            raise self.misfit("needs classes, and the targets of a regression are values", "write loss=mse")
        if self.one_hot:
            problem = f"{type(self.criterion).__name__} has no classes to encode in a regression"
            remedy = "write loss=mse; or loss.one_hot=false where the targets are probabilities"
            raise ConfigError("loss.one_hot", self.one_hot, problem, remedy)


class MultiLabel(Supervised):
    """Any number of K labels per example: targets are 0 and 1, float32 (N, K); the model returns a logit for each.

    `accuracy` is the fraction of correct labels, `exact_match` of examples with all labels correct.
    """

    name = "multi_label"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True, "exact_match": True})

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        correct = (outputs > self.threshold) == (targets > 0.5)
        sums = {"accuracy": correct.sum() / self.num_outputs, "exact_match": correct.all(1).sum()}
        return Step(loss, len(targets), len(targets), sums, outputs, targets)

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        return {"macro_f1": LabelF1(self.threshold)}

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each label, (N, K); None for a user's criterion."""
        if type(self.criterion) is nn.BCELoss:
            return outputs
        return outputs.sigmoid() if type(self.criterion) is nn.BCEWithLogitsLoss else None

    def describe_targets(self) -> str:
        return pluralize(self.num_outputs, "label")

    def check_criterion(self) -> None:
        super().check_criterion()
        if type(self.criterion) in TAKE_CLASSES:
            raise self.misfit("needs one class per example, and these have any number of labels", "write loss=bce")
