"""What to tell of a step that is not finite, and where an error in a model or a loss came up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from mlprun.errors import DivergedError
from mlprun.tasks.base import Task
from mlprun.tasks.supervised import Supervised


@dataclass(frozen=True)
class Step:
    """A step that was not finite.

    Attributes:
        number: from 0.
        loss, grad_norm: None if they were finite, and the weights after the step are not.
        has_finite_inputs: False if NaN or infinite inputs are known to be the cause.
    """

    number: int
    loss: float | None
    grad_norm: float | None
    has_finite_inputs: bool = True


def error(
    step: Step,
    *,
    last_finite: tuple[int, float, float] | None,
    lr: float,
    grad_clip: float | None,
    is_reduced: bool,
    num_skipped: int,
) -> DivergedError:
    """The step, the last finite values and the keys that are likely to help.

    Args:
        step: that was not finite.
        last_finite: step, loss and gradient norm of the last one that was; None if there was none.
        lr: of the step.
        grad_clip: largest gradient norm, None without clipping.
        is_reduced: whether the precision is lower than float32.
        num_skipped: steps in a row that were skipped before giving up; 0 if none is to be skipped.
    """
    number, loss = step.number, step.loss
    if num_skipped:
        what = f"{num_skipped} steps in a row had a loss or gradient that is not finite, the last one step {number}"
    elif loss is None:
        what = f"step {number}: its update left weights that are not finite"
    else:
        what = f"step {number}: not finite any more (loss {loss:g}, gradient norm {step.grad_norm:g})"
    if last_finite is not None:
        good, good_loss, good_norm = last_finite
        what += f"; step {good} {'still ' * (good != number)}had loss {good_loss:g} and gradient norm {good_norm:g}"
    hints = ["debug=anomaly names the operation"] if loss is not None else []
    if not step.has_finite_inputs:
        remedy, hints = "data: inputs of this batch are NaN or infinite; repair or leave out such examples", []
    elif last_finite is None and loss is not None:  # no update was done yet: no rate can be at fault
        remedy = (
            "with the first weights: look at the data and the loss" + ", or try trainer.precision=fp32" * is_reduced
        )
    else:
        clip = 1.0 if grad_clip is None else grad_clip / 10
        remedy = f"try a lower optim.lr (now {lr:g}), trainer.grad_clip={clip:g} or scheduler.warmup='1 epoch'"
        remedy += ", or trainer.precision=fp32" * is_reduced
    if num_skipped:
        hints.append("trainer.on_nan=skip gives up here")
    elif loss is not None:
        hints.append("trainer.on_nan=skip passes over such steps")
    return DivergedError(f"{what}\n  {remedy}" + f"\n  {', '.join(hints)}" * bool(hints))


def innermost_layer(error: Exception, model: nn.Module, task: Task, *, with_values: bool) -> str:
    """The innermost layer that was running, with the shapes of its arguments; empty if none was.

    Args:
        with_values: also read the values of an embedding's input.
    """
    names = {id(module): name for name, module in model.named_modules()}
    found = ""
    trace = error.__traceback__
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        module = frame.f_locals.get("self")
        is_loss = module is task and isinstance(task, Supervised) and frame.f_code.co_name == "loss"
        if not (id(module) in names or is_loss):
            continue
        arguments = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
        given = {name: frame.f_locals.get(name) for name in arguments}
        shapes = [f"{name} {list(value.shape)}" for name, value in given.items() if isinstance(value, Tensor)]
        layer = cast(Supervised, task).criterion if is_loss else module
        kind = repr(layer) if len(repr(layer)) < 100 and "\n" not in repr(layer) else type(layer).__name__
        title = "the loss" if is_loss else f"layer '{names[id(module)]}'" * bool(names[id(module)])
        found = f"in {f'{title} {kind}'.strip()}" + f" with {', '.join(shapes)}" * bool(shapes)
        if with_values and isinstance(layer, nn.Embedding) and isinstance(index := given.get("input"), Tensor):
            found += f", values {int(index.min())} to {int(index.max())}"
    return found
