"""A finished run with its best checkpoint, ready to predict."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.analysis.diff import Difference
from mlprun.config.checks import check_config
from mlprun.config.schema import Config
from mlprun.config.stored import from_record, with_found_root, with_own_writers
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.job.changes import are_test_examples_others, changes_since, data_changes, true_config
from mlprun.job.place import where_run_began
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord, section
from mlprun.terminal import importing_torch, print_line

if TYPE_CHECKING:
    import torch

    from mlprun.data.batches import EvalBatches
    from mlprun.data.source import Examples
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
    splits: Splits | None  # if requested, with the scaling of the checkpoint
    record: RunRecord
    changes: dict[str, list[Difference]]  # since the run, by section; `data` if the data was read

    @property
    def task(self) -> Supervised:
        """The task; RunError for a user's own, whose outputs have no known meaning."""
        from mlprun.tasks.supervised import Supervised

        task = self.learner.task
        if not isinstance(task, Supervised):
            problem = f"mlprun does not know what the outputs of data.task={task.name} mean"
            raise RunError(f"{problem}\n  mlprun eval scores it")
        return task

    def check_test_split(self, *, changed_data: bool, digest: str | None = None) -> None:
        """Report how the data has changed since the run; DataError if its test split has, unless it is `changed_data`.

        Args:
            digest: of the test examples as they were read, for lazy data; None: they were not.
        """
        found, before = self.changes["data"], self._recorded_digest
        is_known = before is not None and (self._examples is not None or digest is not None)
        if is_known and self._examples is None and before != digest:
            found = [*found, Difference("examples.test", before, digest)]
        if not found:
            return
        if self._only_computed_otherwise(found):
            warn_of("the examples are not those of the run to the last bit", found)
        elif not are_test_examples_others(found, has_digest=is_known):
            warn_of("since the run began its data has changed, but not the test split", found)
        elif changed_data:
            warn_of("the test split is not the one of the run, and may contain examples that were trained on", found)
        else:
            problem = "the test split is not the one of the run: its data has changed since"
            remedy = "it may contain examples that were trained on; --changed-data scores it nevertheless"
            raise DataError("\n  ".join([problem, *map(str, found), remedy]))

    def digest_of_test_split(self) -> str | None:
        """The digest of lazy test examples, all of which are read for it; None if the record has none to compare."""
        from mlprun.data.digest import Digest

        if self._recorded_digest is None or self._examples is not None:
            return None
        batches = self.test_batches()
        batches.digest = Digest()
        for _ in batches:
            pass
        return str(batches.digest)

    def test_batches(self) -> EvalBatches:
        from mlprun.job.build_data import build_eval_batches

        assert self.splits is not None
        return build_eval_batches(self.config, self.splits.test, self.splits, self.device, self.learner.task)

    @property
    def _recorded_digest(self) -> str | None:
        digest = section(self.record.data, "digests").get("test")
        return digest if isinstance(digest, str) else None

    def _only_computed_otherwise(self, found: list[Difference]) -> bool:
        """Whether the files are the same, and what is computed from them may differ in another environment."""
        is_exact = self._examples is not None and not self._examples.inputs.is_floating_point()
        has_files = bool(section(self.record.data, "fingerprints"))
        only_bits = has_files and all(d.key.startswith("examples.") for d in found)
        return only_bits and bool(self.changes["environment"]) and not is_exact

    @property
    def _examples(self) -> Examples | None:
        """The test split, if it is in memory."""
        from mlprun.data.source import Examples

        test = None if self.splits is None else self.splits.test
        return test if isinstance(test, Examples) else None


def load(
    path: Path,
    *,
    trust: bool = False,
    data: bool = False,
    root: Path | None = None,
    checkpoint: str = "best",
    device: str | None = None,
    precision: str | None = None,
) -> Finished:
    """Load a run's model with the weights of its best checkpoint, and set the run's threads and precision.

    What has changed since the run is reported: code and, with `data`, the environment.

    RunError if there is no such run or checkpoint, or if it does not match the run's config.

    Args:
        trust: also call stored targets that are neither a library's nor from the current folder.
        data: read the data set too; ConfigError if its inputs mean something else now.
        root: where the data lie now; None: where they were, or in MLPRUN_DATA.
        checkpoint: `best`, `last` or `step_N`; ConfigError if the run has no such.
        device, precision: None: the run's.
    """
    with where_run_began(path, trust=trust, data=data and root is None) as there:
        return _load(there, trust=trust, data=data, root=root, name=checkpoint, on=(device, precision))


def _load(
    path: Path, *, trust: bool, data: bool, root: Path | None, name: str, on: tuple[str | None, str | None]
) -> Finished:
    directory = RunDirectory(path)
    record = directory.read()
    if record.missing("config") or record.num_threads is None:
        raise RunError(f"{directory.record_file} has no config and device: the run never began")
    file = directory.checkpoints / f"{name}.pt"
    names = sorted(
        (file.stem for file in directory.checkpoints.glob("*.pt") if file.is_file()), key=lambda n: (len(n), n)
    )
    if name not in names:
        if names and name not in ("best", "last"):
            raise ConfigError("checkpoint", name, "is none of the run's", f"choose from: {', '.join(names)}")
        raise RunError(f"{path} has no {name} checkpoint: its status is '{record.status}'")
    stored = with_found_root(with_own_writers(record.config), root)
    signed = record.signed_config and with_found_root(record.signed_config, root)
    if not trust:
        check_targets(stored, Path.cwd(), path, signed)

    with importing_torch():
        import torch

        from mlprun.data.normalize import Normalizer
        from mlprun.job.attempt import data_entry
        from mlprun.job.build_data import build_splits
        from mlprun.job.build_learner import build_learner, build_model, build_plan
        from mlprun.job.prepare import configure_torch
        from mlprun.runs import checkpoint

    device = configure_torch(_moved(from_record(stored), *on))
    state = checkpoint.load(file, device)
    if file == directory.best and (known := record.get("best_sha256")) and known != checkpoint.sum_of(file):
        problem = f"{file} is not the checkpoint that the run ended with"
        print_line(f"warning: {problem} (step {record.best_step}): it is of step {state.step}", sys.stderr)
    stored, edits = true_config(stored, state.get("config"))
    if edits:
        warn_of(f"{directory.record_file} is not the config of the run; that of the checkpoint is used", edits)
        if not trust:
            check_targets(stored, Path.cwd(), path, signed)
    config = _moved(from_record(stored), *on)
    device_name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    used = {"type": str(device), "name": device_name, "num_threads": record.num_threads}
    found = changes_since(record, used if data else None)
    if others := [d for differing in found.values() for d in differing]:
        warn_of("since the run began these have changed, and its results may too", others)
    try:
        splits = build_splits(config) if data else None
        model = build_model(config)
    except ConfigError as error:
        raise RunError(f"{error}\n  the run was started in {record.folder}: its own classes are found there") from error
    torch.set_num_threads(record.num_threads)
    scaling = state.target_normalizer
    targets = None if scaling is None else Normalizer(**scaling)
    if splits is not None:
        splits.inputs.check_checkpoint(state, file)
        found["data"] = data_changes(record, data_entry(splits))
        splits = replace(splits, normalizer=Normalizer(**state.normalizer), target_normalizer=targets)
    try:
        model.load_state_dict(state.model)  # before the optimizer, which needs the shapes of lazy layers
    except (RuntimeError, KeyError, ValueError) as error:
        raise RunError(f"checkpoint {file} does not fit the run's config: {error}") from error
    plan = build_plan(config, record.steps_per_epoch)
    learner = build_learner(config, model, plan, device, targets, state.class_names, state.class_weights)
    model.eval()
    return Finished(config, learner, device, state, splits, record, found)


def _moved(config: Config, device: str | None, precision: str | None) -> Config:
    """The config of the run on another device, in fp32 where that has no fp16."""
    if device is None:
        return config
    precision = precision or config.trainer.precision
    precision = "fp32" if device == "cpu" and precision == "fp16" else precision
    return check_config(replace(config, device=device, trainer=replace(config.trainer, precision=precision)))


def warn_of(problem: str, found: list[Difference]) -> None:
    print_line("\n".join([f"warning: {problem}:", *(f"  {difference}" for difference in found)]), sys.stderr)


def evaluate(
    path: Path,
    *,
    trust: bool = False,
    changed_data: bool = False,
    root: Path | None = None,
    checkpoint: str = "best",
    tta: int | None = None,
) -> dict[str, float]:
    """Recompute the test metrics of a checkpoint of a run.

    Args:
        path, trust, root, checkpoint: as for `load`, and its errors.
        changed_data: score another test split too; else it raises a DataError.
        tta: score the mean prediction over so many draws of the training's augmentation.
    """
    from mlprun.data.digest import Digest

    with where_run_began(path, trust=trust, data=root is None) as there:
        run = load(there, trust=trust, data=True, root=root, checkpoint=checkpoint)
        if tta is None:
            batches = run.test_batches()
            batches.digest = Digest()
            values = run.learner.evaluate(batches).compute()
            digest: str | None = str(batches.digest)
        else:
            from mlprun.predict.test_time import views_of_test_split

            assert run.splits is not None
            views, forward = views_of_test_split(run.config, run.splits, run.learner, tta)
            digest = None if changed_data else run.digest_of_test_split()
            values = run.learner.evaluate(views, forward).compute()
    run.check_test_split(changed_data=changed_data, digest=digest)
    return {f"test/{name}": value for name, value in values.items()}
