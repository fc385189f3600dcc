"""One optimizer step, and how to evaluate: the model with its loss, optimizer and schedule."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mlprun import randomness
from mlprun.data.nested import AnyBatch, Batch, is_finite, shapes
from mlprun.data.normalize import Normalizer
from mlprun.errors import DivergedError, UserError
from mlprun.tasks.base import Metric, Task
from mlprun.tasks.metrics import Evaluation
from mlprun.training import diverged
from mlprun.training.rollback import rollback
from mlprun.training.schedule import Schedule

MAX_SKIPPED = 100  # steps in a row that `trainer.on_nan=skip` passes over before it gives up
MAX_UNCHECKED = 256  # steps whose values a GPU may keep before someone looks whether they are finite


class Update(NamedTuple):
    """What one optimizer step tells; tensors stay on the device, so that nothing waits for it.

    Attributes:
        loss: scalar, the loss over the batch.
        grad_norm: scalar, global norm of the gradient before clipping.
        sums: name -> scalar, summed over the targets, of what the task logs.
        num_targets: a scalar tensor where only the device knows.
        num_examples: in the batch.
        applied: False if the step was passed over (`on_nan=skip`).
    """

    loss: Tensor
    grad_norm: Tensor
    sums: dict[str, Tensor]
    num_targets: Tensor | int
    num_examples: int
    applied: bool = True


class _StepSkippedError(Exception):
    """Leaves an optimizer that calls the closure itself."""


class Learner:
    """What learns.

    Args:
        model: on `device`; its plain `state_dict` is what checkpoints hold, also when it is compiled.
        task: makes a loss of the model and a batch.
        optimizer: of the model's parameters.
        schedule: sets the learning rate before each step.
        device: where everything is.
        metrics: makes new metrics for an evaluation, by name; None: those of the task.
        seed: the noise of step `s` (dropout) is a function of (seed, s).
        accumulate: micro-batches a step.
        grad_clip: largest global gradient norm, or None.
        precision: `fp32`, `bf16` or `fp16`.
        on_nan: `stop` or `skip`.
        compiled: run the model through torch.compile.
        in_evaluation: modules of the model that stay in evaluation mode while it is trained, for they are frozen.
        targets: how the targets are scaled, so that outputs can be had in the data's own units; None: they are not.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        device: torch.device,
        *,
        seed: int,
        metrics: Callable[[], dict[str, Metric]] | None = None,
        accumulate: int = 1,
        grad_clip: float | None = None,
        precision: str = "fp32",
        on_nan: str = "stop",
        compiled: bool = False,
        in_evaluation: Iterable[nn.Module] = (),
        targets: Normalizer | None = None,
    ) -> None:
        self.model, self.task, self.optimizer, self.schedule = model, task, optimizer, schedule
        self.device, self.seed = device, seed
        self._metrics = metrics or (lambda: task.metrics(device))
        self.accumulate, self.grad_clip, self.on_nan = accumulate, grad_clip, on_nan
        self._in_evaluation = list(in_evaluation)
        self.targets = None if targets is None else targets.to(device)
        self._forward: nn.Module = cast(nn.Module, torch.compile(model)) if compiled else model
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._needs_closure = needs_closure(optimizer)
        # On a GPU, `stop` looks at many steps together, for each look waits for the device.
        self._looks_at_each = device.type == "cpu" or on_nan == "skip"
        self._skipped_in_a_row = 0
        # (step, loss, gradient norm)
        self._last_finite: tuple[int, float, float] | None = None
        self._unchecked: list[tuple[int, Tensor, Tensor]] = []

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group, as last used."""
        return float(self.optimizer.param_groups[0]["lr"])

    def train_mode(self) -> None:
        """Put the model in training mode, all but what is frozen."""
        self.model.train()
        for module in self._in_evaluation:
            module.training = False  # not eval(), which goes for all below it

    def update(self, batch: AnyBatch, step: int) -> Update:
        """Do optimizer step number `step` (from 0).

        Raises:
            DivergedError: the loss or the gradient is not finite (on a GPU: at the next `check_finite`).
        """
        randomness.seed_all(self.seed, "noise", step)  # a user's model may draw from NumPy or Python too
        self.schedule.apply(self.optimizer, step)
        # An optimizer with a closure looks at the loss several times in a step, and moves between the looks.
        undo = self._undo(weights=self._needs_closure) if self.on_nan == "skip" else None
        try:
            update = self._try(batch, step)
        except Exception as error:
            self._locate(error, batch, f"step {step}")
            raise
        if undo is not None and not update.applied:
            undo()
        return update

    def _undo(self, *, weights: bool) -> Callable[[], None]:
        """What takes a step back: what the forward pass moves, and with `weights` what the optimizer does."""
        if weights:
            return rollback(self.model, self._parameters, self.optimizer)
        return rollback(self.model)

    def _try(self, batch: AnyBatch, step: int) -> Update:
        """The step, or its refusal."""
        if self._needs_closure:
            results: list[Update] = []

            def closure() -> Tensor:
                results.append(self._backward(batch))
                # The first evaluation comes before any change of the weights.
                if len(results) == 1 and self._looks_at_each and not self._is_finite(*_values(results[0])):
                    raise _StepSkippedError
                return results[-1].loss

            with suppress(_StepSkippedError):
                # torch's stub wants a closure that gives a float; LBFGS takes the tensor
                self.optimizer.step(closure)  # type: ignore[arg-type]
            # It may also diverge within the step.
            return results[0]._replace(applied=self._note_finite(results[-1], step, batch))
        result = self._backward(batch)
        if not self._note_finite(result, step, batch):
            if self._scaler is not None:
                self._scaler.update()  # it expects that after each look at the gradients
            return result._replace(applied=False)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        return result

    def _backward(self, batch: AnyBatch) -> Update:
        """Gradients of the batch into `.grad`, clipped; in micro-batches that weigh what they hold."""
        self.optimizer.zero_grad(set_to_none=True)
        num_examples = batch.num_examples
        loss = torch.zeros((), device=self.device)
        sums: dict[str, Tensor] = {}
        count: Tensor | int = 0
        for part in [batch] if self.accumulate == 1 else batch.split(self.accumulate):
            with self._autocast():
                step = self.task.step(self._forward, part)
            part_loss = step.loss
            if part.num_examples != num_examples and not self.task.sums_loss:
                share = step.weight / self.task.weight(batch)
                # of 0 targets in the whole batch
                part_loss = part_loss * (share.nan_to_num(0.0) if isinstance(share, Tensor) else share)
            (part_loss if self._scaler is None else self._scaler.scale(part_loss)).backward()
            with torch.no_grad():
                loss = loss + part_loss.detach()
                count = count + step.num_targets
                sums = {name: value + sums[name] if name in sums else value for name, value in step.sums.items()}
            del step  # its outputs, of every token and class: the next part needs the room
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        if self.grad_clip is not None:
            clip_grads_with_norm_(self._parameters, self.grad_clip, norm)
        return Update(loss, norm, sums, count, num_examples)

    def _note_finite(self, result: Update, step: int, batch: AnyBatch) -> bool:
        """Whether the step may be applied; on a GPU `stop` leaves the answer to `check_finite`."""
        if not self._looks_at_each:
            self._unchecked.append((step, result.loss, result.grad_norm))
            if len(self._unchecked) >= MAX_UNCHECKED:
                self.check_finite()
            return True
        loss, norm = _values(result)
        if self._is_finite(loss, norm):
            self._last_finite = (step, loss, norm)
            self._skipped_in_a_row = 0
            return True
        if self.on_nan == "stop":
            raise self._diverged(step, loss, norm, batch)
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > MAX_SKIPPED:
            raise self._diverged(step, loss, norm, batch)
        return False

    def _is_finite(self, loss: float, norm: float) -> bool:
        # fp16's scaler meets infinite gradients on purpose and passes over such a step itself.
        return math.isfinite(loss) and (self._scaler is not None or math.isfinite(norm))

    def check_finite(self) -> None:
        """Raise DivergedError if a step since the last check, or what it left, was not finite; waits for the device.

        Called before anything is shown, evaluated or saved, so that a diverged model never becomes last or best.
        """
        if self._unchecked:
            steps, losses, norms = zip(*self._unchecked, strict=True)
            self._unchecked.clear()
            seen = zip(steps, torch.stack(losses).tolist(), torch.stack(norms).tolist(), strict=True)
            for step, loss, norm in seen:
                if not self._is_finite(loss, norm):
                    raise self._diverged(step, loss, norm)
                self._last_finite = (step, loss, norm)
        # A finite gradient times a huge rate: the next step's loss would tell, but these weights are to be saved now.
        moved = [p for p in self._parameters if p.grad is not None]
        if self._last_finite is not None and not math.isfinite(float(get_total_norm(moved, math.inf))):
            raise self._diverged(self._last_finite[0])

    def _diverged(
        self, step: int, loss: float | None = None, norm: float | None = None, batch: AnyBatch | None = None
    ) -> DivergedError:
        finite_inputs = batch is None or is_finite(batch)
        return diverged.error(
            diverged.Step(step, loss, norm, finite_inputs),
            last_finite=self._last_finite,
            lr=self.lr,
            grad_clip=self.grad_clip,
            is_reduced=self._dtype is not None,
            num_skipped=MAX_SKIPPED if self._skipped_in_a_row > MAX_SKIPPED else 0,
        )

    def _locate(self, error: Exception, batch: AnyBatch, when: str) -> None:
        """Note on an error of torch's or of the user's own code where it came up: the layer, the shapes, the step.

        Raises:
            DataError: instead, if a label is at fault.
        """
        if isinstance(error, UserError):
            return
        on_cpu = self.device.type == "cpu"  # what a GPU holds cannot be read after some errors
        if on_cpu:
            self.task.explain(error, batch, when)
        if layer := diverged.innermost_layer(error, self.model, self.task, with_values=on_cpu):
            error.add_note(layer)
        error.add_note(f"at {when}: {shapes(batch)}")

    def evaluate(self, batches: Iterable[AnyBatch]) -> Evaluation:
        """The metrics over a split, with the model in evaluation mode and no gradients."""
        evaluation = Evaluation(self.task, self._metrics())
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode():
            for batch in batches:
                try:
                    with self._autocast():
                        step = self.task.eval_step(self._forward, batch)
                    evaluation.update(step, batch.num_examples)
                except Exception as error:
                    self._locate(error, batch, "an evaluation")
                    raise
        if was_training:
            self.train_mode()
        return evaluation

    def outputs(self, inputs: Tensor) -> Tensor:
        """The outputs for scaled inputs (N, *input_shape) on the device, in evaluation mode and without gradients.

        Those of a regression are in the data's own units, also where targets are scaled. The module itself is called:
        shapes that a compiled one meets here would change what it is compiled to for the training.
        """
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            outputs: Tensor = self.model(inputs)
        if was_training:
            self.train_mode()
        return outputs if self.targets is None else self.targets.inverse(outputs)

    def predict(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """The outputs for a split, float32 (N, num_outputs), and its targets, in the same units; on the CPU."""
        outputs, targets = [], []
        for batch in batches:
            try:
                outputs.append(self.outputs(batch.inputs).float().cpu())
            except Exception as error:
                self._locate(error, batch, "a prediction")
                raise
            true = batch.targets if self.targets is None else self.targets.inverse(batch.targets)
            targets.append(true.cpu())
        return torch.cat(outputs), torch.cat(targets)

    def try_step(self, batch: AnyBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """One optimizer step in training mode at the present rate, finite or not, and back to where it was.

        Back are weights, buffers and the optimizer's state; not what a class of the user's counts in attributes.

        Returns:
            (name -> gradient, clipped, name -> change) of the trained parameters. Hooks of the model see the step.
        """
        undo = self._undo(weights=True)
        was_training, forward, scaler, accumulate = self.model.training, self._forward, self._scaler, self.accumulate
        # The module itself, whose hooks a compiled one may not call; all examples at once, so that hooks see them
        # together; and a scaler that only this step has moved.
        self._forward, self._scaler, self.accumulate = self.model, copy.deepcopy(scaler), 1
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        before = {name: p.detach().clone() for name, p in named}
        try:
            self.train_mode()
            self._backward(batch)
            gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
            # torch's stub wants a closure that gives a float; LBFGS takes the tensor
            self.optimizer.step((lambda: self._backward(batch).loss) if self._needs_closure else None)  # type: ignore
            return gradients, {name: p.detach() - before[name] for name, p in named}
        finally:
            self._forward, self._scaler, self.accumulate = forward, scaler, accumulate
            if not was_training:
                self.model.eval()
            self.optimizer.zero_grad(set_to_none=True)
            undo()

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
            "last_finite": self._last_finite,
        }

    def load_state_dict(self, state: dict[str, Any], *, new_length: bool = False) -> None:
        """Continue from what `state_dict` gave; with `new_length` on the schedule of a run of another length."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if new_length:
            self.schedule.recompute(self.optimizer, state["schedule"])
        else:
            self.schedule.load_state_dict(state["schedule"])
        self._skipped_in_a_row, self._last_finite = state["skipped_in_a_row"], state["last_finite"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether `optimizer.step` requires a closure that computes the loss and its gradients, as that of LBFGS does."""
    parameters = list(inspect.signature(type(optimizer).step).parameters.values())[1:2]
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


def _values(result: Update) -> tuple[float, float]:
    return float(result.loss), float(result.grad_norm)
