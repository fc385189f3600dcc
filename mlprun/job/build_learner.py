"""From config to model, loss, optimizer, schedule and learner."""

from __future__ import annotations

import inspect
import numbers
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
from mlprun.job.build_task import build_metrics, build_task
from mlprun.job.model_check import with_remedy
from mlprun.training import finetune
from mlprun.training.learner import Learner, needs_closure
from mlprun.training.loop import Plan
from mlprun.training.schedule import FactorSchedule, Schedule, checked_arguments
from mlprun.training.torch_schedules import TorchSchedule, torch_arguments


def build_plan(config: Config, steps_per_epoch: int | None, mode: Literal["min", "max"] = "min") -> Plan:
    """Every duration of the config in steps; `mode`: whether `monitor` is better when lower or higher."""
    if steps_per_epoch is None:
        lengths = {"eval_every": config.eval_every, "checkpoint.every": config.checkpoint.every}
        missing = [] if config.steps is not None else ["steps=1000"]
        missing += [f"{key}=10%" for key, text in lengths.items() if "epoch" in text]
        if missing:
            raise ConfigError(
                "data.dataset",
                ConfigError.MISSING,
                "is a stream, whose epochs have no known number of steps",
                f"give lengths in steps or as a share of the run, for example {' '.join(missing)}",
            )
    num_steps = config.steps if config.steps is not None else config.epochs * (steps_per_epoch or 0)

    def steps(key: str, text: str) -> int:
        return durations.parse(text, key=key).steps(steps_per_epoch, num_steps)

    return Plan(
        num_steps=num_steps,
        steps_per_epoch=steps_per_epoch,
        eval_every=steps("eval_every", config.eval_every),
        log_every=steps("logging.every", config.logging.every),
        save_every=steps("checkpoint.every", config.checkpoint.every),
        monitor=config.monitor,
        mode=mode,
        patience=config.early_stopping.patience,
        min_delta=config.early_stopping.min_delta,
    )


def build_model(config: Config) -> nn.Module:
    """The model, on the CPU, with weights that are a function of the seed."""
    randomness.seed_all(config.seed, "weights")
    try:
        built = construct(config.model, "model")
    except ConfigError as error:
        raise with_remedy(error) from error
    if not isinstance(built, nn.Module):
        raise ConfigError("model._target_", config.model["_target_"], "does not give a torch.nn.Module")
    if not any(p.requires_grad for p in built.parameters()):
        raise ConfigError("model", ConfigError.MISSING, "has no parameter to train")
    return built


def frozen_modules(config: Config, module: nn.Module) -> dict[str, nn.Module]:
    """The modules, by name, that `trainer.freeze` keeps in evaluation mode while training."""
    return finetune.frozen_modules(finetune.frozen(config.trainer.freeze, module), module)


def num_trained_parameters(config: Config, module: nn.Module) -> int:
    """Parameters that are neither frozen by `trainer.freeze` nor by the module itself."""
    frozen = finetune.frozen(config.trainer.freeze, module)
    return sum(p.numel() for name, p in module.named_parameters() if p.requires_grad and name not in frozen)


def build_optimizer(config: Config, module: nn.Module) -> torch.optim.Optimizer:
    """The optimizer over the parameters that are trained."""
    frozen = finetune.frozen(config.trainer.freeze, module)
    trained = [p for name, p in module.named_parameters() if p.requires_grad and name not in frozen]
    groups: list[Any] = trained
    if not config.trainer.decay_all:
        # Biases and the scales of norms are 1-D; decaying them shrinks what carries no complexity.
        groups = [
            {"params": [p for p in trained if p.dim() > 1]},
            {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
    built = construct(config.optim, "optim", groups)
    if not isinstance(built, torch.optim.Optimizer):
        raise ConfigError("optim._target_", config.optim["_target_"], "does not give a torch.optim.Optimizer")
    if needs_closure(built) and config.trainer.precision == "fp16":
        problem = f"cannot be scaled within a step of {type(built).__name__.lower()}"
        raise ConfigError("trainer.precision", "fp16", problem, "use fp32 or bf16")
    if isinstance(built, torch.optim.LBFGS) and config.batch_size != "all":
        raise ConfigError(
            "batch_size", config.batch_size, "lbfgs needs the whole data at every step", "add batch_size=all"
        )
    return built


def build_schedule(config: Config, the_optimizer: torch.optim.Optimizer, steps: Plan) -> Schedule:
    """The learning-rate schedule over the run, after `scheduler.warmup`."""
    node = dict(config.scheduler)
    text = node.pop("warmup", "0 steps")  # a scheduler of the user's own may leave our key out
    warmup = durations.parse(text, key="scheduler.warmup").steps(steps.steps_per_epoch, steps.num_steps)
    if warmup >= steps.num_steps > 1:
        raise ConfigError("scheduler.warmup", text, f"fills the whole run of {steps.num_steps} steps", "shorten it")
    name = node.pop("_target_")
    target = locate(name, "scheduler._target_")
    is_torch = isinstance(target, type) and issubclass(target, LRScheduler)
    is_function = inspect.isfunction(target) and next(iter(inspect.signature(target).parameters), "") == "step"
    if not (is_torch or is_function or (isinstance(target, type) and issubclass(target, FactorSchedule))):
        remedy = (
            "write a function of `step` that returns a factor of optim.lr, or name one of torch's LRScheduler classes"
        )
        raise ConfigError("scheduler._target_", name, "is not a schedule", remedy)

    def to_steps(key: str, value: object) -> int:
        return durations.parse(value, key=key).steps(steps.steps_per_epoch, steps.num_steps - warmup)

    try:
        arguments = (torch_arguments if is_torch else checked_arguments)(target, node, to_steps)  # type: ignore[arg-type]
    except ConfigError as error:
        raise error.under("scheduler") from error
    # A torch scheduler writes the rates as it is made, so it gets the optimizer that trains; a function is tried.
    first: list[Any] = [the_optimizer] if is_torch else [0] if is_function else []
    built = construct({"_target_": name, **arguments}, "scheduler", *first)
    if is_torch:
        return TorchSchedule(built, warmup)
    if is_function:
        if not isinstance(built, numbers.Real):
            raise ConfigError("scheduler._target_", name, f"returns {built!r} for step 0, which is not a number")
        return FactorSchedule(target, warmup, **arguments)
    built.warmup_steps = warmup
    return built  # type: ignore[no-any-return]


def learning_rates(config: Config, module: nn.Module, steps: Plan, up_to: int) -> list[list[float]]:
    """The learning rates of every parameter group at steps 0 to `up_to` - 1, without training."""
    scratch = build_optimizer(config, module)
    the_schedule = build_schedule(config, scratch, steps)
    drawn = []
    for step in range(up_to):
        the_schedule.apply(scratch, step)
        drawn.append([float(group["lr"]) for group in scratch.param_groups])
    return drawn


def build_learner(
    config: Config, module: nn.Module, steps: Plan, where: torch.device, targets: Normalizer | None = None
) -> Learner:
    """The learner, with the module moved to the device and what is frozen held; `targets`: how they are scaled."""
    if config.data.normalize_targets and targets is None:
        raise TypeError("the metrics need to know how the targets were scaled")
    module.to(where)
    frozen = finetune.frozen(config.trainer.freeze, module)
    for name, parameter in module.named_parameters():
        if name in frozen:
            parameter.requires_grad_(False)
    the_optimizer = build_optimizer(config, module)
    task = build_task(config, targets).to(where)
    return Learner(
        module,
        task,
        the_optimizer,
        build_schedule(config, the_optimizer, steps),
        where,
        seed=config.seed,
        metrics=partial(build_metrics, config, task, where),
        accumulate=config.trainer.accumulate,
        grad_clip=config.trainer.grad_clip,
        precision=config.trainer.precision,
        on_nan=config.trainer.on_nan,
        compiled=config.trainer.compile,
        in_evaluation=frozen_modules(config, module).values(),
        targets=targets,
    )
