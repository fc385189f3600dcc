"""Whether the examples are what the config says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from mlprun.data.nested import AnyBatch, Batch, iter_tensors
from mlprun.data.parts import Part, size
from mlprun.data.source import IGNORED, Examples
from mlprun.errors import ConfigError, DataError
from mlprun.formatting import as_typed
from mlprun.task_names import CUSTOM


@dataclass(frozen=True)
class ExpectedData:
    """What the config says of the data; without a shape, examples may have any structure of tensors."""

    task: str
    input_shape: tuple[int, ...] | None
    num_outputs: int
    class_names: tuple[str, ...]

    def check(self, part: Part, name: str) -> None:
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
            self._check_targets(part.targets, name, whole=name == "training")
        elif not isinstance(part, IterableDataset):
            if size(part) is None:
                raise DataError(
                    "data.dataset: a map-style data set needs __len__; one without is an "
                    "IterableDataset (torch.utils.data)"
                )
            self._check_example(part[0], name)
        else:
            first = next(iter(part), None)
            if first is None:
                raise DataError(f"data: the {name} stream is empty")
            self._check_example(first, name)

    def _check_example(self, example: Any, name: str) -> None:
        if self.input_shape is None:
            if next(iter_tensors(default_collate([example])), None) is None:
                raise DataError(f"data.dataset: an example of the {name} part holds no tensor, array or number")
            return
        if not (isinstance(example, (tuple, list)) and len(example) == 2):
            raise DataError(f"data.dataset: an example must be a pair (input, target), not {type(example).__name__}")
        try:
            inputs, target = torch.as_tensor(example[0]), torch.as_tensor(example[1])
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"data.dataset: an example must be (tensor, tensor or number), not "
                f"({type(example[0]).__name__}, {type(example[1]).__name__}): {error}"
                "\n  turn pictures into tensors in __getitem__, for example with torchvision's v2.PILToTensor;"
                " examples of another structure are for data=nested with task=custom or task=model"
            ) from error
        self._check_shape(inputs.shape, is_text=inputs.dim() == 1 and not inputs.is_floating_point())
        if not torch.isfinite(inputs).all():
            raise DataError(f"data: the first example of the {name} part has NaN or infinite inputs")
        self._check_targets(target[None], name, whole=False)

    def _check_shape(self, shape: torch.Size, *, is_text: bool = False) -> None:
        if tuple(shape) != self.input_shape:
            raise ConfigError(
                "data.input_shape",
                None if self.input_shape is None else list(self.input_shape),
                f"the examples have shape {list(shape)}",
                f"set data.input_shape={as_typed(tuple(shape))}; the model takes it from there"
                + "; texts of several lengths need a 0 for each token that they are shorter" * is_text,
            )

    def _check_targets(self, targets: Tensor, name: str, *, whole: bool) -> None:
        if self.task == CUSTOM:
            return
        if self.task == "multi_label":
            self._check_labels(targets, name)
            return
        if self.task == "regression":
            values = targets.shape[1] if targets.dim() > 1 else 1
            if not targets.is_floating_point() or values != self.num_outputs:
                kind = "class indices" if not targets.is_floating_point() else f"{values} values an example"
                raise ConfigError(
                    "data.num_outputs",
                    self.num_outputs,
                    f"the targets are {kind}",
                    "a regression needs that many float32 targets an example; see also data.task",
                )
            if not torch.isfinite(targets).all():
                raise DataError(f"data: the targets of the {name} part hold NaN or infinite values")
            return
        if self.task != "classification":
            self._check_token_targets(targets, name)
            return
        if targets.is_floating_point() or targets.dim() != 1:
            raise ConfigError(
                "data.task",
                self.task,
                f"the targets have dtype {targets.dtype} and shape {list(targets.shape[1:])} an example",
                "classification needs one whole number an example; for values set data.task=regression loss=mse",
            )
        classes = max(self.num_outputs, 2)  # one output is enough for two classes
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high >= classes:
            raise ConfigError(
                "data.num_outputs",
                self.num_outputs,
                f"the labels of the {name} part go from {low} to {high}" if low < high else f"a label is {low}",
                f"labels are 0 to num_outputs - 1: set data.num_outputs={high + 1}"
                if low >= 0
                else "labels are 0 to num_outputs - 1: renumber them in the data set",
            )
        if whole:
            counts = torch.bincount(targets, minlength=classes)
            if (counts == 0).any():
                label = int((counts == 0).nonzero()[0])
                named = f" ({self.class_names[label]})" if label < len(self.class_names) else ""
                raise DataError(
                    f"data: class {label}{named} has no training example (data.num_outputs={self.num_outputs})"
                    "\n  set data.num_outputs to the number of classes there are, or add examples"
                )

    def _check_labels(self, targets: Tensor, name: str) -> None:
        values = targets.shape[1] if targets.dim() > 1 else 1
        if not targets.is_floating_point() or values != self.num_outputs:
            raise ConfigError(
                "data.num_outputs", self.num_outputs,
                f"the targets have dtype {targets.dtype} and shape {list(targets.shape[1:])} an example",
                "data.task=multi_label needs a float32 of 0 or 1 for each of data.num_outputs labels",
            )  # fmt: skip
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise DataError(f"data: the labels of the {name} part are not all 0 or 1")

    def _check_token_targets(self, targets: Tensor, name: str) -> None:
        if targets.is_floating_point() or tuple(targets.shape[1:]) != self.input_shape:
            raise ConfigError(
                "data.task",
                self.task,
                f"the targets have dtype {targets.dtype} and shape {list(targets.shape[1:])} an example",
                f"each of the {list(self.input_shape or [])} tokens needs a whole number; "
                "for one an example set data.task=classification",
            )
        told = targets[targets != IGNORED]
        if len(told) == 0:
            raise DataError(f"data: all targets of the {name} part are {IGNORED}: no target counts")
        low, high = int(told.min()), int(told.max())
        if low < 0 or high >= self.num_outputs:
            raise ConfigError(
                "data.num_outputs",
                self.num_outputs,
                f"the targets of the {name} part go from {low} to {high}",
                f"a token's class is 0 to num_outputs - 1, and {IGNORED} where no target counts",
            )


def check_padding(part: Part, trial: AnyBatch, padding: int) -> None:
    """Check that the id of padding stands at the end only: a model leaves it out, or counts lengths wrong.

    Args:
        part: of the data; looked through where it is in memory, else `trial` is.

    Raises:
        ConfigError: it stands before a token.
    """
    ids = part.inputs if isinstance(part, Examples) else trial.inputs if isinstance(trial, Batch) else None
    if ids is None or ids.dim() != 2 or ids.is_floating_point():
        return
    is_padding = ids == padding
    wrong = (is_padding[:, :-1] & ~is_padding[:, 1:]).nonzero()
    if len(wrong):
        row, place = wrong[0].tolist()
        raise ConfigError(
            "data.dataset", ConfigError.MISSING,
            f"validation example {row} has the id {padding} at place {place}, before a token: {padding} is padding",
            "pad at the end only, and count the ids of tokens from 1",
        )  # fmt: skip
