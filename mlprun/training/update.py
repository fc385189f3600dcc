"""What an optimizer step computes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from mlprun.tasks.base import Step


class Update(NamedTuple):
    """The result of one optimizer step; tensors stay on the device, so that nothing waits for it."""

    loss: Tensor  # scalar, over the batch
    grad_norm: Tensor  # scalar, the global norm before clipping
    sums: dict[str, Tensor]  # name -> scalar, the values that the task logs, summed over the targets
    num_targets: Tensor | int  # a scalar tensor if only the device knows it
    num_examples: int
    applied: bool = True  # False if the step was skipped (`on_nan=skip`)

    def floats(self) -> tuple[float, float]:
        """Loss and gradient norm; waits for the device."""
        return float(self.loss), float(self.grad_norm)


@dataclass
class Totals:
    """What the micro-batches of a step add up to; tensors stay on the device."""

    loss: Tensor  # the mean over `weight`, or a sum
    num_examples: int
    weight: Tensor | int = 0  # divisor of a mean loss
    num_targets: Tensor | int = 0
    sums: dict[str, Tensor] = field(default_factory=dict)

    def add(self, step: Step, loss: Tensor) -> None:
        """Add a micro-batch, whose share of the loss is `loss`."""
        self.loss = self.loss + loss
        self.weight = self.weight + step.weight
        self.num_targets = self.num_targets + step.num_targets
        self.sums = {n: value + self.sums[n] if n in self.sums else value for n, value in step.sums.items()}
