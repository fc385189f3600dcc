"""From a checked config to everything that a run is made of. Training, `inspect` and a sweep's preflight read it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from mlprun import randomness
from mlprun.config.schema import Config
from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.checks import check_padding
from mlprun.data.splits import Splits
from mlprun.job.build_data import (
    build_eval_batches,
    build_splits,
    build_train_batches,
    find_device,
    split_sizes,
    trial_batch,
)
from mlprun.job.build_learner import (
    build_learner,
    build_model,
    build_plan,
    frozen_modules,
    num_trained_parameters,
)
from mlprun.job.build_task import build_metrics, build_task, higher_is_better
from mlprun.job.model_check import ModelSummary, check_batch_norm, check_model
from mlprun.job.weights import initial_weights
from mlprun.tasks.base import Metric, Task
from mlprun.training import finetune
from mlprun.training.learner import Learner
from mlprun.training.loop import Plan

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """What a config describes, built and checked.

    Attributes:
        task: on the CPU.
        higher_is_better: metric of an evaluation -> whether it is better when higher; None where nobody says.
        batches: of the training split, on `device`.
        model: on the CPU, with the weights of the seed.
        summary: of the model, from a trial batch.
        weights: what `trainer.weights` names and what of it the model takes; `build_learner` loads it.
        num_threads: CPU threads of a run.
    """

    config: Config
    device: torch.device
    splits: Splits
    task: Task
    higher_is_better: dict[str, bool | None]
    batches: TrainBatches
    plan: Plan
    model: nn.Module
    summary: ModelSummary
    num_threads: int
    weights: tuple[finetune.Weights, finetune.MatchedWeights] | None

    @property
    def split_sizes(self) -> dict[str, int | None]:
        """Number of examples of each split, None if the data do not say."""
        return split_sizes(self.splits)

    @property
    def num_trained_parameters(self) -> int:
        """Parameters that are not frozen."""
        return num_trained_parameters(self.config, self.model)

    @property
    def device_name(self) -> str:
        """`cpu`, `mps` or the name of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def build_learner(self) -> Learner:
        """The learner, with `weights` loaded; moves the model to the device."""
        if self.weights is not None:
            finetune.load(self.weights[1], self.model)
        return build_learner(self.config, self.model, self.plan, self.device, self.splits.target_normalizer)

    def val_batches(self) -> EvalBatches:
        """Batches of the val split, on the device."""
        return build_eval_batches(self.config, self.splits.val, self.splits, self.device, self.task)

    def test_batches(self) -> EvalBatches:
        """Batches of the test split, on the device."""
        return build_eval_batches(self.config, self.splits.test, self.splits, self.device, self.task)


class Once(Protocol):
    """Makes something, or gives what it made before for a config with the same values of `keys`."""

    def __call__(self, keys: tuple[str, ...], make: Callable[[], T], /) -> T: ...


def _every_time(keys: tuple[str, ...], make: Callable[[], T], /) -> T:
    return make()


def configure_torch(config: Config) -> torch.device:
    """Set the threads for building the data and the model, and determinism; the device to train on.

    Raises:
        ConfigError: the device is not available.
    """
    # The last bits of the data's statistics and of the weights depend on the number of threads too.
    torch.set_num_threads(config.trainer.num_threads or 1)
    randomness.set_determinism(config.trainer.deterministic)
    return find_device(config)


def prepare(
    config: Config,
    *,
    num_threads: int | None = None,
    has_checkpoint: bool = False,
    dry: bool = False,
    once: Once = _every_time,
) -> Experiment:
    """Build and check everything a run needs, and set the threads to those of the run.

    The order decides which of several errors is reported, and what the random numbers are.

    Args:
        config: checked.
        num_threads: what `trainer.num_threads=null` stands for; None: chosen by the size of a step.
        has_checkpoint: the run has weights already; `trainer.weights` is not read.
        dry: nothing will be trained: the batches stay on the CPU, and the model has no values if it can do without.
        once: remembers the splits, the checked model and the weights, for configs that share them.

    Raises:
        UserError: what a run would fail with before its first step.
    """
    device = configure_torch(config)
    splits = once(("data",), partial(build_splits, config))
    task = build_task(config, splits.target_normalizer)
    metrics = build_metrics(config, task, torch.device("cpu"))
    directions = higher_is_better(config, task, metrics)
    batches = build_train_batches(config, splits, torch.device("cpu") if dry else device)
    is_higher_better = directions[config.monitor.removeprefix("val/")]
    plan = build_plan(config, batches.steps_per_epoch, "max" if is_higher_better else "min")
    build = partial(_checked_model, config, splits, task, metrics, dry=dry)
    model, summary = once(("data", "model", "loss", "task", "metrics", "monitor"), build)
    accumulate = config.trainer.accumulate
    check_batch_norm(summary, batches, accumulate, frozen_modules(config, model))
    threads = config.trainer.num_threads or num_threads or summary.num_threads(batches.batch_size // accumulate)
    torch.set_num_threads(threads)
    weights = None
    if not has_checkpoint:
        read_weights = partial(initial_weights, config, model, splits.tokenizer)
        weights = once(("data", "model", "trainer"), read_weights)
    return Experiment(config, device, splits, task, directions, batches, plan, model, summary, threads, weights)


def _checked_model(
    config: Config, splits: Splits, task: Task, metrics: dict[str, Metric], *, dry: bool
) -> tuple[nn.Module, ModelSummary]:
    trial = trial_batch(splits)
    if dry:
        # A mismatch, or a model that looks at its numbers: the real batch tells which.
        with suppress(Exception), torch.device("meta"):
            model = build_model(config)
            shapes = trial.map(lambda tensor: tensor.to("meta"))
            return model, check_model(config, model, build_task(config), {}, shapes)
    model = build_model(config)
    if (padding := getattr(model, "padding", None)) is not None:
        check_padding(splits.val, trial, padding)
    return model, check_model(config, model, task, metrics, trial)


def checkpoint_extras(experiment: Experiment) -> dict[str, Any]:
    """What a checkpoint carries besides the state of the training: plain values that `predict` needs."""
    splits = experiment.splits
    extras: dict[str, Any] = {
        "config": experiment.config.to_dict(),
        "normalizer": {"shift": splits.normalizer.shift, "scale": splits.normalizer.scale},
        "class_names": list(splits.class_names),
        "image_format": splits.image_format(),
    }
    if (scaling := splits.target_normalizer) is not None:
        extras["target_normalizer"] = {"shift": scaling.shift, "scale": scaling.scale}
    if splits.tokenizer is not None:
        extras["tokenizer"] = splits.tokenizer.to_plain()
    return extras
