"""The messages of a step that is not finite, and of an error in a model or a loss."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from mlprun.errors import DivergedError
from mlprun.tasks.base import Task
from mlprun.tasks.supervised import Supervised


def error(
    step: int,
    loss: float | None,
    grad_norm: float | None,
    *,
    has_finite_inputs: bool,
    last_finite: tuple[int, float, float] | None,
    lr: float,
    grad_clip: float | None,
    is_reduced: bool,
    num_skipped: int,
) -> DivergedError:
    """The step (from 0), the last finite values and the keys that are likely to help.

    Args:
        loss, grad_norm: None if they were finite, but not the weights after the step.
        has_finite_inputs: False if NaN or infinite inputs are known to be the cause.
        last_finite: step, loss and gradient norm of the last finite step, if any.
        is_reduced: whether the precision is lower than float32.
        num_skipped: consecutive steps skipped before giving up; 0 without `on_nan=skip`.
    """
    if num_skipped:
        problem = f"{num_skipped} steps in a row had a loss or gradient that is not finite, the last one step {step}"
    elif loss is None:
        problem = f"step {step}: its update left weights that are not finite"
    else:
        problem = f"step {step}: loss or gradient is not finite (loss {loss:g}, gradient norm {grad_norm:g})"
    if last_finite is not None:
        good, good_loss, good_norm = last_finite
        problem += f"; step {good} {'still ' * (good != step)}had loss {good_loss:g} and gradient norm {good_norm:g}"
    hints = ["debug=anomaly names the operation"] if loss is not None else []
    or_fp32 = ", or try trainer.precision=fp32" if is_reduced else ""
    if not has_finite_inputs:
        remedy, hints = "data: inputs of this batch are NaN or infinite; repair or leave out such examples", []
    elif last_finite is None and loss is not None:  # no update was done yet: no rate can be at fault
        remedy = f"with the first weights: look at the data and the loss{or_fp32}"
    else:
        clip = 1.0 if grad_clip is None else grad_clip / 10
        keys = f"optim.lr (now {lr:g}), trainer.grad_clip={clip:g} or scheduler.warmup='1 epoch'"
        remedy = f"try a lower {keys}{or_fp32}"
    if num_skipped:
        hints.append("trainer.on_nan=skip gives up here")
    elif loss is not None:
        hints.append("trainer.on_nan=skip passes over such steps")
    return DivergedError("\n  ".join([problem, remedy, *([", ".join(hints)] if hints else [])]))


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
        arguments = {name: frame.f_locals.get(name) for name in frame.f_code.co_varnames[1 : frame.f_code.co_argcount]}
        shapes = [f"{name} {list(value.shape)}" for name, value in arguments.items() if isinstance(value, Tensor)]
        layer = cast(Supervised, task).criterion if is_loss else module
        title = "the loss" if is_loss else f"layer '{names[id(module)]}'" * bool(names[id(module)])
        found = f"in {f'{title} {describe(layer)}'.strip()}" + f" with {', '.join(shapes)}" * bool(shapes)
        if with_values and isinstance(layer, nn.Embedding) and isinstance(index := arguments.get("input"), Tensor):
            found += f", values {int(index.min())} to {int(index.max())}"
    return found


def describe(layer: object) -> str:
    """`Linear(in_features=64, …)`, or only the class of a layer that has a long repr."""
    text = repr(layer)
    return text if len(text) < 100 and "\n" not in text else type(layer).__name__
