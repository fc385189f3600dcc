"""Tasks with one target per example or token: a criterion compares the model's outputs with the targets."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError, DataError, UserError
from mlprun.tasks.base import Step, Task
from mlprun.tasks.losses import NLL, Hinge

# What the criteria known here take as targets. Exact classes: one derived by the user may take anything.
TAKE_CLASSES = (nn.CrossEntropyLoss, NLL, nn.MultiMarginLoss, Hinge)
TAKE_VALUES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss)


class Supervised(Task):
    """The criterion gets the model's outputs of a batch, and the targets in the form that it takes.

    A criterion of the user's own is left alone, but for `reduction="none"`.

    Args:
        criterion: a loss of torch or of the user, called with (outputs, targets).
        num_outputs: K, outputs of the model for an example or a token.
        one_hot: turn class indices into one-hot rows; without effect on a single output.

    Raises:
        ConfigError: the criterion cannot learn this task from these targets.

    Attributes:
        threshold: above which a single output means class 1: 0 for a logit, else 0.5.
    """

    def __init__(self, criterion: nn.Module, num_outputs: int, one_hot: bool = False) -> None:
        self.criterion, self.num_outputs, self.one_hot = criterion, num_outputs, one_hot
        if self.reduction == "none":
            raise ConfigError("loss.reduction", "none", "gives no single number", "write mean or sum")
        self.check_criterion()
        logit = type(criterion) not in TAKE_VALUES or isinstance(criterion, nn.BCEWithLogitsLoss)
        self.threshold = 0.0 if logit else 0.5
        # Broadcasting (N, 1) against (N,) would silently compare every output with every target.
        self._compares_shapes = type(criterion) in TAKE_VALUES

    @property
    def reduction(self) -> str:
        """`mean` or `sum` over the batch; a criterion that does not say is taken to give the mean."""
        return cast(str, getattr(self.criterion, "reduction", "mean"))

    @property
    def sums_loss(self) -> bool:  # type: ignore[override]
        """Whether the criterion sums."""
        return self.reduction == "sum"

    def to(self, kind: torch.device | torch.dtype) -> Supervised:
        """The task, with the criterion's weights there."""
        self.criterion.to(kind)
        return self

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The loss of the model's outputs for the inputs."""
        inputs, targets = self.pair(batch)
        outputs = model(inputs)
        loss = self.loss(outputs, targets)
        with torch.no_grad():
            return self.score(outputs, targets, loss)

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The same, with each misfit explained."""
        inputs, targets = self.pair(batch)
        outputs: object = model(inputs)
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if not isinstance(outputs, Tensor) or shape != self.output_shape(inputs):
            problem = f"gives outputs of shape {shape} for {len(inputs)} examples, not {self.output_shape(inputs)}"
            raise ConfigError("model", ConfigError.MISSING, problem, self.output_remedy)
        try:
            loss = self.loss(outputs, targets)
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            raise ConfigError(
                "loss", ConfigError.MISSING,
                f"{type(self.criterion).__name__} does not fit outputs of shape {shape} and targets of shape "
                f"{list(targets.shape)} ({targets.dtype}): {str(error).splitlines()[0]}",
                "for classes use loss=cross_entropy, for values loss=mse",
            ) from error  # fmt: skip
        if loss.dim() != 0:
            problem = f"gives shape {list(loss.shape)}, not one number"
            raise ConfigError("loss", ConfigError.MISSING, problem, "set loss.reduction=mean")
        return self.score(outputs, targets, loss)

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        """What is logged of a batch."""
        return Step(loss, len(targets), len(targets), {}, outputs, targets)

    def weight(self, batch: AnyBatch) -> int | Tensor:
        """What a mean over the batch divides by."""
        return self.weight_of(self.pair(batch)[1])

    def weight_of(self, targets: Tensor) -> int | Tensor:
        """Likewise, given the targets: the examples, or the sum of the weights of their classes."""
        weight = getattr(self.criterion, "weight", None)
        if weight is None or type(self.criterion) not in (nn.CrossEntropyLoss, NLL) or self.one_hot:
            return len(targets)
        return cast(Tensor, weight)[targets].sum()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: shape (N, num_outputs), or (N, L, num_outputs) where each token has its own.
            targets: int64 class indices of shape (N,) or (N, L), or float values of shape (N, num_outputs).

        Raises:
            ConfigError: the criterion compares values, and the targets have another shape than the outputs.
        """
        if self._compares_shapes and outputs.shape != targets.shape:
            raise ConfigError(
                "data.num_outputs",
                self.num_outputs,
                f"the outputs have shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}",
                "set it to the number of target values of an example",
            )
        return cast(Tensor, self.criterion(outputs, targets))

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each class, (N, max(K, 2)), of outputs (N, K); None where they are no such scores."""
        return None

    def predicted_classes(self, outputs: Tensor) -> Tensor | None:
        """Class indices (N,) of outputs (N, K); None where an example has not one class."""
        return None

    def output_shape(self, inputs: Tensor) -> list[int]:
        """The shape that the outputs for a batch must have."""
        return [len(inputs), self.num_outputs]

    @property
    def output_remedy(self) -> str:
        """What to do about a model with another one."""
        return f"the data has data.num_outputs={self.num_outputs}: the model's last layer must be as wide"

    def pair(self, batch: AnyBatch) -> tuple[Tensor, Tensor]:
        """Inputs and targets.

        Raises:
            DataError: the examples are no such pairs.
        """
        if isinstance(batch, Batch):
            return batch.inputs, batch.targets
        raise DataError(
            f"data.input_shape=null: data.task={self.name} needs pairs of input and target\n  give the shape of an "
            "input; examples of another structure are for task=custom and task=model"
        )

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion does not fit the task."""
        index = getattr(self.criterion, "ignore_index", IGNORED)
        if index >= 0:
            raise ConfigError(
                "loss.ignore_index",
                index,
                "would count ignored examples in every average over a batch",
                "leave such examples out of the data set",
            )
        if type(self.criterion) is nn.NLLLoss:
            raise self.misfit(
                "takes log-probabilities, and a model gives logits",
                "write loss=nll: it applies log_softmax, which leaves log-probabilities as they are",
            )

    def misfit(self, problem: str, remedy: str) -> ConfigError:
        """That the criterion does not fit."""
        return ConfigError("loss", type(self.criterion).__name__, problem, remedy)
