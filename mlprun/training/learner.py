"""One optimizer step, and how to evaluate: the model with its loss, optimizer and schedule."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from mlprun import seeding
from mlprun.data.batches import Batch
from mlprun.errors import DivergedError
from mlprun.training.losses import Loss
from mlprun.training.metrics import Metrics, predicted_classes
from mlprun.training.schedule import Schedule

MAX_SKIPPED = 100  # steps in a row that `trainer.on_nan=skip` passes over before it gives up


class Update(NamedTuple):
    """What one optimizer step tells; tensors stay on the device, so that nothing waits for it.

    Attributes:
        loss: scalar, the loss over the batch.
        grad_norm: scalar, global norm of the gradient before clipping.
        correct: scalar, examples classified rightly (0 for regression).
        num_examples: in the batch.
        applied: False if the step was passed over (`on_nan=skip`).
    """

    loss: Tensor
    grad_norm: Tensor
    correct: Tensor
    num_examples: int
    applied: bool = True


class _StepSkippedError(Exception):
    """Leaves an optimizer that calls the closure itself."""


class Learner:
    """What learns.

    Args:
        model: on `device`; its plain `state_dict` is what checkpoints hold, also when it is compiled.
        loss: maps outputs and targets to a scalar.
        optimizer: of the model's parameters.
        schedule: sets the learning rate before each step.
        device: where everything is.
        task, num_outputs: for the metrics.
        seed: the noise of step `s` (dropout) is a function of (seed, s).
        accumulate: micro-batches a step.
        grad_clip: largest global gradient norm, or None.
        precision: `fp32`, `bf16` or `fp16`.
        on_nan: `stop` or `skip`.
        compiled: run the model through torch.compile.
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        device: torch.device,
        *,
        task: str,
        num_outputs: int,
        seed: int,
        accumulate: int = 1,
        grad_clip: float | None = None,
        precision: str = "fp32",
        on_nan: str = "stop",
        compiled: bool = False,
    ) -> None:
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.device, self.task, self.num_outputs, self.seed = device, task, num_outputs, seed
        self.accumulate, self.grad_clip, self.on_nan = accumulate, grad_clip, on_nan
        self._forward = torch.compile(model) if compiled else model
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._needs_closure = isinstance(optimizer, torch.optim.LBFGS)
        self._first_bad_step = torch.full((), -1, device=device)
        self._skipped_in_a_row = 0
        self._last_finite: tuple[int, float, float] | None = None

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group, as last used."""
        return float(self.optimizer.param_groups[0]["lr"])

    def update(self, batch: Batch, step: int) -> Update:
        """Do optimizer step number `step` (from 0).

        Raises:
            DivergedError: the loss or the gradient is not finite (on a GPU: at the next `check_finite`).
        """
        seeding.seed_all(self.seed, "noise", step)  # a user's model may draw from NumPy or Python too
        self.schedule.apply(self.optimizer, step)
        # The forward pass moves batch norm's running statistics before anyone knows that the step will be skipped.
        buffers = [(b, b.clone()) for b in self.model.buffers()] if self.on_nan == "skip" else []
        update = self._try(batch, step)
        if not update.applied:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
        return update

    def _try(self, batch: Batch, step: int) -> Update:
        """The step, or its refusal."""
        if self._needs_closure:
            results: list[Update] = []

            def closure() -> Tensor:
                results.append(self._backward(batch))
                # The first evaluation comes before any change of the weights.
                if len(results) == 1 and not self._note_finite(results[0], step):
                    raise _StepSkippedError
                return results[-1].loss

            with suppress(_StepSkippedError):
                # torch's stub wants a closure that gives a float; LBFGS itself takes the tensor
                self.optimizer.step(closure)  # type: ignore[arg-type]
                if len(results) > 1:  # it may also diverge within the step
                    self._note_finite(results[-1], step)
                return results[0]
            return results[0]._replace(applied=False)
        result = self._backward(batch)
        if not self._note_finite(result, step):
            return result._replace(applied=False)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        return result

    def _backward(self, batch: Batch) -> Update:
        """Gradients of the batch into `.grad`, clipped; in micro-batches that weigh what they hold."""
        self.optimizer.zero_grad(set_to_none=True)
        count = len(batch.targets)
        loss = correct = torch.zeros((), device=self.device)
        parts = (
            [(batch.inputs, batch.targets)]
            if self.accumulate == 1
            else zip(
                batch.inputs.tensor_split(min(self.accumulate, count)),
                batch.targets.tensor_split(min(self.accumulate, count)),
                strict=True,
            )
        )
        for inputs, targets in parts:
            with self._autocast():
                outputs = self._forward(inputs)
                part_loss = self.loss(outputs, targets)
            if len(targets) != count and self.loss.reduction == "mean":
                part_loss = part_loss * (self.loss.size(targets) / self.loss.size(batch.targets))
            (part_loss if self._scaler is None else self._scaler.scale(part_loss)).backward()
            with torch.no_grad():
                loss = loss + part_loss.detach()
                if self.task == "classification":
                    correct = correct + (predicted_classes(outputs, self.loss.threshold) == targets).sum()
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.grad_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(self._parameters, self.grad_clip, norm)
        return Update(loss, norm, correct, count)

    def _note_finite(self, result: Update, step: int) -> bool:
        """Whether the step may be applied; on a GPU `stop` waits for `check_finite` instead of for the device."""
        # fp16's scaler meets infinite gradients on purpose and passes over such a step itself.
        finite = torch.isfinite(result.loss if self._scaler else result.loss + result.grad_norm)
        if self.on_nan == "stop" and self.device.type != "cpu":
            bad = torch.where(finite, -1, step)
            self._first_bad_step = torch.where(self._first_bad_step < 0, bad, self._first_bad_step)
            return True
        if bool(finite):
            self._last_finite = (step, float(result.loss), float(result.grad_norm))
            self._skipped_in_a_row = 0
            return True
        if self.on_nan == "stop":
            raise self._diverged(step, float(result.loss), float(result.grad_norm))
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MAX_SKIPPED:
            raise DivergedError(
                f"{MAX_SKIPPED} steps in a row had a loss or gradient that is not finite, the last one step {step}"
                f"\n  trainer.on_nan=skip gives up; try a lower optim.lr (now {self.lr:g}) or trainer.grad_clip=1.0"
            )
        return False

    def check_finite(self) -> None:
        """Raise DivergedError if a step since the last check was not finite; waits for the device.

        Called before anything is shown, evaluated or saved, so that a diverged model never becomes last or best.
        """
        if self.device.type != "cpu" and (step := int(self._first_bad_step)) >= 0:
            raise self._diverged(step)

    def _diverged(self, step: int, loss: float = float("nan"), norm: float = float("nan")) -> DivergedError:
        what = f"loss {loss:g}, gradient norm {norm:g}" if self.device.type == "cpu" else "loss or gradient"
        before = "" if self._last_finite is None else (
            f"; step {self._last_finite[0]} still had loss {self._last_finite[1]:g}"
            f" and gradient norm {self._last_finite[2]:g}"
        )  # fmt: skip
        return DivergedError(
            f"step {step}: not finite any more ({what}){before}"
            f"\n  try a lower optim.lr (now {self.lr:g}), trainer.grad_clip=1.0 or scheduler.warmup='1 epoch';"
            "\n  debug=anomaly names the operation, trainer.on_nan=skip passes over such steps"
        )

    def evaluate(self, batches: Iterable[Batch]) -> Metrics:
        """The metrics over a split, with the model in evaluation mode and no gradients."""
        metrics = Metrics(self.task, self.num_outputs, self.device, self.loss.threshold)
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for batch in batches:
                with self._autocast():
                    outputs = self._forward(batch.inputs)
                    loss = self.loss(outputs, batch.targets)
                size = self.loss.size(batch.targets)
                metrics.update(outputs, batch.targets, loss, mean=self.loss.reduction == "mean", size=size)
        self.model.train(was_training)
        return metrics

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def state_dict(self) -> dict[str, Any]:
        """All that a step changes: plain tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def load_state_dict(self, state: dict[str, Any], *, new_length: bool = False) -> None:
        """Continue from what `state_dict` gave; with `new_length` on the schedule of a run of another length."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if new_length:
            self.schedule.recompute(self.optimizer, state["schedule"])
        else:
            self.schedule.load_state_dict(state["schedule"])
        self._skipped_in_a_row = state["skipped_in_a_row"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])
