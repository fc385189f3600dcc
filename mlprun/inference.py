"""What a finished run's best checkpoint says of the test split."""

from __future__ import annotations

from pathlib import Path

from mlprun import config as configs
from mlprun.errors import ConfigError, RunError
from mlprun.runs.directory import RunDirectory
from mlprun.trust import check_targets


def evaluate(path: Path, *, trust: bool = False) -> dict[str, float]:
    """The test metrics of the best checkpoint of a run, computed anew with the run's own threads and precision.

    Args:
        path: of the run.
        trust: also call stored targets that are neither a library's own nor from the current folder.

    Raises:
        RunError: no run, no checkpoint, or one that does not fit the run's config.
    """
    directory = RunDirectory(path)
    record = directory.read()
    if not {"config", "device"} <= set(record):
        raise RunError(f"{directory.record_file} has no config and device: the run never began")
    if not directory.best.is_file():
        raise RunError(f"{path} has no best checkpoint: its status is '{record.get('status')}'")
    if not trust:
        check_targets(record["config"], Path.cwd(), path)
    config = configs.from_record(record["config"])

    import torch

    from mlprun import build, seeding
    from mlprun.training import checkpoint

    torch.set_num_threads(config.trainer.num_threads or 1)  # as the run did while it read the data
    seeding.set_determinism(config.trainer.deterministic)
    where = build.device(config)
    try:
        parts = build.splits(config)
        model = build.model(config)
    except ConfigError as error:
        raise RunError(
            f"{error}\n  the run was started in {record.get('folder')}: its own classes are found there"
        ) from error
    torch.set_num_threads(record["device"]["num_threads"])
    batches = build.train_batches(config, parts, where)
    learner = build.learner(config, model, build.plan(config, batches.steps_per_epoch), where, parts)
    try:
        model.load_state_dict(checkpoint.load(directory.best, where)["model"])
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"checkpoint {directory.best} does not fit the run's config: {error}") from error
    values = learner.evaluate(build.eval_batches(config, parts.test, parts, where)).compute()
    return {f"test/{name}": value for name, value in values.items()}
