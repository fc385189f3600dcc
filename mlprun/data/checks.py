"""Whether the examples match the config."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from mlprun.data.nested import AnyBatch, Batch, iter_tensors
from mlprun.data.parts import size
from mlprun.data.source import IGNORED, Examples, Part
from mlprun.data.transforms import stored_examples
from mlprun.errors import ConfigError, DataError
from mlprun.formatting import as_typed, first_few

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class ExpectedData:
    """What the config says about the data; without a shape, examples may have any structure of tensors."""

    task: str
    input_shape: tuple[int, ...] | None
    num_outputs: int
    class_names: tuple[str, ...]
    may_miss: bool = False  # NaN among the inputs is a missing value

    def check(self, part: Part, name: str) -> Tensor | None:
        """The inputs of a part, or of its first example; None without a shape."""
        if size(part) == 0:
            raise DataError(f"data: the {name} part is empty")
        if (stored := stored_examples(part)) is not None:
            if isinstance(part, Examples):
                inputs: Tensor | None = part.inputs
                self._check_shape(part.inputs.shape[1:])
            else:
                inputs = self._check_example(part[0], name)
            if not self.may_miss:
                refuse_non_finite(stored.inputs, "inputs", f"the {name} part")
            self._check_targets(stored.targets, name)
            if self.task == "classification" and name == "training":
                self._check_no_class_is_empty(stored.targets)
            return inputs
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

    def check_batch(self, targets: Tensor, name: str) -> None:
        """Raise a DataError for targets of lazy data that a loss may accept in silence (its `ignore_index`)."""
        # too large labels raise an error; NumPy takes a tenth of torch's time for so few numbers
        if self.task == "classification" and not targets.is_floating_point() and (targets.numpy() < 0).any():
            count, low = int((targets < 0).sum()), int(targets.min())
            which = f"are {low}" if bool((targets[targets < 0] == low).all()) else "are negative"
            raise DataError(
                f"data: {count} of the {len(targets)} labels of a {name} batch {which}, which a loss may ignore"
                "\n  labels are 0 to num_outputs - 1: leave out examples without a label"
            )
        if self.task == "multi_label":
            self._check_labels(targets, name)

    def watch(self, inputs: Tensor, targets: Tensor, epoch: int) -> None:
        """`check_batch` of an evaluation, whose loss NaN inputs would make NaN; in training that ends the run."""
        self.check_batch(targets, "val or test")
        refuse_non_finite(inputs, "inputs", "a val or test batch")
        refuse_non_finite(targets, "targets", "a val or test batch")

    def has_target(self, targets: Tensor) -> bool:
        """Whether any target counts."""
        per_token = self.task in ("token_classification", "language_modeling")
        return not per_token or bool((targets != IGNORED).any())

    def class_counts(self, targets: Tensor) -> Tensor | None:
        """The number of examples of each class, or with each label; None for other targets."""
        if self.task == "multi_label" and targets.dim() == 2:
            return targets.sum(0).long()
        num_classes = max(self.num_outputs, 2)
        if self.task != "classification" or targets.is_floating_point() or targets.dim() != 1:
            return None
        values = targets.numpy()
        if values.size == 0 or values.min() < 0 or values.max() >= num_classes:
            return None
        return torch.from_numpy(np.bincount(values, minlength=num_classes))

    def warn_of_missing_classes(self, counts: Tensor, why: str) -> None:
        """Warn of classes without an example in the training split."""
        missing = (counts == 0).nonzero().flatten().tolist()
        if missing:
            named = len(self.class_names) == len(counts)
            names = first_few([self.class_names[i] if named else str(i) for i in missing], 5)
            kind = "labels" if self.task == "multi_label" else "classes"
            log.warning("%d of %d %s have no training example (%s): %s", len(missing), len(counts), kind, names, why)

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
        if self.task == "multi_label":
            self._check_labels(targets, name)
        refuse_non_finite(targets, "targets", f"the {name} part")

    def _check_labels(self, targets: Tensor, name: str) -> None:
        if not bool(((targets == 0) | (targets == 1)).all()):
            raise DataError(f"data: the labels of the {name} part are not all 0 or 1")

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


def refuse_non_finite(values: Tensor, what: str, of: str) -> None:
    """Raise a DataError that counts the NaN and infinite values of examples, (N, …), by column if they are a table."""
    if not values.is_floating_point() or torch.isfinite(values).all():
        return
    wrong = ~torch.isfinite(values.flatten(1) if values.dim() > 1 else values[:, None])
    rows, counts = wrong.any(1), wrong.sum(0)
    where = f"{int(counts.sum()):,} of {wrong.numel():,} values, in {int(rows.sum()):,} of {len(rows):,} examples"
    if values.dim() == 2 and len(counts) > 1:
        columns = counts.nonzero().flatten().tolist()
        where += f"; columns, from 0: {first_few([f'{i} ({int(counts[i]):,})' for i in columns], 8)}"
    raise DataError(
        f"data: example {int(rows.nonzero()[0])} of {of} has NaN or infinite {what} ({where})"
        "\n  remove or repair such examples; mlprun does not guess values"
    )


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
