"""Run a trial batch through model and loss: do they fit, and how large is the model?"""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.data.nested import AnyBatch, Batch
from mlprun.data.source import Inputs
from mlprun.errors import ConfigError
from mlprun.formatting import as_typed, first_few
from mlprun.process import num_threads
from mlprun.tasks.base import Metric, Step, Task
from mlprun.training.diverged import describe

# Multiply-adds per step below which a second thread saves at most a third of its time, so that two parallel runs use
# two cores better (measured: benchmarks/threads.py).
ONE_THREAD_BELOW = 200e6
# By argument of the built-in models, which know neither each other nor the command line.
REMEDIES = {
    "model.activation": "write `_partial_: true` beside its `_target_`",
    "model.channels": "use model=mlp for an image of one pixel per side",
    "model.input_shape": "embedding_average, rnn, gru, lstm and transformer read text; "
    "model=mlp takes numbers of any shape",
    "model.max_length": "give model and data the same data.text.max_length",
    "model.output_activation": "write `_partial_: true` beside its `_target_`",
    "model.task": "use model=transformer or model=lstm",
}


@dataclass(frozen=True)
class Layer:
    """A layer with weights in a trial batch; shapes without the batch."""

    name: str
    kind: str
    output_shape: tuple[int, ...]
    num_parameters: int
    macs: int = 0  # multiply-adds for one example, of a linear or convolution layer


@dataclass(frozen=True)
class ModelSummary:
    """The size of a model."""

    layers: list[Layer]  # those with parameters of their own, in the order they ran
    num_parameters: int  # all, trained or not
    macs: int  # multiply-adds of the linear, convolution and recurrent layers for one example

    @property
    def has_batch_norm(self) -> bool:
        return any(layer.kind.startswith("BatchNorm") for layer in self.layers)

    def num_threads(self, batch_size: int) -> int:
        """A useful number of CPU threads for this batch size; depends on the config and the machine alone."""
        work = 3 * max(self.macs, self.num_parameters) * batch_size  # forward, and twice as much backward
        return 1 if work < ONE_THREAD_BELOW else num_threads()


def check_model(
    config: Config, module: nn.Module, task: Task, metrics: dict[str, Metric], trial: AnyBatch, inputs: Inputs
) -> ModelSummary:
    """Run two examples through model, loss and metrics.

    Args:
        module: on the CPU; its state is not changed.
        metrics: of an evaluation; updated with the trial batch.
        trial: two examples on the CPU, or on `meta` to check shapes only.
        inputs: their kind.

    Raises:
        ConfigError: model and data, outputs and loss or metrics do not fit; `monitor` is not logged.
    """
    was_training = module.training
    module.eval()
    try:
        with torch.no_grad():
            step, layers = _watched_step(config, module, task, trial, inputs)
            if not step.loss.is_meta:
                task.check_model(module, trial, step)
                _check_logged(config, task, metrics, step, trial)
    finally:
        module.train(was_training)
    return ModelSummary(layers, sum(p.numel() for p in module.parameters()), sum(layer.macs for layer in layers))


def _check_logged(config: Config, task: Task, metrics: dict[str, Metric], step: Step, trial: AnyBatch) -> None:
    if metrics:
        outputs, targets = task.compared(step)
    for name, metric in metrics.items():
        try:
            metric.update(outputs, targets)
        except ConfigError as error:
            raise error.under(f"metrics.{name}") from error
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            shapes = f"outputs of shape {list(outputs.shape)} and targets of shape {list(targets.shape)}"
            problem = f"{type(metric).__name__} does not take {shapes}: {str(error).splitlines()[0]}"
            raise ConfigError(f"metrics.{name}", ConfigError.MISSING, problem) from error
    _check_monitor(config, [*task.summarize(dict.fromkeys(["loss", *step.sums], 0.0)), *metrics], metrics)
    if config.trainer.accumulate > 1 and float(step.weight) != float(task.weight(trial)):
        problem = "cannot weight micro-batches: the loss is not a mean over the examples"
        remedy = "derive the task from mlprun.tasks.base.Task and write its `weight(batch)`"
        raise ConfigError("trainer.accumulate", config.trainer.accumulate, problem, remedy)


def _check_monitor(config: Config, known: list[str], metrics: dict[str, Metric]) -> None:
    name = config.monitor.removeprefix("val/")
    group, slash, _ = name.partition("/")
    if group in metrics and (slash or hasattr(metrics[group], "set_task")):
        try:
            with warnings.catch_warnings(action="ignore"):
                value = metrics[group].compute()
        except Exception:  # two examples may be too few: the first evaluation shows its names
            return
        if isinstance(value, Mapping):
            known = [each for each in known if each != group] + [f"{group}/{key}" for key in value]
    if name not in known:
        choices = first_few([f"val/{each}" for each in known], 30)
        raise ConfigError("monitor", config.monitor, "is not logged", f"choose from: {choices}")


def _watched_step(
    config: Config, module: nn.Module, task: Task, trial: AnyBatch, kind: Inputs
) -> tuple[Step, list[Layer]]:
    """The step in evaluation mode, and the layers with parameters in the order they ran."""
    running: list[tuple[str, nn.Module, list[int]]] = []
    layers: list[Layer] = []
    names = {layer: name for name, layer in module.named_modules()}

    def enter(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        shape = list(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else []
        running.append((names[layer], layer, shape))

    def leave(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        name, *_ = running.pop()
        own = sum(p.numel() for p in layer.parameters(recurse=False))
        output = output[0] if isinstance(layer, nn.RNNBase) else output
        if own and isinstance(output, Tensor):
            shape = tuple(output.shape[1:])
            layers.append(Layer(name, type(layer).__name__, shape, own, _multiply_adds(layer, inputs, output)))

    hooks = [layer.register_forward_pre_hook(enter) for layer in names]
    hooks += [layer.register_forward_hook(leave) for layer in names]
    try:
        return task.trial_step(module, trial), layers
    except torch.OutOfMemoryError:
        raise  # the shapes may fit
    except ConfigError as error:
        raise (with_remedy(error.under("model")) if running else error) from error
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        if not running:
            raise  # in the task itself
        name, layer, shape = running[-1]
        title = f"layer '{name}' {describe(layer)}" if name else describe(layer)
        problem = f"{title} cannot take an input of shape {shape}: {str(error).splitlines()[0]}"
        remedy = "do the examples of the data set fit the sizes in the model?"
        if isinstance(trial, Batch):
            remedy = f"one example has data.input_shape={as_typed(config.data.input_shape)}; "
            remedy += "do the sizes in the model follow from input_shape?"
            remedy = kind.remedy(config.data.name, trial.inputs, layer) or remedy
        raise ConfigError("model", ConfigError.MISSING, problem, remedy) from error
    finally:
        for handle in hooks:
            handle.remove()


def with_remedy(error: ConfigError) -> ConfigError:
    """An error of a model's argument, with a remedy for the command line unless the model gives its own."""
    remedy = error.remedy or REMEDIES.get(error.key, "")
    return ConfigError(error.key, error.value, error.problem, remedy)


def _multiply_adds(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> int:
    """Of a linear, convolution or recurrent layer for one example; 0 for any other."""
    if isinstance(layer, nn.RNNBase):  # each weight is used for each token
        return sum(p.numel() for p in layer.parameters() if p.dim() > 1) * int(inputs[0].shape[-2])
    weight = getattr(layer, "weight", None)
    if isinstance(weight, Tensor) and weight.dim() > 1 and not isinstance(layer, nn.Embedding):
        return weight.numel() * output[0].numel() // weight.shape[0]
    return 0


def check_batch_norm(
    summary: ModelSummary, batches: TrainBatches, accumulate: int, frozen: Collection[str] = ()
) -> None:
    """Raise ConfigError if batch normalisation would get a single value per channel, which has no variance.

    Args:
        frozen: names of layers that stay in evaluation mode.
    """
    norms = [x for x in summary.layers if x.kind.startswith("BatchNorm") and x.name not in frozen]
    affected = [x for x in norms if math.prod(x.output_shape[1:]) == 1]
    count = batches.num_examples
    if not affected or count is None:
        return

    def smallest(batch_size: int) -> int:
        last = count % batch_size or batch_size
        return min(batch_size // accumulate, last // min(accumulate, last))

    if smallest(batches.batch_size) < 2:
        fits = next((size for size in range(batches.batch_size + 1, count + 1) if smallest(size) > 1), None)
        layer = affected[0].name
        problem = f"a batch (of {count} examples in all) would give the layer '{layer}' only one to normalise"
        remedy = f"choose batch_size={fits}" if fits else "use more data, or a model without batch normalisation"
        raise ConfigError("batch_size", batches.batch_size, problem, remedy)
