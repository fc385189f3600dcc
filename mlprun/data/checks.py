"""Whether the examples match the config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from mlprun.data.nested import AnyBatch, Batch, iter_tensors
from mlprun.data.parts import size
from mlprun.data.source import IGNORED, Examples, Part
from mlprun.errors import ConfigError, DataError
from mlprun.formatting import as_typed


@dataclass(frozen=True)
class ExpectedData:
    """What the config says about the data; without a shape, examples may have any structure of tensors."""

    task: str
    input_shape: tuple[int, ...] | None
    num_outputs: int
    class_names: tuple[str, ...]

    def check(self, part: Part, name: str) -> Tensor | None:
        """The inputs of a part, or of its first example; None without a shape."""
        if size(part) == 0:
            raise DataError(f"data: the {name} part is empty")
        if isinstance(part, Examples):
            self._check_shape(part.inputs.shape[1:])
            if part.inputs.is_floating_point() and not torch.isfinite(part.inputs).all():
                row = int((~torch.isfinite(part.inputs.flatten(1))).any(1).nonzero()[0])
                raise DataError(
                    f"data: example {row} of the {name} part has NaN or infinite inputs"
                    "\n  remove or repair such examples; mlprun does not guess values"
                )
            self._check_targets(part.targets, name)
            if self.task == "classification" and name == "training":
                self._check_no_class_is_empty(part.targets)
            return part.inputs
        if not isinstance(part, IterableDataset):
            if size(part) is None:
                raise DataError(
                    "data.dataset: a map-style data set needs __len__; one without is an "
                    "IterableDataset (torch.utils.data)"
                )
            return self._check_example(part[0], name)
        first = next(iter(part), None)
        if first is None:
            raise DataError(f"data: the {name} stream is empty")
        return self._check_example(first, name)

    def _check_example(self, example: Any, name: str) -> Tensor | None:
        if self.input_shape is None:
            if next(iter_tensors(default_collate([example])), None) is None:
                raise DataError(f"data.dataset: an example of the {name} part holds no tensor, array or number")
            return None
        if not (isinstance(example, (tuple, list)) and len(example) == 2):
            raise DataError(f"data.dataset: an example must be a pair (input, target), not {type(example).__name__}")
        try:
            inputs, target = torch.as_tensor(example[0]), torch.as_tensor(example[1])
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"data.dataset: an example must be (tensor, tensor or number), not "
                f"({type(example[0]).__name__}, {type(example[1]).__name__}): {error}"
                "\n  turn images into tensors in __getitem__, for example with torchvision's v2.PILToTensor;"
                " examples of another structure are for data=nested with task=custom or task=model"
            ) from error
        self._check_shape(inputs.shape, is_text=inputs.dim() == 1 and not inputs.is_floating_point())
        if not torch.isfinite(inputs).all():
            raise DataError(f"data: the first example of the {name} part has NaN or infinite inputs")
        self._check_targets(target[None], name)
        return inputs

    def _check_shape(self, shape: torch.Size, *, is_text: bool = False) -> None:
        if tuple(shape) != self.input_shape:
            remedy = f"set data.input_shape={as_typed(tuple(shape))}; the model takes it from there"
            if is_text:
                remedy += "; pad texts of different lengths with 0"
            typed = None if self.input_shape is None else list(self.input_shape)
            raise ConfigError("data.input_shape", typed, f"the examples have shape {list(shape)}", remedy)

    def _check_targets(self, targets: Tensor, name: str) -> None:
        if self.task == "classification":
            self._check_classes(targets, name)
        elif self.task in ("multi_label", "regression"):
            self._check_values(targets, name)
        elif self.task in ("token_classification", "language_modeling"):
            self._check_token_classes(targets, name)

    def _check_classes(self, targets: Tensor, name: str) -> None:
        if targets.is_floating_point() or targets.dim() != 1:
            remedy = "classification needs one whole number per example; for values set data.task=regression loss=mse"
            raise ConfigError("data.task", self.task, _kind(targets), remedy)
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= max(self.num_outputs, 2):  # one output is enough for two classes
            problem = f"the labels of the {name} part go from {low} to {high}" if low < high else f"a label is {low}"
            remedy = f"set data.num_outputs={high + 1}" if low >= 0 else "renumber them in the data set"
            remedy = f"labels are 0 to num_outputs - 1: {remedy}"
            raise ConfigError("data.num_outputs", self.num_outputs, problem, remedy)

    def _check_no_class_is_empty(self, targets: Tensor) -> None:
        counts = torch.bincount(targets, minlength=max(self.num_outputs, 2))
        if (counts == 0).any():
            label = int((counts == 0).nonzero()[0])
            class_name = f" ({self.class_names[label]})" if label < len(self.class_names) else ""
            raise DataError(
                f"data: class {label}{class_name} has no training example (data.num_outputs={self.num_outputs})"
                "\n  set data.num_outputs to the number of classes in the data, or add examples"
            )

    def _check_values(self, targets: Tensor, name: str) -> None:
        """Targets (N, num_outputs): of a regression, or 0 or 1 for each label."""
        count = targets.shape[1] if targets.dim() > 1 else 1
        if not targets.is_floating_point() or count != self.num_outputs:
            if self.task == "multi_label":
                problem = _kind(targets)
                remedy = "data.task=multi_label needs a float32 of 0 or 1 for each of data.num_outputs labels"
            else:
                kind = f"{count} values per example" if targets.is_floating_point() else "class indices"
                problem = f"the targets are {kind}"
                remedy = "a regression needs that many float32 targets per example; see also data.task"
            raise ConfigError("data.num_outputs", self.num_outputs, problem, remedy)
        if self.task == "multi_label" and not bool(((targets == 0) | (targets == 1)).all()):
            raise DataError(f"data: the labels of the {name} part are not all 0 or 1")
        if not torch.isfinite(targets).all():
            raise DataError(f"data: the targets of the {name} part hold NaN or infinite values")

    def _check_token_classes(self, targets: Tensor, name: str) -> None:
        if targets.is_floating_point() or tuple(targets.shape[1:]) != self.input_shape:
            remedy = f"each of the {list(self.input_shape or [])} tokens needs a whole number; "
            remedy += "for one per example set data.task=classification"
            raise ConfigError("data.task", self.task, _kind(targets), remedy)
        counted = targets[targets != IGNORED]
        if len(counted) == 0:
            raise DataError(f"data: all targets of the {name} part are {IGNORED}: no target counts")
        low, high = int(counted.min()), int(counted.max())
        if low < 0 or high >= self.num_outputs:
            problem = f"the targets of the {name} part go from {low} to {high}"
            remedy = f"a token's class is 0 to num_outputs - 1, or {IGNORED} where no target counts"
            raise ConfigError("data.num_outputs", self.num_outputs, problem, remedy)


def _kind(targets: Tensor) -> str:
    return f"the targets have dtype {targets.dtype} and shape {list(targets.shape[1:])} per example"


def check_padding(part: Part, trial: AnyBatch, padding: int) -> None:
    """Check that padding comes after all tokens: else a model masks tokens or miscounts lengths.

    Looks through `part` if it is in memory, else through `trial`.

    Raises:
        ConfigError: padding comes before a token.
    """
    ids = part.inputs if isinstance(part, Examples) else trial.inputs if isinstance(trial, Batch) else None
    if ids is None or ids.dim() != 2 or ids.is_floating_point():
        return
    is_padding = ids == padding
    wrong = (is_padding[:, :-1] & ~is_padding[:, 1:]).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        problem = (
            f"validation example {row} has the id {padding} at place {place}, before a token: {padding} is padding"
        )
        remedy = "pad at the end only, and count the ids of tokens from 1"
        raise ConfigError("data.dataset", ConfigError.MISSING, problem, remedy)
