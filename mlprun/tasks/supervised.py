"""Tasks with one target per example or token: a criterion compares the model's outputs with the targets."""

from __future__ import annotations

import math
import re
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError, DataError, UserError
from mlprun.tasks.base import Step, Task
from mlprun.tasks.losses import NLL, Hinge

# The targets that known criteria take. Compared by exact class: a subclass of the user's may take anything.
TAKE_CLASSES = (nn.CrossEntropyLoss, NLL, nn.MultiMarginLoss, Hinge)
TAKE_VALUES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss)

_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false"}


class Supervised(Task):
    """Calls a criterion with the model's outputs for a batch, and the targets in the form that it takes.

    Args:
        criterion: a loss of torch or of the user, called with (outputs, targets); not with `reduction="none"`.
        num_outputs: K, outputs of the model per example or token.
        one_hot: turn class indices into one-hot rows; ignored for a single output.

    Raises:
        ConfigError: the criterion cannot learn this task from these targets.
    """

    def __init__(self, criterion: nn.Module, num_outputs: int, one_hot: bool = False) -> None:
        self.criterion, self.num_outputs, self.one_hot = criterion, num_outputs, one_hot
        if self.reduction == "none":
            raise ConfigError("loss.reduction", "none", "gives no single number", "write mean or sum")
        self.check_criterion()
        # Above the threshold a single output means class 1.
        is_logit = type(criterion) not in TAKE_VALUES or isinstance(criterion, nn.BCEWithLogitsLoss)
        self.threshold = 0.0 if is_logit else 0.5
        self.softmax = type(criterion) not in TAKE_VALUES

    @property
    def reduction(self) -> str:
        """`mean` or `sum` over the batch; `mean` for a criterion without this attribute."""
        return cast(str, getattr(self.criterion, "reduction", "mean"))

    @property
    def sums_loss(self) -> bool:  # type: ignore[override]  # a constant elsewhere
        return self.reduction == "sum"

    def to(self, kind: torch.device | torch.dtype) -> Task:
        self.criterion.to(kind)
        return super().to(kind)

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        inputs, targets = self.pair(batch)
        outputs = model(inputs)
        loss = self.loss(outputs, targets)
        with torch.no_grad():
            return self.score(outputs, targets, loss)

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        inputs, targets = self.pair(batch)
        outputs: object = model(inputs)
        shape = list(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        if not isinstance(outputs, Tensor) or shape != self.output_shape(inputs):
            problem = f"gives outputs of shape {shape} for {len(inputs)} examples, not {self.output_shape(inputs)}"
            raise ConfigError("model", ConfigError.MISSING, problem, self.output_remedy)
        try:
            loss = self.loss(outputs, targets)
        except UserError:
            raise
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            if match := re.search(r"argument '(\w+)'.* must be (\w+), not (\w+)", str(error)):  # of torch's function
                value = getattr(self.criterion, match[1], ConfigError.MISSING)
                if isinstance(value, str | list | dict):
                    raise ConfigError(f"loss.{match[1]}", value, f"must be {_KINDS.get(match[2], match[2])}") from error
            shapes = f"outputs of shape {shape} and targets of shape {list(targets.shape)} ({targets.dtype})"
            problem = f"{type(self.criterion).__name__} does not fit {shapes}: {str(error).splitlines()[0]}"
            remedy = "for classes use loss=cross_entropy, for values loss=mse"
            raise ConfigError("loss", ConfigError.MISSING, problem, remedy) from error
        if loss.dim() != 0:
            problem = f"gives shape {list(loss.shape)}, not one number"
            raise ConfigError("loss", ConfigError.MISSING, problem, "set loss.reduction=mean")
        return self.score(outputs, targets, loss)

    def score(self, outputs: Tensor, targets: Tensor, loss: Tensor) -> Step:
        """The step with everything that is logged."""
        return Step(loss, len(targets), len(targets), {}, outputs, targets)

    def weight(self, batch: AnyBatch) -> int | Tensor:
        return self.weight_of(self.pair(batch)[1])

    def weight_of(self, targets: Tensor) -> int | Tensor:
        """The divisor of a mean loss: the number of targets, or the sum of their class weights."""
        weight = getattr(self.criterion, "weight", None)
        is_weighted = weight is not None and type(self.criterion) in (nn.CrossEntropyLoss, NLL)
        if not is_weighted or self.one_hot or targets.is_floating_point():
            return len(targets)
        return cast(Tensor, weight)[targets].sum()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            outputs: shape (N, num_outputs), or (N, L, num_outputs) with outputs per token.
            targets: int64 class indices of shape (N,) or (N, L), or float values of shape (N, num_outputs).

        Raises:
            ConfigError: the criterion compares values, and the targets have another shape than the outputs.
        """
        # Broadcasting (N, 1) against (N,) would silently compare every output with every target.
        if type(self.criterion) in TAKE_VALUES and outputs.shape != targets.shape:
            problem = f"the outputs have shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}"
            remedy = "set it to the number of target values of an example"
            raise ConfigError("data.num_outputs", self.num_outputs, problem, remedy)
        return cast(Tensor, self.criterion(outputs, targets))

    def mean_outputs(self, outputs: Tensor) -> Tensor:
        """The outputs (N, K) for the mean of several predictions, (M, N, K): of probabilities, else of the outputs."""
        kind = type(self.criterion)
        if kind in (nn.CrossEntropyLoss, NLL):
            return F.log_softmax(outputs, dim=2).logsumexp(0) - math.log(len(outputs))
        if kind is nn.BCEWithLogitsLoss:  # the logit of the mean of sigmoids
            return F.logsigmoid(outputs).logsumexp(0) - F.logsigmoid(-outputs).logsumexp(0)
        return outputs.mean(0)

    def predicted_classes(self, outputs: Tensor) -> Tensor | None:
        """Class indices (N,) of outputs (N, K); None unless each example has one class."""
        return None

    def output_shape(self, inputs: Tensor) -> list[int]:
        """The required shape of the outputs for a batch."""
        return [len(inputs), self.num_outputs]

    @property
    def output_remedy(self) -> str:
        """The remedy for a model with outputs of another shape."""
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

    def check_labels(self, error: Exception, labels: Tensor, when: str, num_classes: int, also: str = "") -> None:
        """Raise a DataError from `error` if a label is no class; `also`: words for further labels allowed."""
        wrong = labels[(labels < 0) | (labels >= num_classes)]
        if len(wrong):
            raise DataError(
                f"data: at {when}, a label is {int(wrong[0])} (data.num_outputs={self.num_outputs})"
                f"\n  labels are 0 to {num_classes - 1}{also}: correct data.num_outputs, or the labels of the data set"
            ) from error

    def check_criterion(self) -> None:
        """Raise ConfigError if the criterion does not fit the task."""
        index = getattr(self.criterion, "ignore_index", IGNORED)
        if index >= 0:
            problem = "would count ignored examples in every average over a batch"
            raise ConfigError("loss.ignore_index", index, problem, "leave such examples out of the data set")
        if type(self.criterion) is nn.NLLLoss:
            remedy = "write loss=nll: it applies log_softmax, which leaves log-probabilities as they are"
            raise self.misfit("takes log-probabilities, and a model gives logits", remedy)

    def misfit(self, problem: str, remedy: str) -> ConfigError:
        """The error for a criterion that does not fit."""
        return ConfigError("loss", type(self.criterion).__name__, problem, remedy)
