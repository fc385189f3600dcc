"""`mlprun inspect`: what a training would be, before it is one. Nothing is trained, and no run comes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from mlprun import randomness
from mlprun.config.schema import Config
from mlprun.errors import RunError, UserError
from mlprun.inspection import figures
from mlprun.inspection.examples import data_lines, first_examples, samples_figure
from mlprun.inspection.schedule import draw_schedule, length_lines
from mlprun.inspection.steps import check_gradients, device_lines, step_lines
from mlprun.inspection.terminal import can_print, print_lines
from mlprun.job import summary
from mlprun.job.build_data import build_splits, build_train_batches, find_device, split_sizes, trial_batch
from mlprun.job.build_learner import build_loss, build_model, build_plan, frozen_modules, num_trained_parameters
from mlprun.job.explain_error import explain
from mlprun.job.model_check import check_batch_norm, check_model
from mlprun.job.weights import initial_weights
from mlprun.runs import directory
from mlprun.training import finetune


def inspect(config: Config, folder: Path, *, claim: bool) -> int:
    """Print what the config would train, and draw it; the exit status.

    Args:
        config: checked.
        folder: for the pictures.
        claim: add four hex digits to the folder's name that make it this call's alone.

    Raises:
        UserError: what a training of the config would fail with before its first step; a wrong gradient.
    """
    try:
        return _inspect(config, folder, claim=claim)
    except (UserError, BrokenPipeError):  # `mlprun inspect | head`
        raise
    except Exception as error:
        raise RunError(explain(error, config)) from error


def _inspect(config: Config, folder: Path, *, claim: bool) -> int:
    # In the order of a run, so that what is wrong is said in its order, too.
    torch.set_num_threads(config.trainer.num_threads or 1)
    randomness.set_determinism(config.trainer.deterministic)
    where = find_device(config)
    parts = build_splits(config)
    criterion = build_loss(config)
    batches = build_train_batches(config, parts, where)
    plan = build_plan(config, batches.steps_per_epoch)
    model = build_model(config)
    fit = check_model(config, model, criterion, trial_batch(config, parts))
    check_batch_norm(fit, batches, config.trainer.accumulate, frozen_modules(config, model))
    weights = initial_weights(config, model, parts.tokenizer)
    torch.set_num_threads(
        config.trainer.num_threads or fit.num_threads(batches.batch_size // config.trainer.accumulate)
    )
    drawn = draw_schedule(config, model, plan)
    first = first_examples(batches)

    print_lines(summary.data_line(config, split_sizes(parts)))
    print_lines(*data_lines(config, parts, first))
    print_lines(*summary.model_lines(config, fit, num_trained_parameters(config, model), macs=True))
    if weights is not None:
        print_lines(f"weights {finetune.summary(weights[1], str(config.trainer.weights))}")
    print_lines(summary.optim_line(config))
    print_lines(*length_lines(config, plan, batches, criterion.reduction))
    print_lines(*drawn.lines(unicode=can_print("⣿┤└─│")))
    pictures = {}
    if drawn.steps:
        pictures["schedule.png"] = figures.schedule_figure(
            drawn.steps, drawn.curves, f"{summary.optim_line(config)[8:]}", plan.steps_per_epoch
        )
    if (samples := samples_figure(config, parts, first)) is not None:
        pictures["samples.png"] = samples
    print_lines(*device_lines(parts, first, batches.batch_size))
    print_lines(*step_lines(config, plan, batches, where, parts.target_normalizer))
    wrong = check_gradients(config, first) if config.inspect.check_gradients else None
    if pictures:
        _save(pictures, folder, claim=claim)
    if wrong is not None:
        raise wrong
    return 0


def _save(pictures: dict[str, Any], folder: Path, *, claim: bool) -> None:
    if claim:
        folder = directory.claim(str(folder))
        directory.keep_out_of_git(Path(folder.parts[0]))
    else:
        directory.make(folder)
    try:
        for name, figure in pictures.items():
            figures.save(figure, folder / name)
    except BaseException:
        if claim:
            shutil.rmtree(folder)
        raise
    print_lines(f"drawn   {folder}: {', '.join(pictures)}")
