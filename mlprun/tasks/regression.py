"""Values per example: a regression, or several yes-or-no labels."""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from mlprun.data.normalize import Normalizer
from mlprun.errors import ConfigError
from mlprun.formatting import pluralize
from mlprun.tasks.base import Metric, Step
from mlprun.tasks.metrics import R2, LabelF1, MeanAbsoluteError, MeanSquaredError, exact
from mlprun.tasks.supervised import TAKE_CLASSES, Supervised


class Regression(Supervised):
    """Targets are float32 values (N, num_outputs), as the outputs are.

    Args:
        target_normalizer: what scaled the targets, so that metrics are in the data's own units; None: nothing did.
    """

    name = "regression"

    def __init__(
        self,
        criterion: nn.Module,
        num_outputs: int,
        one_hot: bool = False,
        target_normalizer: Normalizer | None = None,
    ) -> None:
        super().__init__(criterion, num_outputs, one_hot)
        self.target_normalizer = target_normalizer

    def to(self, kind: torch.device | torch.dtype) -> Regression:
        """The task, with the scale of the targets there."""
        super().to(kind)
        if self.target_normalizer is not None and isinstance(kind, torch.device):
            self.target_normalizer = self.target_normalizer.to(kind)
        return self

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        """The values in the data's own units, in float64 where the device has it."""
        outputs, targets = (exact(values) for values in super().compared(step))
        if self.target_normalizer is None:
            return outputs, targets
        return self.target_normalizer.inverse(outputs), self.target_normalizer.inverse(targets)

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """`mse`, `mae` and `r2`."""
        return {"mse": MeanSquaredError(), "mae": MeanAbsoluteError(), "r2": R2()}

    def describe_targets(self) -> str:
        """The number of values."""
        return pluralize(self.num_outputs, "value")

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion needs classes."""
        super().check_criterion()
        if type(self.criterion) in TAKE_CLASSES:
            raise self.misfit("needs classes, and the targets of a regression are values", "write loss=mse")
        if self.one_hot:
            raise ConfigError(
                "loss.one_hot",
                self.one_hot,
                f"{type(self.criterion).__name__} has no classes to encode in a regression",
                "write loss=mse; or loss.one_hot=false where the targets are probabilities",
            )


class MultiLabel(Supervised):
    """Any number of K labels per example: targets are 0 and 1, float32 (N, K); the model gives a logit for each."""

    name = "multi_label"
    higher_is_better = MappingProxyType({"loss": False, "accuracy": True, "exact_match": True})

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        """`accuracy` is the share of the labels that are right, `exact_match` of examples with all labels right."""
        right = (outputs > self.threshold) == (targets > 0.5)
        sums = {"accuracy": right.sum() / self.num_outputs, "exact_match": right.all(1).sum()}
        return Step(loss, len(targets), len(targets), sums, outputs, targets)

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """`macro_f1`, the mean over the labels."""
        return {"macro_f1": LabelF1(self.threshold)}

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each label, (N, K); None for a criterion of the user's own."""
        if type(self.criterion) is nn.BCELoss:
            return outputs
        return outputs.sigmoid() if type(self.criterion) is nn.BCEWithLogitsLoss else None

    def describe_targets(self) -> str:
        """The number of labels."""
        return pluralize(self.num_outputs, "label")

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion needs one class of several."""
        super().check_criterion()
        if type(self.criterion) in TAKE_CLASSES:
            raise self.misfit("needs one class per example, and these have any number of labels", "write loss=bce")
