"""What a task is: how a model and a batch become a loss, and what is logged and measured beside it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch
from mlprun.errors import ConfigError


class Step(NamedTuple):
    """What a task makes of a batch; tensors stay on the device, so that nothing waits for it.

    Attributes:
        loss: scalar, to be minimised: the mean over the targets, or their sum if the task's `sums_loss`.
        num_targets: a scalar tensor where only the device knows.
        weight: what a mean loss divided by: `num_targets`, unless classes have weights.
        sums: name -> scalar, the sum over the targets of what is logged as `train/NAME` and `val/NAME`.
        outputs, targets: what the metrics compare, one row per target; None where there is nothing to compare.
    """

    loss: Tensor
    num_targets: int | Tensor
    weight: int | Tensor
    sums: dict[str, Tensor]
    outputs: Tensor | None = None
    targets: Tensor | None = None


class Metric(Protocol):
    """The interface of torchmetrics: accumulates batches, and gives one number."""

    @property
    def higher_is_better(self) -> bool | None:
        """None if nobody says."""

    def update(self, outputs: Tensor, targets: Tensor, /) -> None:
        """Add a batch."""

    def compute(self) -> Any:
        """The metric of all batches since the last `reset`."""

    def reset(self) -> None:
        """Begin anew."""


class Task:
    """How a model and a batch become a loss.

    Attributes:
        name: as in `data.task`.
        higher_is_better: metric -> whether it is better when higher, of all that `step` and `eval_step` log.
        sums_loss: whether the loss is the sum over the targets of a batch, not their mean.
        values_per_token: outputs of each token, 0 where a token has none of its own.
    """

    name = "custom"
    higher_is_better: Mapping[str, bool] = MappingProxyType({"loss": False})
    sums_loss = False
    values_per_token = 0

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The loss of a batch while training."""
        raise NotImplementedError

    def eval_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """The loss of a batch in an evaluation, with the outputs and targets for the metrics."""
        return self.step(model, batch)

    def trial_step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """An `eval_step` of two examples, before the first step; raises ConfigError where things do not fit."""
        return self.eval_step(model, batch)

    def compared(self, step: Step) -> tuple[Tensor, Tensor]:
        """What the metrics compare of an `eval_step`: outputs and targets, one row per target.

        Raises:
            ConfigError: this task has no such thing.
        """
        if step.outputs is None or step.targets is None:
            raise ConfigError(
                "metrics", ConfigError.MISSING, f"data.task={self.name} gives them nothing to compare",
                "let the task return `outputs` and `targets` beside its loss, or leave the metrics out",
            )  # fmt: skip
        return step.outputs, step.targets

    def weight(self, batch: AnyBatch) -> int | Tensor:
        """What a mean loss over the batch divides by, known before the model has seen it: for micro-batches."""
        return batch.num_examples

    def metrics(self, device: torch.device) -> dict[str, Metric]:
        """New metrics for an evaluation, by name."""
        return {}

    def summarize(self, means: dict[str, float]) -> dict[str, float]:
        """The metrics that the means over the targets of an evaluation tell."""
        return means

    def check_model(self, model: nn.Module, batch: AnyBatch, step: Step) -> None:
        """Raise ConfigError if the model cannot do this task, given two examples and what `trial_step` made of them."""

    def explain(self, error: Exception, batch: AnyBatch, when: str) -> None:
        """Raise a DataError from `error` if the targets of the batch are at fault."""

    def describe_targets(self) -> str:
        """What an example's target is, for people: `10 classes`."""
        return "a task of its own"

    def to(self, kind: torch.device | torch.dtype) -> Task:
        """The task, with what it computes with on a device, or of a floating-point type."""
        return self
