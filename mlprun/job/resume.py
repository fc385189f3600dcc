"""Continue from a checkpoint, so that the result is that of an uninterrupted run."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from mlprun.analysis.diff import Difference, compare_records
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import pluralize
from mlprun.job.attempt import Attempt
from mlprun.job.build_learner import build_plan, scheduled
from mlprun.job.changes import SECTIONS, changes, identity_without_root
from mlprun.job.outcome import shorter_than_done
from mlprun.job.prepare import Experiment
from mlprun.runs.checkpoint import Recovered
from mlprun.runs.directory import now_utc
from mlprun.runs.metrics import count_rows
from mlprun.runs.record import RunRecord, section

log = logging.getLogger("mlprun")


def resume_training(attempt: Attempt, before: RunRecord, now: RunRecord, command: str) -> None:
    """Load the newest checkpoint into learner and progress; print and record what has changed.

    Args:
        attempt: its learner and progress are new, and changed in place.
        before: the record as the last attempt left it.
        now: the record of this attempt.
        command: the command line, for the record.

    Raises:
        RunError: no checkpoint can be used, or the newest one belongs to another run.
        ConfigError: the run has done more steps than configured, or inputs mean something else now.
    """
    differences = changes(before, now)  # an attempt that ended early may have recorded less
    _check_root(before, attempt.experiment.config.data.root, [d for d in differences["data"] if d.key != "weights"])
    requested = [str(d) for d in differences["config"]]
    others = [str(d) for section in SECTIONS for d in differences[section]]
    lines = _restore(attempt, before.steps, is_changed=bool(others))
    if others:
        lines += ["since the run began these have changed, and its result may too:", *(f"  {line}" for line in others)]
    for line in lines:
        log.info("%s", line)
    entry = {"at": now_utc(), "step": attempt.progress.step, "command": command, "changed": [*requested, *others]}
    entry |= {key: value for key, value in before.items() if key in ("metrics", "best_step", "ended_by")}
    attempt.directory.update(config=attempt.experiment.config.to_dict())
    attempt.directory.update(resumed=[*before.resumed, entry])


def _check_root(before: RunRecord, root: str | None, differing: list[Difference]) -> None:
    """ConfigError if the data lie elsewhere now and are not those of the run."""
    if root == section(before.config, "data").get("root"):
        return
    if differing:
        problem = "\n  ".join(["does not hold the data that the run was trained on:", *map(str, differing)])
        raise ConfigError("data.root", root, problem, "name a folder with the same files, or start a new run")
    if not (section(before.data, "fingerprints") or section(before.data, "digests")):
        log.warning("data.root=%s: whether these are the data of the run is unknown: it has no record of them", root)


def _restore(attempt: Attempt, steps_before: int | None, *, is_changed: bool) -> list[str]:
    """Load the newest checkpoint; returns lines for the user. `is_changed`: more than the length differs now."""
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
        lines += _length_lines(experiment, length, progress.step, is_changed=is_changed)
    if recovered.best_is_lost:
        best = f"step {progress.best_step} ({experiment.config.monitor} {progress.best:g})"
        lines.append(f"the best checkpoint, of {best}, is lost: best.pt will be the best from here on")
        progress.best = progress.best_values = None
    lines += _check_next_best(attempt)
    metrics_file = attempt.directory.metrics_file
    if (lost := progress.num_rows - count_rows(metrics_file, progress.step - progress.pending)) > 0:
        lines.append(f"{metrics_file} has lost {lost} of {progress.num_rows} rows up to here")
    if experiment.batches.is_stream and progress.step:
        lines.append("the training data is a stream, read again up to here: exact if it gives the same order again")
    if recovered.path.name != "last.pt":  # the run was killed between two writes
        attempt.saver.save_last(state, keep=progress.step % plan.save_every == 0)
    else:  # or before it had removed what it no longer needed
        attempt.saver.remove_old(state)
    return lines


def _check_next_best(attempt: Attempt) -> list[str]:
    """Keep those of the next best checkpoints that are there, at most as many as configured; returns lines."""
    progress, most = attempt.progress, attempt.experiment.plan.keep_best - 1
    wanted = progress.next_best[:most]
    progress.next_best = [pair for pair in wanted if attempt.saver.has(pair[1])]
    lost = [f"step_{step}.pt" for _, step in wanted if not attempt.saver.has(step)]
    return [f"of the next best checkpoints these are lost: {', '.join(lost)}"] if lost else []


def _load(attempt: Attempt, recovered: Recovered, *, new_length: bool) -> None:
    experiment, progress, state = attempt.experiment, attempt.progress, recovered.state
    config = experiment.config
    stored, own = ({"config": identity_without_root(c)} for c in (state.config, config.to_dict()))
    if differences := compare_records(stored, own)["config"]:
        raise RunError(f"checkpoint {recovered.path} is of another config than this run: {differences[0]}")
    experiment.splits.inputs.check_checkpoint(state, recovered.path)
    try:
        attempt.learner.load_state_dict(state, new_length=new_length)
        progress.load_state_dict(state.progress)
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"checkpoint {recovered.path} does not fit the run's config: {error}") from error
    if progress.step > experiment.plan.num_steps:
        raise shorter_than_done(config, progress.step, experiment.plan.num_steps)


def _length_lines(experiment: Experiment, length: dict[str, Any], step: int, *, is_changed: bool) -> list[str]:
    """Whether a run of another length up to `step` ends like an uninterrupted one; if not, why."""
    config, steps_per_epoch = experiment.config, experiment.batches.steps_per_epoch
    before = replace(config, **length)
    old, new = build_plan(before, steps_per_epoch), build_plan(config, steps_per_epoch)
    reasons = []
    old_rates, new_rates = (
        scheduled(c, experiment.model, plan, range(step)) for c, plan in ((before, old), (config, new))
    )
    if old_rates != new_rates:
        name = config.scheduler["_target_"].rpartition(".")[2]
        reasons.append(f"  scheduler: the rates of {name} up to step {step} were those of {old.num_steps} steps")
    for key, was, now in (("eval_every", old.eval_every, new.eval_every),
                          ("logging.every", old.log_every, new.log_every)):  # fmt: skip
        if was != now:
            reasons.append(f"  {key}: {was} steps up to step {step}, {now} from there")
    if old.unfreeze_at != new.unfreeze_at and step > min(old.unfreeze_at or step, new.unfreeze_at or step):
        reasons.append(f"  trainer.unfreeze_at: step {old.unfreeze_at} up to here, {new.unfreeze_at} from there")
    if step == old.num_steps and step % new.eval_every:
        reasons.append(f"  eval_every: the evaluation at step {step} was that of the end")
    effect = "differs from an uninterrupted run's:" if reasons else "is that of an uninterrupted run"
    if is_changed and not reasons:
        effect = "would be that of an uninterrupted run without the changes below"
    lines = [f"the length is {new.num_steps} steps now; the result {effect}", *reasons]
    if step == old.num_steps and (partial := step % new.log_every):
        lines.append(f"  metrics.jsonl also has the training means of {pluralize(partial, 'step')} up to step {step}")
    return lines
