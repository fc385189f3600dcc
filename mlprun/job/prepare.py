"""Everything that a run needs, from its config: for training, `inspect` and the preflight of a sweep."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from mlprun import randomness
from mlprun.config.schema import Config
from mlprun.data.batches import EvalBatches, TrainBatches
from mlprun.data.checks import check_padding
from mlprun.data.parts import size
from mlprun.data.source import Inputs, Part
from mlprun.data.splits import Splits
from mlprun.job.build_data import build_eval_batches, build_splits, build_train_batches, find_device, trial_batch
from mlprun.job.build_learner import build_learner, build_model, build_plan, frozen_modules
from mlprun.job.build_mix import check_mix
from mlprun.job.build_optimizer import trained_parameters
from mlprun.job.build_task import build_metrics, build_task, higher_is_better
from mlprun.job.class_weights import Weights, class_weights
from mlprun.job.model_check import ModelSummary, check_batch_norm, check_model
from mlprun.tasks.base import Metric, Task
from mlprun.training import finetune
from mlprun.training.distributed import SINGLE, World
from mlprun.training.learner import Learner
from mlprun.training.loop import Plan


@dataclass(frozen=True)
class Experiment:
    """The objects that a config describes, built and checked."""

    config: Config
    device: torch.device
    splits: Splits
    task: Task  # on the CPU
    higher_is_better: dict[str, bool | None]  # of each metric of an evaluation; None if unknown
    batches: TrainBatches  # of the training split, on `device`
    plan: Plan
    model: nn.Module  # on the CPU, with the initial weights by the seed
    summary: ModelSummary
    num_threads: int  # CPU threads of the run
    class_weights: Weights | None  # of `loss.class_weights`
    weights: finetune.MatchedWeights | None  # those of `trainer.weights`; `build_learner` loads them
    world: World  # the processes of the run

    @property
    def split_sizes(self) -> dict[str, int | None]:
        """Number of examples of each split, None if unknown."""
        return {name: size(getattr(self.splits, name)) for name in ("train", "val", "test")}

    @property
    def num_trained_parameters(self) -> int:
        return sum(p.numel() for p in trained_parameters(self.config, self.model).values())

    @property
    def device_name(self) -> str:
        """`cpu`, `mps` or the name of the GPU."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def build_learner(self) -> Learner:
        """The learner, with `weights` loaded; moves the model to the device."""
        if self.weights is not None:
            finetune.load(self.weights, self.model)
        scaling, names = self.splits.target_normalizer, self.splits.class_names
        return build_learner(
            self.config, self.model, self.plan, self.device, scaling, names, self.class_weights, self.world
        )

    def eval_batches(self, part: Part) -> EvalBatches:
        """Batches of the val or test split, on the device."""
        return build_eval_batches(self.config, part, self.splits, self.device, self.task)


# Calls a function, or returns its earlier result for a config with the same values of some keys.
Once = Callable[[tuple[str, ...], Callable[[], Any]], Any]


def configure_torch(config: Config, local_rank: int = 0) -> torch.device:
    """Set determinism, and the threads for building data and model; returns the device to train on.

    Raises:
        ConfigError: the device is not available.
    """
    # The number of threads changes the last bits of the data's statistics and of the weights.
    torch.set_num_threads(config.trainer.num_threads or 1)
    randomness.set_determinism(config.trainer.deterministic)
    return find_device(config, local_rank)


def prepare(
    config: Config,
    *,
    num_threads: int | None = None,
    has_checkpoint: bool = False,
    dry: bool = False,
    once: Once = lambda keys, make: make(),
    world: World = SINGLE,
) -> Experiment:
    """Build and check everything a run needs, and set the run's number of threads.

    The order decides which of several errors is reported, and the random numbers.

    Args:
        num_threads: used if `trainer.num_threads=null`; None: chosen by the size of a step.
        has_checkpoint: do not read `trainer.weights`, because the run has a checkpoint.
        dry: nothing will be trained: the batches stay on the CPU, and the model is on `meta` if possible.
        once: caches the splits, the checked model and the weights, for configs that share them.
        world: the processes of the run, of which this is one.

    Raises:
        UserError: any error of a run before its first step.
    """
    device = configure_torch(config, world.local_rank)
    splits: Splits = once(("data",), partial(build_splits, config))
    weights_of = class_weights(config, splits)
    task = build_task(config, splits.target_normalizer, splits.class_names, weights_of)
    check_mix(config, task)
    metrics = build_metrics(config, task, torch.device("cpu"))
    directions = higher_is_better(config, task, metrics)
    batches = build_train_batches(config, splits, torch.device("cpu") if dry else device, (world.rank, world.size))
    is_higher_better = directions[config.monitor.removeprefix("val/")]
    plan = build_plan(config, batches.steps_per_epoch, "max" if is_higher_better else "min")
    build = partial(_checked_model, config, splits, task, metrics, dry=dry)
    model, summary = once(("data", "model", "loss", "task", "metrics", "monitor"), build)
    accumulate = config.trainer.accumulate
    check_batch_norm(summary, batches, accumulate, frozen_modules(config, model))
    per_process = batches.batch_size // accumulate // config.trainer.devices
    threads = config.trainer.num_threads or num_threads
    threads = threads or max(1, summary.num_threads(per_process) // config.trainer.devices)
    torch.set_num_threads(threads)
    weights = None
    if not has_checkpoint:
        weights = once(("data", "model", "trainer"), partial(_initial_weights, config, model, splits.inputs))
    return Experiment(
        config, device, splits, task, directions, batches, plan, model, summary, threads, weights_of, weights, world
    )


def _checked_model(
    config: Config, splits: Splits, task: Task, metrics: dict[str, Metric], *, dry: bool
) -> tuple[nn.Module, ModelSummary]:
    trial = trial_batch(splits)
    if dry:
        # If this fails, the shapes do not match, or the model reads values: a real batch shows which.
        with suppress(Exception), torch.device("meta"):
            model = build_model(config)
            shapes = trial.map(lambda tensor: tensor.to("meta"))
            return model, check_model(config, model, build_task(config), {}, shapes, splits.inputs)
    model = build_model(config)
    if (padding := getattr(model, "padding", None)) is not None:
        check_padding(splits.val, trial, padding)
    return model, check_model(config, model, task, metrics, trial, splits.inputs)


def _initial_weights(config: Config, module: nn.Module, inputs: Inputs) -> finetune.MatchedWeights | None:
    """The weights of `trainer.weights` that fit the model, which is not changed; None if it is null."""
    if (typed := config.trainer.weights) is None:
        return None
    weights = finetune.read(typed, inputs.stored())
    matched = finetune.fit(weights, module)
    inputs.check_weights(weights.stored, typed, module, matched.other_shapes)
    return matched


def checkpoint_extras(experiment: Experiment) -> dict[str, Any]:
    """The plain values that `predict` needs, saved in a checkpoint along with the training's state."""
    splits = experiment.splits
    extras: dict[str, Any] = {
        "config": experiment.config.to_dict(),
        "normalizer": splits.normalizer.stored(),
        "class_names": list(splits.class_names),
        "image_format": splits.image_format(),
    }
    if (scaling := splits.target_normalizer) is not None:
        extras["target_normalizer"] = scaling.stored()
    if experiment.class_weights is not None:
        extras["class_weights"] = experiment.class_weights
    return extras | splits.inputs.stored()
