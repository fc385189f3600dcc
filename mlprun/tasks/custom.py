"""The user's own tasks: a function of the model and a batch, or the model's own `training_step`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.data.nested import AnyBatch
from mlprun.errors import ConfigError
from mlprun.tasks.base import Step, Task

Values = Mapping[str, Any]


class Custom(Task):
    """Any computation that returns a loss.

    Args:
        function: (model, batch) -> a dict of `loss`, a scalar tensor, the mean over the batch's targets; optionally
            `num_targets`, their number (an int or a scalar tensor; default: the examples); `outputs` and `targets`
            for the metrics; and further scalars, means over the targets, which are logged as `train/NAME` and
            `val/NAME`. The batch is (inputs, targets), or with `data.input_shape=null` the collated items of the data
            set; its tensors are on the device.
        higher_is_better: for each further scalar that `monitor` may name.
    """

    def __init__(
        self,
        function: Callable[[nn.Module, Any], Values],
        higher_is_better: Mapping[str, bool] | None = None,
        key: str = "task",
    ) -> None:
        self.function, self.key = function, key
        self.higher_is_better = {"loss": False, **(higher_is_better or {})}

    def to(self, kind: torch.device | torch.dtype) -> Task:
        if isinstance(self.function, nn.Module):  # such as a teacher
            self.function.to(kind)
        return super().to(kind)

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Those of logits, as which the metrics of `mlprun.tasks.class_metrics` read the function's outputs."""
        if outputs.shape[1] > 1:
            return outputs.softmax(1)
        return torch.cat([-outputs, outputs], dim=1).sigmoid()

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        values = self.function(model, batch.examples)
        if not isinstance(values, Mapping) or not isinstance(values.get("loss"), Tensor):
            given = f"a dict of {', '.join(map(str, values))}" if isinstance(values, Mapping) else type(values).__name__
            raise self._misfit(f"gives {given}", 'return {"loss": a scalar tensor, "kl": …}: other scalars are logged')
        count = values.get("num_targets", batch.num_examples)
        sums = {}
        for name, value in values.items():
            if name in ("outputs", "targets", "num_targets"):
                continue
            if isinstance(value, Tensor) and value.dim() != 0:
                raise self._misfit(f"gives {name} of shape {list(value.shape)}", f"return one number: {name}.mean()")
            if name != "loss":
                scalar = value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
                sums[name] = scalar * count
        return Step(values["loss"], count, count, sums, values.get("outputs"), values.get("targets"))

    def _misfit(self, problem: str, remedy: str) -> ConfigError:
        return ConfigError(self.key, ConfigError.MISSING, problem, remedy)


class ModelStep(Custom):
    """The model's own `training_step(batch)`, which returns the dict of a `Custom` function; also in evaluations."""

    def __init__(self, higher_is_better: Mapping[str, bool] | None = None) -> None:
        super().__init__(_training_step, higher_is_better, "model.training_step")


def _training_step(model: nn.Module, batch: Any) -> Values:
    step = getattr(model, "training_step", None)
    if step is None:
        remedy = 'write one that takes a batch and gives {"loss": …}, or choose another task'
        raise ConfigError("task", "model", f"{type(model).__name__} has no method training_step", remedy)
    return step(batch)  # type: ignore[no-any-return]  # the user's method gives Any
