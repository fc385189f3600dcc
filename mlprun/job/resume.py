"""Go on from a checkpoint: everything that makes a resumed run the same as one that was never stopped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from mlprun.analysis.diff import compare_records
from mlprun.config.identity import identity
from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError, RunError
from mlprun.job.build_learner import build_plan, learning_rates
from mlprun.job.weights import check_tokens
from mlprun.runs.checkpoint import Checkpointer
from mlprun.runs.metrics import count_rows
from mlprun.training.learner import Learner
from mlprun.training.loop import Plan, Progress


def explain_length_change(
    before: Config, now: Config, module: nn.Module, steps_per_epoch: int | None, step: int
) -> list[str]:
    """Why a run that changes its length at `step` ends differently from one of the new length; empty: it does not."""
    old, new = build_plan(before, steps_per_epoch), build_plan(now, steps_per_epoch)
    found = []
    if learning_rates(before, module, old, step) != learning_rates(now, module, new, step):
        name = now.scheduler["_target_"].rpartition(".")[2]
        found.append(f"scheduler: the rates of {name} up to step {step} were those of {old.num_steps} steps")
    for key, was, becomes in (("eval_every", old.eval_every, new.eval_every),
                              ("logging.every", old.log_every, new.log_every)):  # fmt: skip
        if was != becomes:
            found.append(f"{key}: {was} steps up to step {step}, {becomes} from there")
    if step == old.num_steps and step % new.eval_every:
        found.append(f"eval_every: the evaluation at step {step} was that of the end")
    return found


def restore(
    config: Config,
    plan: Plan,
    batches: TrainBatches,
    learner: Learner,
    progress: Progress,
    saver: Checkpointer,
    metrics_file: Path,
    steps_before: int | None,
    tokenizer: Tokenizer | None = None,
) -> list[str]:
    """Put learner and progress where the newest checkpoint left them; what the user should know of it, line by line.

    Args:
        config: of the run as it goes on.
        plan, batches: its own.
        learner, progress: new; changed in place.
        saver: has the checkpoints.
        metrics_file: metrics.jsonl, to see that it is whole.
        steps_before: how many the record says were done, None if it does not.
        tokenizer: of the data, if they are text.

    Raises:
        RunError: no checkpoint can be used, or the newest one is another run's.
        ConfigError: the run is longer already than `config` says, or token ids mean other tokens now.
    """
    recovered = saver.recover(learner.device)
    if recovered is None:
        done = f", though the run had done {steps_before} steps" if steps_before else ""
        return [f"there is no checkpoint{done}: starting from step 0"]
    state = recovered.state
    stored, own = ({"config": identity(c, length=False)} for c in (state["config"], config.to_dict()))
    if others := compare_records(stored, own)["config"]:
        raise RunError(f"checkpoint {recovered.path} is of another config than this run: {others[0]}")
    check_tokens(config, tokenizer, state, recovered.path)
    length = {key: state["config"][key] for key in ("epochs", "steps")}
    longer = length != {key: getattr(config, key) for key in length}
    try:
        learner.load_state_dict(state, new_length=longer)
        progress.load_state_dict(state["progress"])
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise RunError(f"checkpoint {recovered.path} does not fit the run's config: {error}") from error
    key = "epochs" if config.steps is None else "steps"
    if progress.step > plan.num_steps:
        raise ConfigError(
            key, getattr(config, key), f"the run has done {progress.step} steps, and this would be {plan.num_steps}"
        )
    said = [f"resumed at step {progress.step} of {plan.num_steps}, from {recovered.path}"]
    if longer:
        effects = explain_length_change(
            replace(config, **length), config, learner.model, batches.steps_per_epoch, progress.step
        )
        how = "differs from an uninterrupted run's:" if effects else "is that of an uninterrupted run"
        said += [f"the length is {plan.num_steps} steps now; the result {how}", *(f"  {effect}" for effect in effects)]
    if recovered.best_is_lost:
        said.append(
            f"the best checkpoint, of step {progress.best_step} ({config.monitor} {progress.best:g}), is lost: "
            "best.pt will be the best from here on"
        )
        progress.best = progress.best_values = None
    lost = progress.num_rows - count_rows(metrics_file, progress.step - progress.pending)
    if lost > 0:
        said.append(f"{metrics_file} has lost {lost} of {progress.num_rows} rows up to here")
    if batches.is_stream and progress.step:
        said.append("the training data is a stream, read again up to here: exact if it gives the same order again")
    if recovered.path.name != "last.pt":  # a kill came between two writes
        saver.save_last(state, keep=progress.step % plan.save_every == 0)
    return said
