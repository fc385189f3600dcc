"""One optimizer step, and how to evaluate: the model with its loss, optimizer and schedule."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from mlprun import randomness
from mlprun.data.nested import AnyBatch, Batch, is_finite, shapes
from mlprun.errors import ConfigError, DivergedError, UserError
from mlprun.tasks.base import Metric, Step, Task
from mlprun.tasks.metrics import Evaluation
from mlprun.training import diverged
from mlprun.training.distributed import SINGLE, World
from mlprun.training.ema import WeightAverage
from mlprun.training.optimizer import GROUP_NAME, needs_closure
from mlprun.training.rollback import rollback
from mlprun.training.schedule import Schedule
from mlprun.training.update import Totals, Update

MAX_SKIPPED = 100  # consecutive steps that `trainer.on_nan=skip` skips before it gives up
MAX_UNCHECKED = 256  # steps whose values may stay on a GPU before they are checked


class _StepSkippedError(Exception):
    """Leaves an optimizer that calls the closure itself."""


class Learner:
    """A model with everything that trains and evaluates it.

    Args:
        model: on `device`; checkpoints hold its plain `state_dict`, also when it is compiled.
        metrics: builds the metrics of an evaluation, by name; None: those of the task.
        seed: the noise of step `s` (dropout) is a function of (seed, s).
        accumulate: micro-batches per step.
        grad_clip: largest global gradient norm, or None.
        precision: `fp32`, `bf16` or `fp16`.
        on_nan: `stop` or `skip`.
        compiled: run the model through torch.compile.
        in_evaluation: frozen modules, which stay in evaluation mode during training.
        frozen: parameters of the optimizer that are not trained before step `unfreeze_at`; None: at all.
        ema: decay of the moving average of the weights, which is evaluated instead of them; None: no average.
        world: the processes that share each step.
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
        frozen: Iterable[nn.Parameter] = (),
        unfreeze_at: int | None = None,
        ema: float | None = None,
        world: World = SINGLE,
    ) -> None:
        self.model, self.task, self.optimizer, self.schedule = model, task, optimizer, schedule
        self.device, self.seed, self.world = device, seed, world
        self._metrics = metrics or (lambda: task.metrics(device))
        self._warned: set[str] = set()  # of metrics
        self.accumulate, self.grad_clip, self.on_nan = accumulate, grad_clip, on_nan
        self._in_evaluation, self._frozen, self._unfreeze_at = list(in_evaluation), list(frozen), unfreeze_at
        self._average = None if ema is None else WeightAverage(model, ema)
        self._forward: nn.Module = cast(nn.Module, torch.compile(model)) if compiled else model
        self._dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._scaler = torch.amp.GradScaler(device.type) if precision == "fp16" else None
        self._parameters = [p for p in model.parameters() if p.requires_grad]
        self._needs_closure = needs_closure(optimizer)
        # On a GPU, `stop` checks many steps at once: each check waits for the device.
        self._checks_each_step = device.type == "cpu" or on_nan == "skip"
        self._skipped_in_a_row = 0
        self._last_finite: tuple[int, float, float] | None = None  # step, loss, gradient norm
        self._unchecked: list[tuple[int, Tensor, Tensor]] = []

    @property
    def lr(self) -> float:
        """The learning rate of the first parameter group, as last used."""
        return float(self.optimizer.param_groups[0]["lr"])

    def rates(self) -> dict[str, float]:
        """`optim/lr`, and `optim/lr/NAME` of each group of `optim.groups`, as last used."""
        named = {group[GROUP_NAME]: group["lr"] for group in self.optimizer.param_groups if GROUP_NAME in group}
        return {"optim/lr": self.lr, **{f"optim/lr/{name}": float(lr) for name, lr in named.items()}}

    def train_mode(self) -> None:
        """Put the model in training mode, except frozen modules."""
        self.model.train()
        for module in self._in_evaluation:
            module.training = False  # not eval(), which applies to all submodules

    def unfreeze(self, step: int) -> None:
        """Train what was frozen until now, if step number `step` is `trainer.unfreeze_at` or later."""
        if self._unfreeze_at is None or step < self._unfreeze_at:
            return
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._parameters = [p for p in self.model.parameters() if p.requires_grad]
        self._in_evaluation, self._unfreeze_at = [], None
        if self.model.training:
            self.train_mode()

    def train_step(self, batch: AnyBatch, step: int) -> Update:
        """Do optimizer step number `step` (from 0).

        Raises:
            DivergedError: the loss or the gradient is not finite (on a GPU: at the next `check_finite`).
        """
        # a user's model may draw from NumPy or Python too; each process draws its own
        randomness.seed_all(self.seed, "noise", step, *([self.world.rank] if self.world.rank else []))
        self.unfreeze(step)
        self.schedule.apply(self.optimizer, step)
        undo = None
        if self.on_nan == "skip":
            # An optimizer with a closure evaluates the loss several times per step, and moves in between.
            undo = rollback(self.model, self.optimizer if self._needs_closure else None)
        with self._errors_located(batch, f"step {step}"):
            update = (self._step_with_closure if self._needs_closure else self._step)(batch, step)
        if undo is not None and not update.applied:
            undo()
        if self._average is not None and update.applied:  # fp16's scaler does not tell that it skipped a step
            self._average.update()
        return update

    def _step(self, batch: AnyBatch, step: int) -> Update:
        update = self._compute_gradients(batch)
        if not self._note_finite(update, step, batch):
            if self._scaler is not None:
                self._scaler.update()  # required after each `unscale_`
            return update._replace(applied=False)
        if self._scaler is None:
            self.optimizer.step()
        else:
            self._scaler.step(self.optimizer)
            self._scaler.update()
        return update

    def _step_with_closure(self, batch: AnyBatch, step: int) -> Update:
        updates: list[Update] = []

        def closure() -> Tensor:
            updates.append(self._compute_gradients(batch))
            # The first evaluation comes before any change of the weights.
            if len(updates) == 1 and self._checks_each_step and not self._is_finite(*updates[0].floats()):
                raise _StepSkippedError
            return updates[-1].loss

        with suppress(_StepSkippedError):
            # torch's stub wants a closure that returns a float; LBFGS takes the tensor
            self.optimizer.step(closure)  # type: ignore[arg-type]
        if not updates:
            problem = "requires a closure in step() but never calls it"
            remedy = "call closure() in step: it computes the loss and the gradients; or remove the argument"
            raise ConfigError("optim._target_", type(self.optimizer).__name__, problem, remedy)
        # It may also diverge within the step.
        return updates[0]._replace(applied=self._note_finite(updates[-1], step, batch))

    def _compute_gradients(self, batch: AnyBatch) -> Update:
        """Write the batch's gradients into `.grad`, clipped; micro-batches are weighted by their targets."""
        self.optimizer.zero_grad(set_to_none=True)
        num_examples = batch.num_examples
        total = Totals(torch.zeros((), device=self.device), num_examples)
        parts = [batch] if self.accumulate == 1 else batch.split(self.accumulate)
        for part in parts if num_examples else ():  # a process may have no share of a small batch
            with self._autocast():
                step = self.task.step(self._forward, part)
            part_loss = step.loss
            if part.num_examples != num_examples and not self.task.sums_loss:
                share = step.weight / self.task.weight(batch)
                # of 0 targets in the whole batch
                part_loss = part_loss * (share.nan_to_num(0.0) if isinstance(share, Tensor) else share)
            (part_loss if self._scaler is None else self._scaler.scale(part_loss)).backward()
            with torch.no_grad():
                total.add(step, part_loss.detach())
            del step  # frees its outputs, one per token and class, before the next part
        total = self.world.reduce(self._parameters, total, is_mean=not self.task.sums_loss)
        self.world.broadcast_buffers(self.model)
        if self._scaler is not None:
            self._scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = get_total_norm(gradients)
        if self.grad_clip is not None:
            clip_grads_with_norm_(self._parameters, self.grad_clip, norm)
        return Update(total.loss, norm, total.sums, total.num_targets, total.num_examples)

    def _note_finite(self, update: Update, step: int, batch: AnyBatch) -> bool:
        """Whether the step may be applied; on a GPU `stop` leaves the answer to `check_finite`."""
        if not self._checks_each_step:
            self._unchecked.append((step, update.loss, update.grad_norm))
            if len(self._unchecked) >= MAX_UNCHECKED:
                self.check_finite()
            return True
        loss, norm = update.floats()
        if self._is_finite(loss, norm):
            self._last_finite = (step, loss, norm)
            self._skipped_in_a_row = 0
            return True
        if self.on_nan == "skip":
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row <= MAX_SKIPPED:
                return False
        raise self._diverged(step, loss, norm, has_finite_inputs=is_finite(batch))

    def _is_finite(self, loss: float, norm: float) -> bool:
        # fp16's scaler provokes infinite gradients on purpose and skips such steps itself.
        return math.isfinite(loss) and (self._scaler is not None or math.isfinite(norm))

    def check_finite(self) -> None:
        """Raise DivergedError if a step since the last check, or the weights, are not finite; waits for the device.

        Called before anything is shown, evaluated or saved, so that a diverged model never becomes last or best.
        """
        if self._unchecked:
            steps, losses, norms = zip(*self._unchecked, strict=True)
            self._unchecked.clear()
            for step, loss, norm in zip(steps, torch.stack(losses).tolist(), torch.stack(norms).tolist(), strict=True):
                if not self._is_finite(loss, norm):
                    raise self._diverged(step, loss, norm)
                self._last_finite = (step, loss, norm)
        # A finite gradient times a huge rate: the next step's loss would show it, but these weights are saved now.
        moved = [p for p in self._parameters if p.grad is not None]
        if self._last_finite is not None and not math.isfinite(float(get_total_norm(moved, math.inf))):
            raise self._diverged(self._last_finite[0], None, None)

    def _diverged(
        self, step: int, loss: float | None, norm: float | None, *, has_finite_inputs: bool = True
    ) -> DivergedError:
        return diverged.error(
            step,
            loss,
            norm,
            has_finite_inputs=has_finite_inputs,
            last_finite=self._last_finite,
            lr=self.lr,
            grad_clip=self.grad_clip,
            is_reduced=self._dtype is not None,
            num_skipped=MAX_SKIPPED if self._skipped_in_a_row > MAX_SKIPPED else 0,
        )

    @contextmanager
    def _errors_located(self, batch: AnyBatch, when: str) -> Iterator[None]:
        """Add to an error of torch or of user code where it occurred: the layer, the shapes, the step.

        Raises:
            DataError: instead, if a label is at fault.
        """
        try:
            yield
        except UserError:
            raise
        except Exception as error:
            on_cpu = self.device.type == "cpu"  # after some errors a GPU's memory cannot be read
            if on_cpu:
                self.task.explain(error, batch, when)
            if layer := diverged.innermost_layer(error, self.model, self.task, with_values=on_cpu):
                error.add_note(layer)
            error.add_note(f"at {when}: {shapes(batch)}")
            raise

    def evaluate(
        self, batches: Iterable[AnyBatch], forward: nn.Module | None = None, world: World = SINGLE
    ) -> Evaluation:
        """The metrics over a split, with the model in evaluation mode and no gradients.

        Args:
            forward: calls the model.
            world: the processes that share the work; each gets all metrics.
        """
        evaluation = Evaluation(self.task, self._metrics(), self._warned)

        def compute(batch: AnyBatch) -> Step:
            with self._errors_located(batch, "an evaluation"), self._autocast():
                return self.task.eval_step(forward or self._forward, batch)

        was_training = self.model.training
        self.model.eval()
        with self.averaged(), torch.inference_mode():
            for step in world.in_order(batches, compute, self.device):
                evaluation.update(step)
        if was_training:
            self.train_mode()
        return evaluation

    def averaged(self) -> AbstractContextManager[None]:
        """A block in which the model has its averaged weights, if it has any (`trainer.ema`); may be nested."""
        return nullcontext() if self._average is None else self._average.applied()

    def outputs(self, inputs: Tensor) -> Tensor:
        """The outputs for scaled inputs (N, *input_shape) on the device, in evaluation mode and without gradients.

        Those of a regression are in the data's own units, also if targets are scaled. Calls the plain module: new
        shapes would make torch.compile compile the training's model again.
        """
        was_training = self.model.training
        self.model.eval()
        with torch.inference_mode(), self._autocast():
            outputs: Tensor = self.model(inputs)
        if was_training:
            self.train_mode()
        return self.task.in_data_units(outputs)

    def predict(self, batches: Iterable[Batch]) -> tuple[Tensor, Tensor]:
        """The outputs for a split, float32 (N, num_outputs), and its targets, in the same units; on the CPU."""
        outputs, targets = [], []
        for batch in batches:
            with self._errors_located(batch, "a prediction"):
                outputs.append(self.outputs(batch.inputs).float().cpu())
            targets.append(self.task.in_data_units(batch.targets).cpu())
        return torch.cat(outputs), torch.cat(targets)

    def try_step(self, batch: AnyBatch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Do one optimizer step in training mode at the current rate, finite or not, and undo it.

        Restores weights, buffers and the optimizer's state, but no attributes of a user's class.

        Returns:
            (name -> gradient, clipped, name -> change) of the trained parameters. Hooks of the model see the step.
        """
        undo = rollback(self.model, self.optimizer)
        was_training = self.model.training
        kept = self._forward, self._scaler, self.accumulate, self.world
        # A compiled module may not call hooks; hooks are to see all examples at once; a scaler changes with each step;
        # no other process takes part.
        self._forward, self._scaler, self.accumulate = self.model, copy.deepcopy(self._scaler), 1
        self.world = SINGLE
        named = [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]
        before = {name: p.detach().clone() for name, p in named}
        try:
            self.train_mode()
            self._compute_gradients(batch)
            gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}
            closure = (lambda: self._compute_gradients(batch).loss) if self._needs_closure else None
            self.optimizer.step(closure)  # type: ignore[arg-type]  # as in _step_with_closure
            return gradients, {name: p.detach() - before[name] for name, p in named}
        finally:
            self._forward, self._scaler, self.accumulate, self.world = kept
            if not was_training:
                self.model.eval()
            self.optimizer.zero_grad(set_to_none=True)
            undo()

    def _autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self._dtype is None else torch.autocast(self.device.type, self._dtype)

    def state_dict(self) -> dict[str, Any]:
        """Everything that a step changes, as plain tensors and plain values; `model` is what an evaluation uses."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": {} if self._scaler is None else self._scaler.state_dict(),
            "skipped_in_a_row": self._skipped_in_a_row,
            "last_finite": self._last_finite,
        }
        return state if self._average is None else state | self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any], *, new_length: bool = False) -> None:
        """Continue from `state_dict`'s state; with `new_length` on the schedule of a run of another length."""
        self.model.load_state_dict(state["model"])
        if self._average is not None:
            self._average.load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        if new_length:
            self.schedule.recompute(self.optimizer, state["schedule"])
        else:
            self.schedule.load_state_dict(state["schedule"])
        self._skipped_in_a_row, self._last_finite = state["skipped_in_a_row"], state["last_finite"]
        if self._scaler is not None:
            self._scaler.load_state_dict(state["scaler"])

    def end_with(self, weights: dict[str, Any]) -> None:
        """Put weights to evaluate, those of a checkpoint, in the place of the trained and the averaged ones."""
        self.model.load_state_dict(weights)
        self._average = None
