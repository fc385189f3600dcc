"""The exponential moving average of a model's weights (`trainer.ema`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from mlprun import signals
from mlprun.errors import ConfigError

_EXACT = (torch.float32, torch.float64, torch.complex64, torch.complex128)


class WeightAverage:
    """Averages the parameters of a model and its floating-point buffers, such as the statistics of batch norm.

    Update t sets `average` to `d average + (1 - d) weights` with `d = min(decay, (1 + t) / (10 + t))`, as
    TensorFlow's `ExponentialMovingAverage(num_updates=t)`: with `decay` alone, a run that is short compared with
    1 / (1 - decay) steps would be evaluated with nearly its initial weights. The first update copies the weights.

    Other buffers are the model's own: whole numbers, and those with infinite values, such as masks. torch's
    `AveragedModel` averages these too, and waits for a GPU at each update.

    Raises:
        ConfigError: a parameter has too few bits.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        for name, parameter in model.named_parameters():
            if parameter.is_floating_point() and parameter.dtype not in _EXACT:
                problem = f"{name} is {str(parameter.dtype).removeprefix('torch.')}, in which small changes are lost"
                remedy = "keep the weights in float32; trainer.precision=bf16 computes with fewer bits"
                raise ConfigError("trainer.ema", decay, problem, remedy)
        self._model, self._decay, self.num_updates = model, decay, 0
        self._averaged: list[Tensor] = []  # none before the first update
        self._buffers: list[tuple[dict[str, Tensor | None], str]] = []  # a user's forward may replace the tensor
        self._is_applied = False

    def update(self) -> None:
        """Add the weights after an optimizer step."""
        self.num_updates += 1
        if not self._averaged:
            self._start()
            return
        decay = min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))
        get_ema_multi_avg_fn(decay)(self._averaged, self._current(), self.num_updates)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Exchange weights and average during the block; may be nested, and does nothing before the first update."""
        if self._is_applied or not self._averaged:
            yield
            return
        current = self._current()
        try:
            with signals.deferred:
                self._exchange(current)
            yield
        finally:
            with signals.deferred:
                if self._is_applied:
                    self._exchange(current)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds: as `model` the average, in `ema` the weights that are trained."""
        if not self._averaged:
            return {}
        with self.applied():
            averaged = copy.deepcopy(self._model.state_dict())
        return {"model": averaged, "ema": {"raw_model": self._model.state_dict(), "num_updates": self.num_updates}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint; the model has its `model` already."""
        if "ema" in state:  # else it was written before the first step
            self._start()
            self._model.load_state_dict(state["ema"]["raw_model"])
            self.num_updates = state["ema"]["num_updates"]

    def _start(self) -> None:
        """Begin with the model's tensors as they are."""
        seen = set[int]()
        self._buffers = []
        for module in self._model.modules():
            for name, buffer in module._buffers.items():
                if buffer is None or buffer.dtype not in _EXACT or id(buffer) in seen:
                    continue
                seen.add(id(buffer))
                if bool(buffer.isfinite().all()):
                    self._buffers.append((module._buffers, name))
        self._averaged = [tensor.clone() for tensor in self._current()]

    def _current(self) -> list[Tensor]:
        parameters = [p.detach() for p in self._model.parameters() if p.dtype in _EXACT]
        return parameters + [buffers[name] for buffers, name in self._buffers]  # type: ignore[misc]  # none is None

    def _exchange(self, current: list[Tensor]) -> None:
        with torch.no_grad():
            for tensor, average in zip(current, self._averaged, strict=True):
                before = tensor.clone()
                tensor.copy_(average)
                average.copy_(before)
        self._is_applied = not self._is_applied
