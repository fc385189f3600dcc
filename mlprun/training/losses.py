"""Losses: a criterion, and the targets in the form that it takes."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError
from mlprun.tasks import BY_TOKEN


class NLL(nn.NLLLoss):
    """Negative log likelihood of logits: the value of cross entropy, in two steps.

    A model that already ends in `LogSoftmax` gets the same loss, for log_softmax is idempotent.
    Arguments are those of `torch.nn.NLLLoss`.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of logits (N, K) and class indices (N,)."""
        return super().forward(F.log_softmax(input, dim=-1), target)


class Hinge(nn.MultiMarginLoss):
    """The hinge loss, of several outputs or of one; arguments are those of `torch.nn.MultiMarginLoss`.

    - K outputs f, class y: mean over the K of max(0, margin - f_y + f_k)^p for k ≠ y, as torch has it.
    - One output f, classes 0 and 1 read as y = -1 and +1: max(0, margin - y f)^p. With margin 1 it is that of the
      support vector machine (Cortes & Vapnik 1995); with margin 0 it is Rosenblatt's criterion (1958): an example
      on the right side costs nothing, and gradient descent with batches of one is the perceptron's learning rule.

    A single output on the very boundary has a gradient, so that the perceptron also learns from zero weights.
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """The loss of outputs (N, K) and class indices (N,), or of outputs (N, 1) and classes 0 or 1 as (N, 1)."""
        if input.shape[-1] > 1:
            return super().forward(input, target)
        gap = self.margin - (2 * target - 1) * input
        # not clamp, whose gradient at the bound depends on the version of torch
        losses = torch.where(gap >= 0, gap, 0) ** self.p
        if self.weight is not None:
            losses = losses * self.weight[target.long()]
        return losses.sum() if self.reduction == "sum" else losses.mean()


# What the criteria known here take as targets. Exact classes: one derived by the user may take anything.
_TAKE_CLASSES = (nn.CrossEntropyLoss, NLL, nn.MultiMarginLoss, Hinge)
_TAKE_VALUES = (nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCEWithLogitsLoss, nn.BCELoss)


class Loss(nn.Module):
    """A criterion behind one interface: the outputs and targets of a batch in, a number out.

    The criterion gets

    - classification with several outputs: class indices (N,) as they are, or with `one_hot` float (N, K);
    - classification with one output, targets 0 and 1: float (N, 1);
    - regression: the values (N, num_outputs) as they are;
    - a class of each token: outputs (N * L, K) and class indices (N * L,), `IGNORED` where there is nothing to tell.

    Args:
        criterion: a loss of torch or of the user, called with (outputs, targets).
        task: one of `TASKS`.
        num_outputs: K, the number of outputs of the model.
        one_hot: turn class indices into one-hot rows; without effect on a single output.

    Raises:
        ConfigError: the criterion cannot learn this task from these targets. A criterion of the user's
            own is left alone, but for `reduction="none"` and one-hot rows in a regression.
    """

    def __init__(self, criterion: nn.Module, task: str, num_outputs: int, one_hot: bool) -> None:
        super().__init__()
        _check_fit(criterion, task, num_outputs, one_hot)
        self.criterion = criterion
        self.task = task
        self.num_outputs = num_outputs
        self.one_hot = one_hot
        # A single output trained on targets 0 and 1 decides in their middle; one that is a logit, at 0.
        logit = type(criterion) not in _TAKE_VALUES or isinstance(criterion, nn.BCEWithLogitsLoss)
        self.threshold = 0.0 if logit else 0.5
        # Broadcasting (N, 1) against (N,) would silently compare every output with every target.
        self._compares_shapes = type(criterion) in _TAKE_VALUES

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each class, (N, max(K, 2)), or None where the outputs are scores without that meaning.

        Softmax over the logits of a cross entropy; the sigmoid of each logit where classes are learned one against
        the rest, so that a row need not sum to 1. A criterion of the user's own may mean anything.

        Args:
            outputs: of the model, shape (N, K).
        """
        if self.task != "classification":
            return None  # of a token's classes, those who ask know that they are logits
        if type(self.criterion) in (nn.CrossEntropyLoss, NLL):
            return F.softmax(outputs, dim=1)
        if type(self.criterion) not in (nn.BCEWithLogitsLoss, nn.BCELoss):
            return None
        found = outputs if type(self.criterion) is nn.BCELoss else outputs.sigmoid()
        return torch.cat([1 - found, found], dim=1) if self.num_outputs == 1 else found

    def size(self, targets: Tensor) -> Tensor | int:
        """What a mean over a batch divides by: the examples, or the tokens that count, or the sum of their weights."""
        counted = targets != IGNORED if self.task in BY_TOKEN else None
        weight = getattr(self.criterion, "weight", None)
        if weight is None or type(self.criterion) not in (nn.CrossEntropyLoss, NLL) or self.one_hot:
            return len(targets) if counted is None else counted.sum()
        weights = cast(Tensor, weight)[targets if counted is None else targets.clamp(min=0)]
        return weights.sum() if counted is None else (weights * counted).sum()

    def nats(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """What perplexity is made of, the sum of the cross entropy over the tokens that count; None: the loss tells it.

        Class weights, smoothed labels or a criterion of the user's own make another loss of it.
        """
        criterion = self.criterion
        known = type(criterion) in (nn.CrossEntropyLoss, NLL) and getattr(criterion, "weight", None) is None
        if self.task not in BY_TOKEN or (known and not getattr(criterion, "label_smoothing", 0.0)):
            return None
        logits = outputs.flatten(0, 1).float()
        return F.cross_entropy(logits, targets.flatten(), ignore_index=IGNORED, reduction="sum")

    @property
    def reduction(self) -> str:
        """`mean` or `sum` over the batch; a criterion that does not say is taken to give the mean."""
        return cast(str, getattr(self.criterion, "reduction", "mean"))

    def share(self, part: Tensor, whole: Tensor) -> Tensor | float:
        """What the mean over the targets `part` weighs in the mean over `whole`, of which they are some; 0 for 0/0."""
        share = self.size(part) / self.size(whole)
        return share.nan_to_num(0.0) if isinstance(share, Tensor) else share

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss, a scalar; 0 where no token of a batch counts.

        Args:
            outputs: shape (N, num_outputs), or (N, L, num_outputs) where each token has its own.
            targets: int64 class indices of shape (N,) or (N, L), or float values of shape (N, num_outputs).

        Raises:
            ConfigError: regression targets of another shape than the outputs.
        """
        if self.task in BY_TOKEN:
            outputs, targets = outputs.flatten(0, 1), targets.flatten()
        if self.task == "classification":
            if self.num_outputs == 1:
                targets = targets.to(outputs.dtype).unsqueeze(1)
            elif self.one_hot:
                targets = F.one_hot(targets, self.num_outputs).to(outputs.dtype)
        if self._compares_shapes and outputs.shape != targets.shape:
            raise ConfigError(
                "data.num_outputs",
                self.num_outputs,
                f"the outputs have shape {tuple(outputs.shape)}, the targets {tuple(targets.shape)}",
                "set it to the number of target values of an example",
            )
        value = cast(Tensor, self.criterion(outputs, targets))
        if self.task in BY_TOKEN:  # of no tokens that count the mean is 0/0, and they are to change nothing
            value = torch.where((targets != IGNORED).any(), value, 0.0)
        return value


def _check_fit(criterion: nn.Module, task: str, num_outputs: int, one_hot: bool) -> None:
    name = type(criterion).__name__
    takes_classes, takes_values = type(criterion) in _TAKE_CLASSES, type(criterion) in _TAKE_VALUES

    def misfit(problem: str, remedy: str) -> ConfigError:
        return ConfigError("loss", name, problem, remedy)

    if getattr(criterion, "reduction", None) == "none":
        raise ConfigError("loss.reduction", "none", "gives no single number", "write mean or sum")
    if task in BY_TOKEN:
        if takes_values or type(criterion) in (nn.MultiMarginLoss, Hinge):
            raise misfit("cannot leave tokens out, and has no classes of tokens to tell", "write loss=cross_entropy")
        if one_hot:
            raise ConfigError("loss.one_hot", one_hot, "the targets are a class of each token", "leave it out")
        if getattr(criterion, "ignore_index", IGNORED) != IGNORED:
            raise ConfigError(
                "loss.ignore_index", criterion.ignore_index, f"tokens that do not count are marked by {IGNORED}",
                f"leave it out, or give such tokens of your own data the target {IGNORED}",
            )  # fmt: skip
    if getattr(criterion, "ignore_index", IGNORED) >= 0:
        raise ConfigError(
            "loss.ignore_index",
            criterion.ignore_index,
            "would count ignored examples in every average over a batch",
            "leave such examples out of the data set",
        )
    if type(criterion) is nn.NLLLoss:
        raise misfit(
            "takes log-probabilities, and a model gives logits",
            "write loss=nll: it applies log_softmax, which leaves log-probabilities as they are",
        )
    if task == "regression":
        if takes_classes:
            raise misfit("needs classes, and the targets of a regression are values", "write loss=mse")
        if one_hot:
            raise ConfigError(
                "loss.one_hot",
                one_hot,
                f"{name} has no classes to encode in a regression",
                "write loss=mse; or loss.one_hot=false where the targets are probabilities",
            )
    elif task in BY_TOKEN:
        if num_outputs == 1:
            raise ConfigError("data.num_outputs", 1, "a token needs two classes or more", "set it to their number")
    elif num_outputs == 1:
        if takes_classes and type(criterion) is not Hinge:
            raise misfit("has nothing to choose from with data.num_outputs=1", "write loss=bce")
    elif takes_values and not one_hot:
        raise misfit(f"cannot compare {num_outputs} outputs with a class index", "add loss.one_hot=true")
    elif takes_classes and one_hot and not isinstance(criterion, nn.CrossEntropyLoss):
        raise ConfigError("loss.one_hot", one_hot, f"{name} takes class indices", "leave it out")
