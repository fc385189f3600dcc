"""A finished run with its best checkpoint, ready to predict."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.config.schema import Config
from mlprun.config.stored import from_record, with_own_writers
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, RunError
from mlprun.process import without_collections
from mlprun.runs.directory import RunDirectory

if TYPE_CHECKING:
    import torch

    from mlprun.data.splits import Splits
    from mlprun.runs.checkpoint import Checkpoint
    from mlprun.tasks.supervised import Supervised
    from mlprun.training.learner import Learner


@dataclass(frozen=True)
class Finished:
    """A run with its best checkpoint."""

    config: Config
    learner: Learner  # with the weights of the checkpoint, on `device`
    device: torch.device
    state: Checkpoint
    splits: Splits | None  # if requested

    @property
    def task(self) -> Supervised:
        """The task; RunError for a user's own, whose outputs have no known meaning."""
        from mlprun.tasks.supervised import Supervised

        task = self.learner.task
        if not isinstance(task, Supervised):
            problem = f"predict does not know what the outputs of data.task={task.name} mean"
            raise RunError(f"{problem}\n  mlprun eval scores it")
        return task


def load(path: Path, *, trust: bool = False, data: bool = False) -> Finished:
    """Load a run's model with the weights of its best checkpoint, and set the run's threads and precision.

    RunError if there is no such run or checkpoint, or if it does not match the run's config.

    Args:
        trust: also call stored targets that are neither a library's nor from the current folder.
        data: read the data set too; ConfigError if its inputs mean something else now.
    """
    directory = RunDirectory(path)
    record = directory.read()
    if record.missing("config") or record.num_threads is None:
        raise RunError(f"{directory.record_file} has no config and device: the run never began")
    if not directory.best.is_file():
        raise RunError(f"{path} has no best checkpoint: its status is '{record.status}'")
    stored = with_own_writers(record.config)
    if not trust:
        check_targets(stored, Path.cwd(), path, record.signed_config)
    config = from_record(stored)

    with without_collections():
        import torch

        from mlprun.data.normalize import Normalizer
        from mlprun.job.build_data import build_splits
        from mlprun.job.build_learner import build_learner, build_model, build_plan
        from mlprun.job.prepare import configure_torch
        from mlprun.runs import checkpoint

    device = configure_torch(config)
    try:
        splits = build_splits(config) if data else None
        model = build_model(config)
    except ConfigError as error:
        raise RunError(f"{error}\n  the run was started in {record.folder}: its own classes are found there") from error
    torch.set_num_threads(record.num_threads)
    state = checkpoint.load(directory.best, device)
    if splits is not None:
        splits.inputs.check_checkpoint(state, directory.best)
    scaling = state.target_normalizer
    targets = None if scaling is None else Normalizer(**scaling)
    learner = build_learner(config, model, build_plan(config, record.steps_per_epoch), device, targets)
    try:
        model.load_state_dict(state.model)
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"checkpoint {directory.best} does not fit the run's config: {error}") from error
    return Finished(config, learner, device, state, splits)


def evaluate(path: Path, *, trust: bool = False) -> dict[str, float]:
    """Recompute the test metrics of the best checkpoint of a run; arguments and errors as for `load`."""
    from mlprun.job.build_data import build_eval_batches

    run = load(path, trust=trust, data=True)
    assert run.splits is not None
    batches = build_eval_batches(run.config, run.splits.test, run.splits, run.device, run.learner.task)
    return {f"test/{name}": value for name, value in run.learner.evaluate(batches).compute().items()}
