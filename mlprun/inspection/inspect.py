"""`mlprun inspect`: show what a config would train, without a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from mlprun.config.schema import Config
from mlprun.errors import RunError, UserError
from mlprun.inspection.examples import data_lines, first_examples
from mlprun.inspection.gradients import check_gradients
from mlprun.inspection.schedule import draw_schedule, length_lines, schedule_figure
from mlprun.inspection.timing import device_lines, step_lines
from mlprun.job import summary
from mlprun.job.explain_error import explain
from mlprun.job.prepare import prepare
from mlprun.pictures.figures import save
from mlprun.pictures.samples import samples_figure
from mlprun.runs import directory
from mlprun.terminal import print_line, wrapped
from mlprun.training import finetune


def inspect(config: Config, folder: Path, *, claim: bool) -> int:
    """Print what the config would train, and draw it into `folder`; the exit status.

    `claim` appends four hex digits that make the folder unique. Errors are those that a run would report before its
    first step, and a wrong gradient.
    """
    try:
        return _inspect(config, folder, claim=claim)
    except UserError:
        raise
    except Exception as error:
        raise RunError(explain(error, config)) from error


def _inspect(config: Config, folder: Path, *, claim: bool) -> int:
    experiment = prepare(config)
    splits, batches, plan, weights = experiment.splits, experiment.batches, experiment.plan, experiment.weights
    drawn = draw_schedule(config, experiment.model, plan)
    first = first_examples(batches)

    print_lines(summary.data_line(config, experiment.split_sizes, experiment.task.describe_targets()))
    print_lines(*(summary.INDENT + line for line in splits.inputs.summary))
    print_lines(*(summary.INDENT + line for line in data_lines(config, splits, first, experiment.task)))
    print_lines(*summary.model_lines(config, experiment.summary, experiment.num_trained_parameters, macs=True))
    if weights is not None:
        print_lines(f"weights {finetune.summary(weights, str(config.trainer.weights))}")
    print_lines(summary.optim_line(config))
    print_lines(*length_lines(config, plan, batches, sums_loss=experiment.task.sums_loss))
    print_lines(*drawn.lines())
    pictures = {}
    if drawn.steps:
        pictures["schedule.png"] = schedule_figure(
            drawn.steps, drawn.curves, summary.optim_line(config)[8:], plan.steps_per_epoch
        )
    samples = samples_figure(config.data.name, config.seed, splits, first, experiment.task)
    if samples is not None:
        pictures["samples.png"] = samples
    print_lines(*device_lines(splits, first, batches.batch_size))
    print_lines(*step_lines(experiment))
    batches.report()
    wrong = check_gradients(experiment, first, print_lines) if config.inspect.check_gradients else None
    if pictures:
        _save(pictures, folder, claim=claim)
    if wrong is not None:
        raise wrong
    return 0


def _save(pictures: dict[str, Any], folder: Path, *, claim: bool) -> None:
    if claim:
        folder = directory.claim(str(folder))
    else:
        directory.make(folder)
    try:
        for name, figure in pictures.items():
            save(figure, folder / name)
    except BaseException:
        if claim:
            shutil.rmtree(folder)
        raise
    print_line(f"drawn   {folder}: {', '.join(pictures)}")


def print_lines(*lines: str) -> None:
    """Print lines, on a terminal wrapped between words."""
    for line in lines:
        for part in wrapped(line, summary.INDENT):
            print_line(part)
