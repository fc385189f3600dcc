"""Tasks of the user's own: a function of the model and a batch, or the model's own `training_step`."""

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
    """Any computation that gives a loss.

    Args:
        function: (model, batch) -> a dict of `loss`, a scalar tensor, the mean over the batch's targets; and as wanted
            `num_targets`, how many those are (an int or a scalar tensor; else the examples); `outputs` and `targets`
            for the metrics; and further scalars, means over the targets, which are logged as `train/NAME` and
            `val/NAME`. The batch is (inputs, targets), or with `data.input_shape=null` what the data set yields,
            collated; its tensors are on the device.
        higher_is_better: for each further scalar that `monitor` may name.
    """

    name = "custom"

    def __init__(
        self,
        function: Callable[[nn.Module, Any], Values],
        higher_is_better: Mapping[str, bool] | None = None,
        key: str = "task",
    ) -> None:
        self.function, self.key = function, key
        self.higher_is_better = {"loss": False, **(higher_is_better or {})}

    def to(self, kind: torch.device | torch.dtype) -> Custom:
        """The task, with the function there, if it is a module, such as a teacher."""
        if isinstance(self.function, nn.Module):
            self.function.to(kind)
        return self

    def step(self, model: nn.Module, batch: AnyBatch) -> Step:
        """What the function gives.

        Raises:
            ConfigError: it gives something else.
        """
        values = self.function(model, batch.examples)
        if not isinstance(values, Mapping) or not isinstance(values.get("loss"), Tensor):
            found = f"a dict of {', '.join(map(str, values))}" if isinstance(values, Mapping) else type(values).__name__
            remedy = 'return {"loss": a scalar tensor, "kl": …}: what else is there is logged'
            raise self._misfit(f"gives {found}", remedy)
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
    """The model's own `training_step(batch)`, which gives what a `Custom` function does; evaluations call it too."""

    def __init__(self, higher_is_better: Mapping[str, bool] | None = None) -> None:
        super().__init__(_training_step, higher_is_better, "model.training_step")


def _training_step(model: nn.Module, batch: Any) -> Values:
    step = getattr(model, "training_step", None)
    if step is None:
        raise ConfigError(
            "task", "model", f"{type(model).__name__} has no method training_step",
            'write one that takes a batch and gives {"loss": …}, or choose another task',
        )  # fmt: skip
    return step(batch)  # type: ignore[no-any-return]
