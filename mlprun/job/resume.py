"""Go on from a checkpoint: everything that makes a resumed run the same as one that was never stopped."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from mlprun.analysis.diff import compare_records
from mlprun.config.identity import identity
from mlprun.config.schema import Config
from mlprun.errors import ConfigError, RunError
from mlprun.job.attempt import Attempt
from mlprun.job.build_learner import build_plan, learning_rates
from mlprun.job.prepare import Experiment
from mlprun.job.weights import check_tokens
from mlprun.runs.checkpoint import Recovered
from mlprun.runs.directory import now_utc
from mlprun.runs.metrics import count_rows
from mlprun.runs.record import RunRecord
from mlprun.training.loop import Progress

log = logging.getLogger("mlprun")


def explain_length_change(
    before: Config, now: Config, module: nn.Module, steps_per_epoch: int | None, step: int
) -> list[str]:
    """Why a run that changes its length at `step` ends differently from one of the new length; empty: it does not."""
    old, new = build_plan(before, steps_per_epoch), build_plan(now, steps_per_epoch)
    reasons = []
    if learning_rates(before, module, old, step) != learning_rates(now, module, new, step):
        name = now.scheduler["_target_"].rpartition(".")[2]
        reasons.append(f"scheduler: the rates of {name} up to step {step} were those of {old.num_steps} steps")
    for key, was, becomes in (("eval_every", old.eval_every, new.eval_every),
                              ("logging.every", old.log_every, new.log_every)):  # fmt: skip
        if was != becomes:
            reasons.append(f"{key}: {was} steps up to step {step}, {becomes} from there")
    if step == old.num_steps and step % new.eval_every:
        reasons.append(f"eval_every: the evaluation at step {step} was that of the end")
    return reasons


def resume_training(attempt: Attempt, before: RunRecord, now: RunRecord, around: dict[str, Any], command: str) -> None:
    """Put learner and progress where the newest checkpoint left them; print and record what is not as it was.

    Args:
        attempt: its learner and progress are new, and changed in place.
        before: the record as the last attempt left it.
        now: the record of this attempt.
        around: what `surroundings` says of this attempt.
        command: the command line, for the record.

    Raises:
        RunError: no checkpoint can be used, or the newest one is another run's.
        ConfigError: the run is longer already than the config says, or token ids mean other tokens now.
    """
    lines = _restore(attempt, before.steps)
    # of weights that a checkpoint has by now, the file does not matter any more
    requested, others = _changes(before, RunRecord({**now, "weights": before.weights, **around}))
    if others:
        lines += ["since the run began these have changed, and its result may too:", *(f"  {line}" for line in others)]
    for line in lines:
        log.info("%s", line)
    entry = {"at": now_utc(), "step": attempt.progress.step, "command": command, "changed": [*requested, *others]}
    entry |= {key: value for key, value in before.items() if key in ("metrics", "best_step", "ended_by")}
    attempt.directory.update(config=attempt.experiment.config.to_dict())
    attempt.directory.update(resumed=[*before.resumed, entry])


def _changes(before: RunRecord, now: RunRecord) -> tuple[list[str], list[str]]:
    """The changes that were requested, and what else is not as it was when the run began; one line each."""
    # what an attempt that ended early had not written yet is no difference
    differences = compare_records(before, {key: value for key, value in now.items() if key in before})
    others = [str(d) for section in ("code", "environment", "data") for d in differences[section]]
    return [str(d) for d in differences["config"]], others


def _restore(attempt: Attempt, steps_before: int | None) -> list[str]:
    """Learner and progress from the newest checkpoint, and what the user should know of it, line by line."""
    experiment, progress = attempt.experiment, attempt.progress
    plan = experiment.plan
    recovered = attempt.saver.recover(experiment.device)
    if recovered is None:
        done = f", though the run had done {steps_before} steps" if steps_before else ""
        return [f"there is no checkpoint{done}: starting from step 0"]
    state = recovered.state
    length = {key: state.config[key] for key in ("epochs", "steps")}
    longer = length != {key: getattr(experiment.config, key) for key in length}
    _load(attempt, recovered, new_length=longer)
    lines = [f"resumed at step {progress.step} of {plan.num_steps}, from {recovered.path}"]
    if longer:
        lines += _length_lines(experiment, length, progress.step)
    if recovered.best_is_lost:
        lines.append(
            f"the best checkpoint, of step {progress.best_step} ({experiment.config.monitor} {progress.best:g}), is "
            "lost: best.pt will be the best from here on"
        )
        progress.best = progress.best_values = None
    lines += _lost_rows(attempt.directory.metrics_file, progress)
    if experiment.batches.is_stream and progress.step:
        lines.append("the training data is a stream, read again up to here: exact if it gives the same order again")
    if recovered.path.name != "last.pt":  # a kill came between two writes
        attempt.saver.save_last(state, keep=progress.step % plan.save_every == 0)
    return lines


def _load(attempt: Attempt, recovered: Recovered, *, new_length: bool) -> None:
    experiment, progress, state = attempt.experiment, attempt.progress, recovered.state
    config = experiment.config
    stored, own = ({"config": identity(c, length=False)} for c in (state.config, config.to_dict()))
    if differences := compare_records(stored, own)["config"]:
        raise RunError(f"checkpoint {recovered.path} is of another config than this run: {differences[0]}")
    check_tokens(config, experiment.splits.tokenizer, state, recovered.path)
    try:
        attempt.learner.load_state_dict(state, new_length=new_length)
        progress.load_state_dict(state.progress)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"checkpoint {recovered.path} does not fit the run's config: {error}") from error
    num_steps = experiment.plan.num_steps
    if progress.step > num_steps:
        key = "epochs" if config.steps is None else "steps"
        raise ConfigError(
            key, getattr(config, key), f"the run has done {progress.step} steps, and this would be {num_steps}"
        )


def _length_lines(experiment: Experiment, length: dict[str, Any], step: int) -> list[str]:
    """What to say of a run whose `epochs` and `steps` were `length` up to `step`."""
    before = replace(experiment.config, **length)
    steps_per_epoch = experiment.batches.steps_per_epoch
    effects = explain_length_change(before, experiment.config, experiment.model, steps_per_epoch, step)
    how = "differs from an uninterrupted run's:" if effects else "is that of an uninterrupted run"
    return [
        f"the length is {experiment.plan.num_steps} steps now; the result {how}",
        *(f"  {effect}" for effect in effects),
    ]


def _lost_rows(metrics_file: Path, progress: Progress) -> list[str]:
    lost = progress.num_rows - count_rows(metrics_file, progress.step - progress.pending)
    return [f"{metrics_file} has lost {lost} of {progress.num_rows} rows up to here"] if lost > 0 else []
