"""From `trainer.mixup` and `trainer.cutmix` to what mixes the training batches."""

from __future__ import annotations

import torch
from torch import nn

from mlprun.config.schema import Config
from mlprun.data.mix import Mix
from mlprun.errors import ConfigError, UserError
from mlprun.tasks.base import Task
from mlprun.tasks.classification import Classification
from mlprun.tasks.supervised import TAKE_CLASSES, TAKE_VALUES


def build_mix(config: Config) -> Mix | None:
    """What mixes the batches of training; None without these keys."""
    mixup, cutmix = config.trainer.mixup, config.trainer.cutmix
    return None if mixup is None and cutmix is None else Mix(mixup, cutmix, config.data.num_outputs)


def check_mix(config: Config, task: Task) -> None:
    """Raise ConfigError if the inputs, the task or the loss do not suit mixed examples."""
    key = "cutmix" if config.trainer.mixup is None else "mixup"
    if (value := getattr(config.trainer, key)) is None:
        return

    def refused(problem: str, remedy: str = "leave it out") -> ConfigError:
        return ConfigError(f"trainer.{key}", value, problem, remedy)

    if type(task) is not Classification:
        kind = "a task of your own" if config.task else f"data.task={task.name}"
        raise refused(f"mixes the classes of two examples, and {kind} has other targets")
    shape = config.data.input_shape or []
    if config.trainer.cutmix is not None and len(shape) != 3:
        problem = "pastes a box of an image, and these inputs are no images"
        raise ConfigError("trainer.cutmix", config.trainer.cutmix, problem, "write trainer.mixup=0.2")
    criterion, remedy = task.criterion, "write loss=cross_entropy or loss=bce"
    name = type(criterion).__name__
    if type(criterion) in TAKE_CLASSES and type(criterion) is not nn.CrossEntropyLoss:
        raise refused(f"gives shares of classes as targets, and {name} takes class indices", remedy)
    if type(criterion) is not nn.CrossEntropyLoss and type(criterion) not in TAKE_VALUES:
        outputs = torch.zeros(2, task.num_outputs)
        try:
            task.loss(outputs, torch.full_like(outputs, 1 / task.num_classes))
        except UserError:
            raise
        except Exception as error:  # of the user's own criterion
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            problem = f"gives shares of classes as targets, (N, {task.num_outputs}), which {name} does not take"
            raise refused(f"{problem}: {reason}", remedy) from error
