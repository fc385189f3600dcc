"""`data.transforms`: changes of one input at a time, on the CPU, before inputs are scaled."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from mlprun import randomness
from mlprun.data.loading import Positioned
from mlprun.data.source import Examples, Part, Source
from mlprun.errors import ConfigError, DataError, UserError, is_users_own
from mlprun.formatting import as_typed

EVALUATION_SEED = randomness.mix(0, "evaluation")  # every evaluation of every run draws the same


@dataclass(frozen=True)
class Chain:
    """Transforms that are called one after the other with an input as the data set gives it, without its target.

    Args:
        key: of the list, for messages.
        steps: name and function of each; what they draw comes from the global generators.
        input_shape: of the result, which is uint8 or float32.
        before: called first; crop and flip of images in memory.
    """

    key: str
    steps: Sequence[tuple[str, Callable[[Any], Any]]]
    input_shape: tuple[int, ...]
    before: Callable[[Tensor], Tensor] | None = None

    def __call__(self, inputs: Any) -> Tensor:
        value = inputs.clone() if isinstance(inputs, Tensor) else inputs  # some transforms work in place
        if self.before is not None:
            value = self.before(value)
        values = []
        for index, (_, step) in enumerate(self.steps):
            before = _described(value)
            try:
                value = step(value)
            except UserError:
                raise
            except Exception as error:  # of any transform
                if any(is_users_own(frame.filename) for frame in traceback.extract_tb(error.__traceback__)):
                    error.add_note(f"in {self.key}[{index}], with {before}")
                    raise
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                remedy = "put ConvertImageDtype before it, which maps bytes to [0, 1]" if "float" in reason else ""
                raise self._error(index, f"fails with {before}: {reason}", remedy) from error
            if value is None:
                raise self._error(index, "returns None", "return the changed input")
            values.append(value)
        return self._checked(value, values)

    def _checked(self, value: Any, values: Sequence[Any]) -> Tensor:
        """The result as a plain tensor; ConfigError names the step after which it is no input of a model."""
        last = len(values) - 1
        if not isinstance(value, Tensor):
            remedy = "add ToImage, of torchvision.transforms.v2, to the end of the list"
            raise self._error(last, f"ends the list with {_described(value)}, not with a tensor", remedy)
        value = value.as_subclass(Tensor)
        if not value.is_floating_point() and value.dtype != torch.uint8:
            wrong = next(i for i, each in enumerate(values) if isinstance(each, Tensor) and each.dtype == value.dtype)
            raise self._error(wrong, f"returns {_described(values[wrong])}", "return uint8 or float32")
        if tuple(value.shape) != self.input_shape:
            shape = as_typed(tuple(value.shape))
            problem = f"gives inputs of shape {shape}, and data.input_shape={as_typed(self.input_shape)}"
            remedy = f"set data.input_shape={shape} if all inputs are to have it, or add Resize or CenterCrop"
            raise self._error(last, problem, remedy)
        if value.is_floating_point():
            value = value.to(torch.float32)
            if not value.isfinite().all():
                is_wrong = (isinstance(each, Tensor) and not each.isfinite().all() for each in values)
                wrong = next((index for index, wrong in enumerate(is_wrong) if wrong), last)
                raise self._error(wrong, "returns NaN or infinity", "correct it, or leave it out")
        return value.contiguous()  # type: ignore[no-any-return]  # as_subclass gives Any

    def _error(self, index: int, problem: str, remedy: str = "") -> ConfigError:
        return ConfigError(f"{self.key}[{index}]", self.steps[index][0], problem, remedy)

    def in_evaluation(self, inputs: Sequence[Any] | Tensor) -> Tensor:
        """The results for inputs (N, …), stacked; the input at an index always draws the same numbers."""
        pairs: Any = [(each, 0) for each in inputs]
        part = Positioned(Transformed(pairs, self), EVALUATION_SEED)
        with randomness.preserved():
            results: list[Tensor] = [part[0, index][0] for index in range(len(inputs))]
        return torch.stack(results)


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    return f"a tensor of type {str(value.dtype).removeprefix('torch.')} and shape {list(value.shape)}"


def _name(part: Any, index: int) -> str:
    while isinstance(part, Subset):
        part, index = part.dataset, part.indices[index]
    paths = getattr(part, "paths", None)
    return str(paths[index]) if isinstance(paths, list | tuple) else f"example {index}"


def _changed(example: Any, chain: Chain) -> tuple[Tensor, Any]:
    if not (isinstance(example, tuple | list) and len(example) == 2):
        raise DataError(f"data.dataset: an example must be a pair (input, target), not {type(example).__name__}")
    return chain(example[0]), example[1]


class Transformed(Dataset[tuple[Tensor, Any]]):
    """Examples, in memory or lazy, whose inputs are transformed as they are read."""

    def __init__(self, dataset: Part, chain: Chain) -> None:
        self.dataset, self.chain = dataset, chain

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]  # no stream, so it has a length

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        part = self.dataset
        example = (part.inputs[index], part.targets[index]) if isinstance(part, Examples) else part[index]
        try:
            return _changed(example, self.chain)
        except ConfigError as error:
            problem = f"{error.problem} ({_name(part, index)})"
            raise ConfigError(error.key, error.value, problem, error.remedy) from error


class TransformedStream(IterableDataset[tuple[Tensor, Any]]):
    """A stream whose inputs are transformed as they are read."""

    def __init__(self, dataset: Any, chain: Chain) -> None:
        self.dataset, self.chain = dataset, chain

    def __iter__(self) -> Iterator[tuple[Tensor, Any]]:
        return (_changed(example, self.chain) for example in self.dataset)


def _transformed(part: Any, chain: Chain | None) -> Any:
    if part is None or chain is None:
        return part
    return TransformedStream(part, chain) if isinstance(part, IterableDataset) else Transformed(part, chain)


@dataclass(frozen=True)
class Transforms:
    """The lists of `data.transforms`, None if empty: then training is transformed as an evaluation is."""

    train: Chain | None = None
    eval: Chain | None = None

    def apply(self, source: Source, val: Part | None) -> tuple[Source, Part | None]:
        """The source and val part with the evaluation's transforms, and `augmented` with those of training."""
        augmented = source.augmented
        if self.train is not None or augmented is not None:
            augmented = _transformed(source.train if augmented is None else augmented, self.train or self.eval)
        parts = {name: _transformed(getattr(source, name), self.eval) for name in ("train", "test", "val")}
        return replace(source, **parts, augmented=augmented), _transformed(val, self.eval)

    def check_alike(self, train: Part, val: Part) -> None:
        """Raise ConfigError if one list gives bytes and the other floats, which would be scaled alike."""
        if self.train is None or isinstance(train, IterableDataset):
            return
        first, other = (str(torch.as_tensor(first_input(part)).dtype).removeprefix("torch.") for part in (train, val))
        if (first == "uint8") != (other == "uint8"):
            problem = f"gives {first}, and evaluations see {other} (data.transforms.eval)"
            remedy = "give both lists what changes the type, such as ConvertImageDtype and Normalize"
            raise ConfigError("data.transforms.train", [name for name, _ in self.train.steps], problem, remedy)


def first_input(part: Part) -> Any:
    """The first input of a part, without any effect on what is drawn later."""
    with randomness.preserved():
        if isinstance(part, Examples):
            return part.inputs[0]
        example = next(iter(part), None) if isinstance(part, IterableDataset) else part[0]
    return example[0] if isinstance(example, tuple | list) and example else None


def stored_examples(part: Part) -> Examples | None:
    """The examples of a part that is in memory, without transforms; None if it is lazy."""
    part = untransformed(part)
    return part if isinstance(part, Examples) else None


def untransformed(part: Part) -> Part:
    """A part without the transforms of `data.transforms`."""
    return part.dataset if isinstance(part, Transformed | TransformedStream) else part


def in_memory(part: Part) -> Part:
    """Examples in memory with their transforms applied once, as in an evaluation; a lazy part as it is."""
    if not (isinstance(part, Transformed) and isinstance(part.dataset, Examples)):
        return part
    return Examples(part.chain.in_evaluation(part.dataset.inputs), part.dataset.targets)
