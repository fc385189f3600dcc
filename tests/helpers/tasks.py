"""Tasks as a config builds them, and evaluations of batches that are at hand."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mlprun.config.instantiate import locate
from mlprun.data.nested import Batch
from mlprun.tasks.metrics import Evaluation
from mlprun.tasks.names import TARGETS
from mlprun.tasks.supervised import Supervised

CPU = torch.device("cpu")


def make_task(criterion: nn.Module, name: str, num_outputs: int, one_hot: bool = False) -> Supervised:
    return locate(TARGETS[name], "task")(criterion, num_outputs, one_hot)


class Given(nn.Module):
    """A model whose outputs are its inputs."""

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs


def evaluate(task: Supervised, batches: Iterable[tuple[Tensor, Tensor]]) -> Evaluation:
    """Of pairs of outputs and targets."""
    evaluation = Evaluation(task, task.metrics(CPU))
    for outputs, targets in batches:
        evaluation.update(task.eval_step(Given(), Batch(outputs, targets)))
    return evaluation
