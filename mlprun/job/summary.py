"""A summary of data, model and optimizer, as a run and `mlprun inspect` print it. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlprun.config.schema import Config
from mlprun.formatting import pluralize
from mlprun.terminal import width
from mlprun.text_table import render

if TYPE_CHECKING:
    from mlprun.job.model_check import ModelSummary


INDENT = " " * 10  # of a continuation line


def data_line(config: Config, sizes: dict[str, int | None], targets: str) -> str:
    """The data's name, sizes and shapes.

    Args:
        sizes: examples of each split, None if unknown.
        targets: the task's description of them.
    """
    data = config.data
    counts = ", ".join(f"{n:,} {name}" if n is not None else f"{name} of unknown length" for name, n in sizes.items())
    counts += "" if data.num_folds is None else f" (val is fold {data.fold} of {data.num_folds}, from 0)"
    inputs = "examples" if data.input_shape is None else f"inputs {'x'.join(map(str, data.input_shape))}"
    drawn = " drawn equally often" if data.sampler == "balanced" else ""
    return f"data    {data.name}: {counts}; {inputs}, {targets}{drawn}"


def model_lines(
    config: Config, fit: ModelSummary, num_trained: int, *, most: int | None = None, macs: bool = False
) -> list[str]:
    """The model and a table of its layers.

    Args:
        num_trained: parameters that are not frozen.
        most: with more layers than that, show only the first and the last five; None: show all.
        macs: also show the multiply-adds per example, of every layer and in total.
    """
    work = f", {fit.macs:,} multiply-adds per example (linear, convolution and recurrent layers)" if macs else ""
    trained = f", {num_trained:,} trained" if num_trained < fit.num_parameters else ""
    lines = [f"model   {_class_name(config.model)}: {fit.num_parameters:,} parameters{trained}{work}"]
    layers = list(fit.layers)
    if most is not None and len(layers) > most:
        layers[5:-5] = []
    rows = [("layer", "class", "output", "parameters", "multiply-adds")]
    for layer in layers:
        shape = "x".join(map(str, layer.output_shape))
        count, work = f"{layer.num_parameters:,}", f"{layer.macs:,}" if layer.macs else ""
        rows.append((layer.name or "(model)", layer.kind, shape, count, work))
    shown, align = [row if macs else row[:-1] for row in rows], "<<<>>" if macs else "<<<>"
    table = render(shown, align, INDENT, max_width=width() - len(INDENT), flexible=[0, 1, 2])
    if len(layers) < len(fit.layers):
        table.insert(len(table) - 5, f"{INDENT}… {len(fit.layers) - 10} more layers")
    return lines + table


def optim_line(config: Config) -> str:
    """The optimizer, its learning rate, the schedule and the loss or the task."""
    rate = config.optim.get("lr")
    lr = "" if rate is None else f", lr {rate:g}"
    lr += "" if config.trainer.ema is None else f", ema {config.trainer.ema:g}"
    loss = config.task or config.loss  # a task of one's own has its own loss
    names = [_class_name(node) for node in (config.optim, config.scheduler, loss)]
    return f"optim   {names[0]}{lr}, {names[1]}; {names[2]}"


def device_line(config: Config, device_name: str, num_threads: int) -> str:
    processes = f"{config.trainer.devices} processes on " if config.trainer.devices > 1 else ""
    each = " each" if processes else ""
    return f"device  {processes}{device_name}, {pluralize(num_threads, 'thread')}{each}"


def length_line(config: Config, num_steps: int, batch_size: int) -> str:
    """The number of steps, and how a batch is split."""
    parts = min(config.trainer.accumulate, batch_size)
    whole, rest = divmod(batch_size, parts)
    sizes = f"{whole}" + f" or {whole + 1}" * bool(rest)
    split = f", {parts} x {sizes} by trainer.accumulate" if parts > 1 else ""
    return f"length  {pluralize(num_steps, 'step')} of {pluralize(batch_size, 'example')}{split}"


def _class_name(node: dict[str, object]) -> str:
    return str(node["_target_"]).rpartition(".")[2]
