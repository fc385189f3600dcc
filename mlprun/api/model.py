"""`mlprun.load`: the model of a run, to predict with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.api.guest import alone
from mlprun.data.table.read import cells_of
from mlprun.errors import ConfigError, RunError
from mlprun.job.prepare import configure_torch
from mlprun.job.torch_state import restored
from mlprun.predict import finished
from mlprun.predict.generate import completes
from mlprun.predict.inputs import from_array
from mlprun.predict.predict import (
    as_in_evaluation,
    batches_of,
    image_format,
    read_inputs,
    read_table,
    stored_shape,
    words_of,
)
from mlprun.terminal import print_line


@dataclass(frozen=True)
class Predictions:
    """What a model says of N inputs; tensors are on the CPU.

    Attributes:
        outputs: of the model, float32 (N, num_outputs); those of a regression in the data's own units.
        probabilities: of each class, float32 (N, K); None for a regression, and if the loss gives mere scores.
        classes: indices of the predicted classes, int64 (N,); None for a regression.
        class_names: K names, or their numbers; empty for a regression.
    """

    outputs: Tensor
    probabilities: Tensor | None
    classes: Tensor | None
    class_names: list[str] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The name of each predicted class; empty for a regression."""
        return [] if self.classes is None else [self.class_names[i] for i in self.classes.tolist()]

    def __len__(self) -> int:
        return len(self.outputs)


class TrainedModel:
    """The model of a run with the weights of a checkpoint, from `mlprun.load`.

    Attributes:
        model: the torch module, in evaluation mode, on `device`; called directly, it takes scaled inputs.
        directory: absolute path of the run.
        config: the config of the run: nested dicts.
        device: where the model is.
        step: of the checkpoint.
        class_names: in the order of the outputs; empty if the data has none.
    """

    def __init__(self, loaded: finished.Finished, directory: Path) -> None:
        self._loaded = loaded
        self.model: nn.Module = loaded.learner.model
        self.directory, self.config, self.device = directory, loaded.config.to_dict(), loaded.device
        self.step, self.class_names = loaded.state.step, loaded.state.class_names

    def predict(self, inputs: Any) -> Predictions:
        """Predict inputs as `mlprun predict` does: scaled as in the run, with its threads and precision.

        Args:
            inputs: a tensor, an array, a DataFrame or lists of numbers (N, *input_shape), as the run's data set gives
                them, before they are scaled; rows of a table by the run's names of columns: a DataFrame of pandas or
                polars, or a list of dicts; or a name of a file (image, .wav, .txt, .csv), a text, or a list of them.

        Returns:
            Predictions for the N inputs, in their order.

        Raises:
            DataError: an input has another shape, range or format than the run's.
            RunError: the outputs of the run's task have no known meaning; call `model`.
        """
        with alone(), _as_in_the_run(self._loaded):
            if completes(self.config["data"]):
                remedy = "mlprun predict continues its texts or fills them in; or call model"
                raise RunError(f"the run's model predicts tokens\n  {remedy}")
            task = self._loaded.task
            stacked = as_in_evaluation(self._loaded, self._read(inputs))
            outputs, _ = self._loaded.learner.predict(batches_of(self._loaded, stacked))
            names = task.class_names(self.class_names)
            return Predictions(outputs, task.probabilities(outputs), task.predicted_classes(outputs), names)

    def _read(self, inputs: Any) -> Tensor:
        words = [inputs] if isinstance(inputs, str | os.PathLike) else inputs
        has_words = isinstance(words, list | tuple) and all(isinstance(word, str | os.PathLike) for word in words)
        cells = cells_of(inputs) if "table" in self._loaded.state else None
        if cells is not None or (has_words and words):
            if cells is not None:
                given = read_table(self._loaded, "inputs", cells)
            else:
                given = read_inputs(self._loaded, [os.fspath(word) for word in words])
            for note in (note for each in given for note in each.notes):
                print_line(note, sys.stderr)
            return torch.stack([each.inputs for each in given])
        if (kind := words_of(self._loaded)) is not None:
            raise ConfigError("inputs", type(inputs).__name__, f"the run takes {kind}", "give one, or a list of them")
        if self.config["data"]["input_shape"] is None:
            raise RunError("the run's examples have a structure of their own\n  call model with a batch of them")
        return from_array(inputs, stored_shape(self._loaded), image_format(self._loaded))

    def __repr__(self) -> str:
        return f"TrainedModel('{self.directory}', step {self.step}, on {self.device})"


@contextmanager
def _as_in_the_run(loaded: finished.Finished) -> Iterator[None]:
    with restored():
        configure_torch(loaded.config)
        torch.set_num_threads(loaded.record.num_threads or 1)
        yield


def load(
    run: str | os.PathLike[str],
    *,
    checkpoint: str = "best",
    device: str | torch.device | None = None,
    trust: bool = False,
) -> TrainedModel:
    """Load the model of a run with the weights of its best checkpoint.

    Args:
        run: a run directory, or what `mlprun.run` returned.
        checkpoint: `best`, `last` or `step_N`, one of the run's.
        device: such as `cpu` or `cuda:1`; None: the run's.
        trust: also call classes that are neither a library's nor yours, see docs/own_code.md.

    Returns:
        The model in evaluation mode, with `predict`.

    Raises:
        RunError: there is no such run or checkpoint, or it does not match the run's config.
        ConfigError: the device is not available, or there is no such checkpoint.
    """
    path = Path(run).expanduser().absolute()
    where = None if device is None else str(device)
    with alone(), restored():
        return TrainedModel(finished.load(path, trust=trust, checkpoint=checkpoint, device=where), path)
