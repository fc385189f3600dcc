"""A task defines how a model and a batch become a loss, and what is logged and measured with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.normalize import Normalizer, statistics
from mlprun.errors import ConfigError
from mlprun.formatting import printable


class Step(NamedTuple):
    """The result of a batch; tensors stay on the device, so that nothing waits for it."""

    loss: Tensor  # scalar, to be minimised: the mean over the targets, or their sum if the task's `sums_loss`
    num_targets: int | Tensor  # a scalar tensor if only the device knows it
    weight: int | Tensor  # the divisor of a mean loss: `num_targets`, unless classes have weights
    sums: dict[str, Tensor]  # name -> scalar, the sum over the targets of what is logged as `train/NAME`, `val/NAME`
    outputs: Tensor | None = None  # for the metrics, one row per target
    targets: Tensor | None = None


class Metric(Protocol):
    """The interface of torchmetrics: accumulates batches, and computes one number, or a dict of numbers by name.

    A metric may have `tasks`, the names of those it is for, and `set_task(task)`, which is called before the first
    batch.
    """

    @property
    def higher_is_better(self) -> bool | Mapping[str, bool] | None: ...  # by name for a dict; None: unknown

    def update(self, outputs: Tensor, targets: Tensor, /) -> None: ...

    def compute(self) -> Any: ...

    def reset(self) -> None: ...


class Task:
    """How a model and a batch become a loss."""

    name = "custom"  # as in `data.task`
    # Metric -> whether it is better when higher, for everything that `step` and `eval_step` log.
    higher_is_better: Mapping[str, bool] = MappingProxyType({"loss": False})
    sums_loss = False  # whether the loss is the sum over the targets of a batch, not their mean
    values_per_token = 0  # number of outputs per token, 0 if the outputs are not per token
    target_normalizer: Normalizer | None = None  # scales the targets of a regression
    known_classes: Sequence[str] = ()  # the data set's names of classes or labels, if it has them
    threshold = 0.0  # above it a single output means class 1, and a label's that it is there
    softmax = True  # whether several outputs are logits of a softmax; else each stands alone

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The loss of a batch in training."""
        raise NotImplementedError

    def eval_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The loss of a batch in an evaluation, with the outputs and targets for the metrics."""
        return self.step(model, batch)

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """An `eval_step` of two examples before training; raises ConfigError if model, loss and data do not fit."""
        return self.eval_step(model, batch)

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        """The outputs and targets of an `eval_step` for the metrics, one row per target.

        Raises:
            ConfigError: this task has none.
        """
        if step.outputs is None or step.targets is None:
            problem = f"data.task={self.name} gives them nothing to compare"
            remedy = "let the task return `outputs` and `targets` beside its loss, or leave the metrics out"
            raise ConfigError("metrics", ConfigError.MISSING, problem, remedy)
        return step.outputs, step.targets

    def in_data_units(self, values: Tensor) -> Tensor:
        """Outputs or targets, rescaled to the units of the data set."""
        return values if self.target_normalizer is None else self.target_normalizer.inverse(values)

    def weight(self, batch: AnyBatch) -> int | Tensor:
        """The divisor of a mean loss over the batch, known before the forward pass: for micro-batches."""
        return batch.num_examples

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """New metrics for an evaluation, by name."""
        return {}

    def probabilities(self, outputs: Tensor) -> Tensor | None:
        """The probability of each class, (N, max(K, 2)), from outputs (N, K); None if they are no such scores."""
        return None

    def names_of(self, count: int) -> list[str]:
        """The names of so many classes or labels, or their numbers."""
        known = len(self.known_classes) == count
        return [printable(name, keep="") for name in self.known_classes] if known else [str(i) for i in range(count)]

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics that follow from the means over all targets of an evaluation."""
        return means

    def check_model(self, model: nn.Module, batch: AnyBatch, step: Step) -> None:
        """Raise ConfigError if the model cannot do this task; `step` is the `trial_step` of two examples."""

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        """Raise a DataError from `error` if the targets of the batch are at fault."""

    def describe_targets(self) -> str:
        """The target of an example in words: `10 classes`."""
        return "a task of its own"

    def class_names(self, known: Sequence[str]) -> list[str]:
        """The names of an example's classes, `known` or their numbers; empty if its target is no class."""
        return []

    def label(self, target: Tensor, known: Sequence[str]) -> str:
        """The name of the class that is an example's target; empty as `class_names`."""
        names = self.class_names(known)
        return names[int(target.argmax() if target.numel() > 1 else target.round())] if names else ""

    def target_lines(self, targets: Tensor, first: Batch, known: Sequence[str], *, redrawn: bool) -> list[str]:
        """What `inspect` shows of all targets of the training split, and of those of its first examples.

        Args:
            known: names of classes.
            redrawn: each batch draws its own targets.
        """
        return [f"targets of train  {statistics(targets)}"]

    def to(self, kind: torch.device | torch.dtype) -> Task:
        """The task, with its tensors on a device, or of a floating-point type."""
        if self.target_normalizer is not None and isinstance(kind, torch.device):
            self.target_normalizer = self.target_normalizer.to(kind)
        return self
