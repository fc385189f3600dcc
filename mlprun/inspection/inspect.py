"""`mlprun inspect`: show what a config would train, without a run."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

from mlprun.config.schema import Config
from mlprun.errors import RunError, UserError
from mlprun.formatting import pluralize
from mlprun.inspection.examples import data_lines, first_examples
from mlprun.inspection.gradients import check_gradients
from mlprun.inspection.schedule import ScheduleCurves, draw_schedule, length_lines, schedule_figure
from mlprun.inspection.timing import Speed, device_lines, measure_steps, step_lines
from mlprun.job import summary
from mlprun.job.build_optimizer import group_lines
from mlprun.job.class_weights import weight_lines
from mlprun.job.explain_error import explain
from mlprun.job.prepare import Experiment, prepare
from mlprun.pictures.figures import save
from mlprun.pictures.samples import samples_figure
from mlprun.runs import directory
from mlprun.terminal import print_line, wrapped
from mlprun.training import finetune


def inspect(config: Config, folder: Path, *, claim: bool) -> dict[str, Any]:
    """Print what the config would train, and draw it into `folder`; the facts for `--json`.

    `claim` appends four hex digits that make the folder unique. Errors are those that a run would report before its
    first step, and a wrong gradient.
    """
    try:
        return _inspect(config, folder, claim=claim)
    except UserError:
        raise
    except Exception as error:
        raise RunError(explain(error, config)) from error


def _inspect(config: Config, folder: Path, *, claim: bool) -> dict[str, Any]:
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
    more = [*group_lines(config, experiment.model, plan), *weight_lines(config, splits, experiment.class_weights)]
    print_lines(*(summary.INDENT + line for line in more))
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
    if (count := config.trainer.devices) > 1:
        share = math.ceil(batches.batch_size / count)
        threads = f"{pluralize(experiment.num_threads, 'thread')} each"
        print_lines(
            f"processes {count}, each computes {share} of the {batches.batch_size} examples of a step; {threads}"
        )
    print_lines(*device_lines(splits, first, batches.batch_size))
    speed = measure_steps(experiment)
    print_lines(*step_lines(experiment, speed))
    batches.report()
    wrong = check_gradients(experiment, first, print_lines) if config.inspect.check_gradients else None
    files = _save(pictures, folder, claim=claim) if pictures else []
    if wrong is not None:
        raise wrong
    return _facts(experiment, drawn, speed) | {"pictures": files}


def _facts(experiment: Experiment, drawn: ScheduleCurves, speed: Speed) -> dict[str, Any]:
    config, plan, size = experiment.config, experiment.plan, experiment.batches.batch_size
    return {
        "data": {
            "name": config.data.name,
            "task": config.data.task,
            "sizes": experiment.split_sizes,
            "input_shape": config.data.input_shape,
            "class_names": experiment.splits.class_names,
        },
        "model": {
            "class": config.model["_target_"],
            "parameters": experiment.summary.num_parameters,
            "trained_parameters": experiment.num_trained_parameters,
            "multiply_adds_per_example": experiment.summary.macs,
        },
        "length": {
            "steps": plan.num_steps,
            "steps_per_epoch": plan.steps_per_epoch,
            "batch_size": size,
            "eval_every": plan.eval_every,
            "save_every": plan.save_every,
        },
        "rates": {
            name: {"first": values[0], "last": values[-1], "lowest": min(values), "highest": max(values)}
            for name, values in drawn.curves.items()
        },
        "speed": {
            "device": str(experiment.device),
            "step_sec": speed.step_sec,
            "examples_per_sec": size / speed.step_sec,
            "problem": speed.problem,
        },
    }


def _save(pictures: dict[str, Any], folder: Path, *, claim: bool) -> list[Path]:
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
    return [folder / name for name in pictures]


def print_lines(*lines: str) -> None:
    """Print lines, on a terminal wrapped between words."""
    for line in lines:
        for part in wrapped(line, summary.INDENT):
            print_line(part)
