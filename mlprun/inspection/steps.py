"""How fast the devices and a step are, and whether the gradients are right."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlprun import randomness
from mlprun.data.batches import fits_in_memory
from mlprun.data.nested import AnyBatch, iter_tensors
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.errors import DivergedError, RunError
from mlprun.formatting import format_duration, pluralize
from mlprun.inspection import gradients, timing
from mlprun.inspection.terminal import print_lines
from mlprun.job.build_learner import build_learner, build_model
from mlprun.job.build_task import build_task
from mlprun.job.prepare import Experiment
from mlprun.job.summary import INDENT
from mlprun.text_table import column_widths, format_row
from mlprun.training import finetune

NUM_GRADIENT_EXAMPLES = 4


def device_lines(splits: Splits, first: AnyBatch, batch_size: int) -> list[str]:
    """Each device, how fast it multiplies matrices, and how fast data gets there."""
    train = splits.train
    batch: tuple[Tensor, ...]
    if isinstance(train, Examples):
        few = train[slice(0, batch_size)]
        batch = (few.inputs, few.targets)
    else:
        batch = tuple(tensor[:batch_size] for tensor in iter_tensors(first.examples))
    lines = []
    for place, device in enumerate(timing.devices()):
        lines.append(f"{'' if place else 'devices':<7} {timing.describe(device)}")
        products = [f"{size}x{size} {timing.matmul_gflops(device, size):,.0f}" for size in timing.MATRIX_SIZES]
        lines.append(f"          float32 matrix products, GFLOP/s: {', '.join(products)}")
        if device.type == "cpu":
            lines.append("          data needs no move: it is there")
            continue
        moved = f"moves a batch of {len(batch[0])} in {format_duration(timing.transfer_sec(batch, device))}"
        if isinstance(train, Examples):
            whole = (train.inputs, train.targets)
            moved += (
                f", the training data at once in {format_duration(timing.transfer_sec(whole, device, most=3))}"
                if fits_in_memory(train, device)
                else "; the training data is too large to be held there"
            )
        lines.append(f"          {moved}")
    return lines


def step_lines(experiment: Experiment) -> list[str]:
    """How long a training step takes, measured on a model that is thrown away, and what follows for the run."""
    batches, plan, device = experiment.batches, experiment.plan, experiment.device
    targets = experiment.splits.target_normalizer
    learner = build_learner(experiment.config, _first_model(experiment), plan, device, targets)
    with randomness.preserved():
        try:
            seconds, count = timing.step_sec(learner, batches, plan.num_steps)
        except DivergedError as error:
            return [f"speed   not measured: the run would stop at {error}"]
    name = f"{device}, {pluralize(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else str(device)
    moved = "once, before the first step" if isinstance(batches.part, Examples) else "with every batch"
    return [
        f"speed   {format_duration(seconds)} a training step on {name} (median of {count}), "
        f"{batches.batch_size / seconds:,.0f} examples a second",
        f"          {pluralize(plan.num_steps, 'step')} take {format_duration(seconds * plan.num_steps)}"
        "; evaluations and start come on top",
        f"          a GPU pays where it saves more of a step than moving data costs; here data moves {moved}",
    ]


def _first_model(experiment: Experiment) -> nn.Module:
    """A new model as a run begins with it: with the weights that it is given, and frozen where it is to be."""
    model = build_model(experiment.config)
    if experiment.weights is not None:
        finetune.load(experiment.weights[1], model)
    for name in finetune.frozen(experiment.config.trainer.freeze, model):
        model.get_parameter(name).requires_grad_(False)
    return model


def check_gradients(experiment: Experiment, first: AnyBatch) -> RunError | None:
    """Print a table of all parameters; what to say if a gradient is wrong."""
    few = first.map(lambda tensor: tensor[:NUM_GRADIENT_EXAMPLES])
    model = _first_model(experiment)
    header = ("parameter", "entries", "at kinks", "largest relative error")
    widths = column_widths([header, *([name] for name, _ in model.named_parameters())])
    print_lines(
        "gradients of the first weights, autograd against central differences in float64, "
        f"of {few.num_examples} examples, at up to {gradients.ENTRIES} entries of each parameter",
        INDENT + format_row(header, "<>>>", widths),
    )
    wrong = []
    config = experiment.config
    for row in gradients.compare(model, build_task(config), few, config.seed):
        verdict = "WRONG" if row.num_wrong else "ok" if row.num_kinks < row.num_entries else "nothing to compare"
        verdict += ", not used by the loss" * (not row.is_used)
        cells = (row.name, str(row.num_entries), str(row.num_kinks), f"{row.largest_error:.1e}")
        print_lines(f"{INDENT}{format_row(cells, '<>>>', widths)}  {verdict}")
        wrong += [row] * (row.num_wrong > 0)
    if not wrong:
        return None
    worst = wrong[-1]  # a fault spoils the gradients of all that runs before it: the last is the nearest to it
    others = f", and so are those of {pluralize(len(wrong) - 1, 'parameter')} before it" * (len(wrong) > 1)
    cause = (
        "it is detached from the loss: .detach(), .data, .item() or no_grad on the way"
        if not worst.is_used
        else "the likely cause is a torch.autograd.Function, in its layer or after it, whose backward is not the "
        "derivative of its forward, or something held constant on the way (a straight-through estimator and "
        "spectral_norm are so on purpose)"
    )
    return RunError(
        f"the gradient of '{worst.name}' is wrong at {worst.num_wrong} of {worst.num_entries} entries, with a relative "
        f"error of up to {worst.largest_error:.2g}{others}\n  {cause}"
    )
