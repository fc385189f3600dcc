"""From config to model, loss, optimizer, schedule and learner."""

from __future__ import annotations

import inspect
import numbers
import warnings
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from mlprun import randomness
from mlprun.config import durations
from mlprun.config.instantiate import construct, locate
from mlprun.config.schema import Config
from mlprun.data.normalize import Normalizer
from mlprun.errors import ConfigError
from mlprun.formatting import pluralize
from mlprun.job.build_optimizer import build_optimizer
from mlprun.job.build_task import build_metrics, build_task
from mlprun.job.class_weights import Weights
from mlprun.job.model_check import with_remedy
from mlprun.training import finetune
from mlprun.training.distributed import SINGLE, World
from mlprun.training.learner import Learner
from mlprun.training.loop import Plan
from mlprun.training.schedule import FactorSchedule, Schedule, checked_arguments
from mlprun.training.torch_schedules import TorchSchedule, torch_arguments


def build_plan(config: Config, steps_per_epoch: int | None, mode: Literal["min", "max"] = "min") -> Plan:
    """All durations in steps; `mode`: whether `monitor` is better when lower or higher."""
    if steps_per_epoch is None:
        lengths = {"eval_every": config.eval_every, "checkpoint.every": config.checkpoint.every}
        missing = [] if config.steps is not None else ["steps=1000"]
        missing += [f"{key}=10%" for key, text in lengths.items() if "epoch" in text]
        if missing:
            problem = "is a stream, whose epochs have no known number of steps"
            remedy = f"give durations in steps or as a percentage of the run, for example {' '.join(missing)}"
            raise ConfigError("data.dataset", ConfigError.MISSING, problem, remedy)
    num_steps = config.steps if config.steps is not None else config.epochs * (steps_per_epoch or 0)

    def steps(key: str, text: str) -> int:
        return durations.parse(text, key=key).steps(steps_per_epoch, num_steps)

    unfreeze_at = config.trainer.unfreeze_at
    plan = Plan(
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every=steps("eval_every", config.eval_every),
        log_every=steps("logging.every", config.logging.every),
        save_every=steps("checkpoint.every", config.checkpoint.every),
        monitor=config.monitor,
        mode=mode,
        patience=config.early_stopping.patience,
        min_delta=config.early_stopping.min_delta,
        keep_best=config.checkpoint.keep_best,
        unfreeze_at=None if unfreeze_at is None else steps("trainer.unfreeze_at", unfreeze_at),
    )
    if plan.unfreeze_at is not None and plan.unfreeze_at >= num_steps:
        problem = f"is step {plan.unfreeze_at}, and the run ends after {pluralize(num_steps, 'step')}"
        raise ConfigError("trainer.unfreeze_at", unfreeze_at, problem, "choose an earlier one, or leave it out")
    return plan


def build_model(config: Config) -> nn.Module:
    """The model, on the CPU, with initial weights by the seed."""
    randomness.seed_all(config.seed, "weights")
    try:
        built = construct(config.model, "model")
    except ConfigError as error:
        raise with_remedy(error) from error
    if not isinstance(built, nn.Module):
        raise ConfigError("model._target_", config.model["_target_"], "does not return a torch.nn.Module")
    if not any(p.requires_grad for p in built.parameters()):
        raise ConfigError("model", ConfigError.MISSING, "has no parameter to train")
    return built


def frozen_modules(config: Config, module: nn.Module) -> dict[str, nn.Module]:
    """The modules, by name, that `trainer.freeze` keeps in evaluation mode during all of the training."""
    if config.trainer.unfreeze_at is not None:
        return {}
    return finetune.frozen_modules(finetune.frozen(config.trainer.freeze, module), module)


def build_schedule(config: Config, optimizer: torch.optim.Optimizer, plan: Plan) -> Schedule:
    """The learning-rate schedule of the run, after `scheduler.warmup`."""
    node = dict(config.scheduler)
    text = node.pop("warmup", "0 steps")  # a user's scheduler may leave this key of mlprun's out
    warmup = durations.parse(text, key="scheduler.warmup").steps(plan.steps_per_epoch, plan.num_steps)
    if warmup >= plan.num_steps > 1:
        raise ConfigError("scheduler.warmup", text, f"fills the whole run of {plan.num_steps} steps", "shorten it")
    name = node.pop("_target_")
    target = locate(name, "scheduler._target_")
    is_torch = isinstance(target, type) and issubclass(target, LRScheduler)
    is_function = inspect.isfunction(target) and next(iter(inspect.signature(target).parameters), "") == "step"
    if not (is_torch or is_function or (isinstance(target, type) and issubclass(target, FactorSchedule))):
        remedy = "write a function of `step` that returns a factor of optim.lr, or use a LRScheduler class of torch"
        raise ConfigError("scheduler._target_", name, "is not a schedule", remedy)

    def to_steps(key: str, value: object) -> int:
        return durations.parse(value, key=key).steps(plan.steps_per_epoch, plan.num_steps - warmup)

    try:
        # `locate` gives any callable
        arguments = (torch_arguments if is_torch else checked_arguments)(target, node, to_steps)  # type: ignore[arg-type]
    except ConfigError as error:
        raise error.under("scheduler") from error
    # A torch scheduler sets the rates in its constructor, so it needs the optimizer; a function is called for step 0.
    first: list[Any] = [optimizer] if is_torch else [0] if is_function else []
    built = construct({"_target_": name, **arguments}, "scheduler", *first)
    if is_torch:
        return TorchSchedule(built, warmup)
    if is_function:
        if not isinstance(built, numbers.Real):
            raise ConfigError("scheduler._target_", name, f"returns {built!r} for step 0, which is not a number")
        return FactorSchedule(target, warmup, **arguments)
    built.warmup_steps = warmup
    return built  # type: ignore[no-any-return]  # a Schedule, or of a class with its methods


def scheduled(config: Config, module: nn.Module, plan: Plan, steps: Iterable[int]) -> list[list[tuple[float, float]]]:
    """(learning rate, momentum) of every parameter group at some steps, ascending, without training."""
    optimizer = build_optimizer(config, module)
    schedule = build_schedule(config, optimizer, plan)
    values = []
    with warnings.catch_warnings():
        # torch's schedulers expect the optimizer to be stepped, too
        warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
        for step in steps:
            schedule.apply(optimizer, step)
            values.append([(float(group["lr"]), _momentum(group)) for group in optimizer.param_groups])
    return values


def _momentum(group: dict[str, Any]) -> float:
    """SGD's momentum, or Adam's first beta, which torch's OneCycleLR and CyclicLR change instead."""
    return float(group["betas"][0] if "betas" in group else group.get("momentum", 0.0))


def build_learner(
    config: Config,
    module: nn.Module,
    plan: Plan,
    device: torch.device,
    target_normalizer: Normalizer | None = None,
    class_names: Sequence[str] = (),
    class_weights: Weights | None = None,
    world: World = SINGLE,
) -> Learner:
    """The learner; moves the module to the device, and freezes parameters by `trainer.freeze`."""
    if config.data.normalize_targets and target_normalizer is None:
        raise TypeError("the metrics need the scaling of the targets")
    if config.loss.get("class_weights") is not None and class_weights is None:
        raise TypeError("the loss needs the weights of the classes")
    if config.trainer.sync_batchnorm:
        if device.type != "cuda":
            problem = "needs GPUs: torch's SyncBatchNorm does not run on the CPU"
            raise ConfigError("trainer.sync_batchnorm", True, problem, "leave it out")
        module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
    module.to(device)
    frozen = finetune.frozen(config.trainer.freeze, module)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    optimizer = build_optimizer(config, module)
    task = build_task(config, target_normalizer, class_names, class_weights).to(device)
    return Learner(
        module,
        task,
        optimizer,
        build_schedule(config, optimizer, plan),
        device,
        seed=config.seed,
        metrics=partial(build_metrics, config, task, device),
        accumulate=config.trainer.accumulate,
        grad_clip=config.trainer.grad_clip,
        precision=config.trainer.precision,
        on_nan=config.trainer.on_nan,
        compiled=config.trainer.compile,
        in_evaluation=finetune.frozen_modules(frozen, module).values(),
        frozen=[parameter for name, parameter in module.named_parameters() if name in frozen],
        unfreeze_at=plan.unfreeze_at,
        ema=config.trainer.ema,
        world=world,
    )
