"""From a data set to train, val and test: who goes where, the checks, and the scaling.

`train` learns, `val` selects, `test` reports once. `val` is carved from the training part by a seeded
permutation; `test` is the data set's own test part, and only where there is none, a carved one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset, Subset

from mlprun import seeding
from mlprun.data.source import IGNORED, Examples, Perturb, Source
from mlprun.data.tokens import Tokenizer
from mlprun.errors import ConfigError, DataError
from mlprun.metric_names import BY_TOKEN

Part = Examples | Dataset[Any]

# Lazy data is too large to be read whole for its statistics: this many training examples stand for it.
STATISTICS_SAMPLE = 2048


@dataclass(frozen=True)
class Normalizer:
    """`(x - shift) / scale` in float32, by channel of an image or by feature.

    Attributes:
        shift, scale: float32, shape (C, 1, 1) for images, (D,) for features, () where all are scaled alike.
    """

    shift: Tensor
    scale: Tensor

    def __call__(self, inputs: Tensor) -> Tensor:
        """Scale a batch of shape (N, *input_shape); whole numbers other than bytes (token ids) pass unchanged."""
        if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
            return inputs
        return inputs.to(torch.float32).sub(self.shift).div_(self.scale)

    def inverse(self, scaled: Tensor) -> Tensor:
        """The values that were scaled; for bytes as floats."""
        return scaled * self.scale + self.shift

    def to(self, device: torch.device) -> Normalizer:
        """The same on `device`."""
        return Normalizer(self.shift.to(device), self.scale.to(device))


@dataclass(frozen=True)
class Splits:
    """What a run trains, selects and reports on.

    Attributes:
        train: with random transformations where they belong to lazy data.
        val, test: without.
        normalizer: of the inputs, by statistics of the training split.
        target_normalizer: of the targets of a regression, likewise, shape (num_outputs,); None: they stay as they are.
        test_normalizer: of the test part's inputs by its own statistics, for demonstration; None: `normalizer`.
        class_names: one a class, or empty.
        fingerprints: file -> `sha256:…`.
        value_range: smallest and largest value that the image format allows, or None.
        padding, perturb, tokenizer: as the `Source` has them.
    """

    train: Part
    val: Part
    test: Part
    normalizer: Normalizer
    class_names: tuple[str, ...] = ()
    fingerprints: dict[str, str] | None = None
    value_range: tuple[float, float] | None = None

    def image_format(self) -> dict[str, Any]:
        """What a picture of another origin must be brought to, as plain values for a checkpoint.

        `range`: as `value_range`, or None; `border`: mean of the outermost pixels of training images in that unit,
        which tells a black background from a white one, or None where images are not in memory.
        """
        border = None
        if isinstance(self.train, Examples) and self.train.inputs.dim() == 4:
            some = self.train.inputs[:STATISTICS_SAMPLE]
            edges = [some[:, :, 0], some[:, :, -1], some[:, :, :, 0], some[:, :, :, -1]]
            border = float(torch.cat([edge.flatten() for edge in edges]).double().mean())
        return {"range": None if self.value_range is None else [float(v) for v in self.value_range], "border": border}

    target_normalizer: Normalizer | None = None
    test_normalizer: Normalizer | None = None
    padding: int | None = None
    perturb: Perturb | None = None
    tokenizer: Tokenizer | None = None

    def normalizer_of(self, part: Part) -> Normalizer:
        """What scales the inputs of one of the parts."""
        return self.test_normalizer if part is self.test and self.test_normalizer is not None else self.normalizer


def size(part: Part) -> int | None:
    """Number of examples, or None where the data does not tell."""
    try:
        return len(part)  # type: ignore[arg-type]
    except (TypeError, NotImplementedError):
        return None


def make_splits(
    source: Source,
    *,
    val: Part | None,
    task: str,
    input_shape: list[int],
    num_outputs: int,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    normalize: str,
    normalize_test_by: str = "train",
    normalize_targets: bool = False,
    limit: int | None,
    limit_eval: int | None,
) -> Splits:
    """Check the data against what the config says of it, and split it.

    Args:
        source: the data set; its own `test` part is used where it has one.
        val: a val part that goes before the source's own; None for that, or else to carve one from the training part.
        task, input_shape, num_outputs: what the config says; a mismatch is an error that names the keys.
        val_fraction, test_fraction: shares in (0, 1).
        split_seed: seeds both permutations.
        normalize: `none`, `minmax` or `standardize`.
        normalize_test_by: `train` or `test`: whose statistics scale the test part.
        normalize_targets: scale the targets of a regression by mean and standard deviation of the training split's.
        limit: training examples used, None for all.
        limit_eval: val and test examples used, None for all.

    Raises:
        DataError: NaN, an empty class, too few examples.
        ConfigError: `data.input_shape` or `data.num_outputs` is not what the data holds.
    """
    expected = _Expected(task, tuple(input_shape), num_outputs, source.class_names)
    val = source.val if val is None else val
    for part, name in ((source.train, "training"), (source.test, "test"), (val, "val")):
        if part is not None:
            expected.check(part, name)
    if isinstance(source.train, IterableDataset):
        assert not isinstance(val, Examples)
        train, val_part, test = _split_stream(source, val, val_fraction, test_fraction, split_seed)
        plain_train = train = _some(train, limit, split_seed)
    else:
        rest, test = _carve_test(source, task, test_fraction, split_seed)
        # Permuted also where val is not carved: `limit` must not take one class of files sorted by class.
        rest = rest[torch.randperm(len(rest), generator=seeding.generator(split_seed, "val"))]
        if val is None:
            num_val = max(1, round(val_fraction * len(rest)))
            # The order of the data set is kept: the shuffling of an epoch is not the split's business.
            val_part, rest = _take(source.train, rest[:num_val].sort().values), rest[num_val:]
        else:
            val_part = val
        if len(rest) == 0:
            raise DataError(
                f"data: {size(source.train)} examples leave none to train on after val and test are carved"
                "\n  use more data, or smaller data.val_fraction and data.test_fraction"
            )
        rest = rest[:limit].sort().values
        plain_train = _take(source.train, rest)
        train = plain_train if source.augmented is None else _take(source.augmented, rest)
    test = _some(test, limit_eval, split_seed)
    target_normalizer = None
    if normalize_targets:
        # one sample of lazy data stands for both its inputs and its targets
        plain_train = plain_train if isinstance(plain_train, Examples) else _sample(plain_train, split_seed)
        values = plain_train.targets.reshape(len(plain_train.targets), -1)
        target_normalizer = make_normalizer(Examples(values, values), "standardize", None)
    own = make_normalizer(test, normalize, source.value_range, split_seed) if normalize_test_by == "test" else None
    return Splits(
        train=train,
        val=_some(val_part, limit_eval, split_seed),
        test=test,
        normalizer=make_normalizer(plain_train, normalize, source.value_range, split_seed),
        class_names=source.class_names,
        fingerprints=source.fingerprints,
        value_range=source.value_range,
        target_normalizer=target_normalizer,
        test_normalizer=own,
        padding=source.padding,
        perturb=source.perturb,
        tokenizer=source.tokenizer,
    )


# -------------------------------------------------------------------------------------------- splitting


def _take(part: Part, index: Tensor) -> Part:
    return part[index] if isinstance(part, Examples) else Subset(part, index.tolist())


def _some(part: Part, limit: int | None, seed: int) -> Part:
    """At most `limit` examples: the first of a stream, else a random choice in the part's own order."""
    if limit is None:
        return part
    if isinstance(part, IterableDataset):
        return _StreamHead(part, limit)
    order = torch.randperm(len(part), generator=seeding.generator(seed, "limit"))  # type: ignore[arg-type]
    return _take(part, order[:limit].sort().values)


def _carve_test(source: Source, task: str, fraction: float, seed: int) -> tuple[Tensor, Part]:
    """The indices left of the training part, and the test part: its own, or a stratified share."""
    count = len(source.train)  # type: ignore[arg-type]
    if source.test is not None:
        return torch.arange(count), source.test
    targets = getattr(source.train, "targets", None) if task == "classification" else None
    left, chosen = carve(count, None if targets is None else torch.as_tensor(targets).flatten(), fraction, seed)
    return left, _take(source.train, chosen)


def carve(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of the examples that stay, and of those of a test part, at least one: both int64, ascending.

    Args:
        count: of all.
        classes: (count,), of each of which the test part has its share; None: a share of all.
        fraction: that share.
        seed: `data.split_seed`.
    """
    order = torch.randperm(count, generator=seeding.generator(seed, "test"))
    groups = [order] if classes is None else [order[classes[order] == label] for label in classes.unique()]
    chosen = torch.cat([group[: round(fraction * len(group))] for group in groups])
    if len(chosen) == 0:
        chosen = order[:1]
    left = torch.ones(count, dtype=torch.bool)
    left[chosen] = False
    return left.nonzero().flatten(), chosen.sort().values


class _StreamPart(IterableDataset[Any]):
    """The examples of a stream whose position falls into one of three shares, drawn from (seed, position)."""

    def __init__(self, stream: IterableDataset[Any], shares: tuple[float, float], part: str, seed: int) -> None:
        self.stream, self.shares, self.part, self.seed = stream, shares, part, seed

    def __iter__(self) -> Iterator[Any]:
        val, test = self.shares
        for position, example in enumerate(self.stream):
            draw = seeding.mix(self.seed, "stream", position) / 2**63
            part = "val" if draw < val else "test" if draw < val + test else "train"
            if part == self.part:
                yield example


class _StreamHead(IterableDataset[Any]):
    def __init__(self, stream: IterableDataset[Any], count: int) -> None:
        self.stream, self.count = stream, count

    def __iter__(self) -> Iterator[Any]:
        for position, example in enumerate(self.stream):
            if position >= self.count:
                return
            yield example


def _split_stream(
    source: Source, val: Dataset[Any] | None, val_fraction: float, test_fraction: float, seed: int
) -> tuple[Part, Part, Part]:
    """A stream cannot be permuted: each position belongs to one split, the same in every pass."""
    stream = source.train
    assert isinstance(stream, IterableDataset)
    shares = (0.0 if val is not None else val_fraction, 0.0 if source.test is not None else test_fraction)
    train = stream if shares == (0.0, 0.0) else _StreamPart(stream, shares, "train", seed)
    return (
        train,
        val if val is not None else _StreamPart(stream, shares, "val", seed),
        source.test if source.test is not None else _StreamPart(stream, shares, "test", seed),
    )


# ---------------------------------------------------------------------------------------------- checks


@dataclass(frozen=True)
class _Expected:
    """What the config says of the data."""

    task: str
    input_shape: tuple[int, ...]
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
        if not (isinstance(example, (tuple, list)) and len(example) == 2):
            raise DataError(f"data.dataset: an example must be a pair (input, target), not {type(example).__name__}")
        try:
            inputs, target = torch.as_tensor(example[0]), torch.as_tensor(example[1])
        except (TypeError, ValueError, RuntimeError) as error:
            raise DataError(
                f"data.dataset: an example must be (tensor, tensor or number), not "
                f"({type(example[0]).__name__}, {type(example[1]).__name__}): {error}"
                "\n  turn pictures into tensors in __getitem__, for example with torchvision's v2.PILToTensor"
            ) from error
        self._check_shape(inputs.shape, is_text=inputs.dim() == 1 and not inputs.is_floating_point())
        if not torch.isfinite(inputs).all():
            raise DataError(f"data: the first example of the {name} part has NaN or infinite inputs")
        self._check_targets(target[None], name, whole=False)

    def _check_shape(self, shape: torch.Size, *, is_text: bool = False) -> None:
        if tuple(shape) != self.input_shape:
            raise ConfigError(
                "data.input_shape",
                list(self.input_shape),
                f"the examples have shape {list(shape)}",
                f"set data.input_shape=[{','.join(map(str, shape))}]; the model takes it from there"
                + "; texts of several lengths need a 0 for each token that they are shorter" * is_text,
            )

    def _check_targets(self, targets: Tensor, name: str, *, whole: bool) -> None:
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
        if self.task in BY_TOKEN:
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

    def _check_token_targets(self, targets: Tensor, name: str) -> None:
        if targets.is_floating_point() or tuple(targets.shape[1:]) != self.input_shape:
            raise ConfigError(
                "data.task",
                self.task,
                f"the targets have dtype {targets.dtype} and shape {list(targets.shape[1:])} an example",
                f"each of the {list(self.input_shape)} tokens needs a whole number; "
                "for one an example set data.task=classification",
            )
        told = targets[targets != IGNORED]
        if len(told) == 0:
            raise DataError(f"data: all targets of the {name} part are {IGNORED}: there is nothing to tell")
        low, high = int(told.min()), int(told.max())
        if low < 0 or high >= self.num_outputs:
            raise ConfigError(
                "data.num_outputs",
                self.num_outputs,
                f"the targets of the {name} part go from {low} to {high}",
                f"a token's class is 0 to num_outputs - 1, and {IGNORED} where there is nothing to tell",
            )


# ----------------------------------------------------------------------------------------- normalisation


def make_normalizer(part: Part, how: str, value_range: tuple[float, float] | None, seed: int = 0) -> Normalizer:
    """The scaling of `data.normalize`, from the training split (or from a part that is to be scaled by its own).

    Args:
        part: the split without random transformations.
        how: `none` keeps stored values; `minmax` maps to [0, 1], images by their format's range, features by
            the smallest and largest value; `standardize` gives mean 0 and standard deviation 1, where no
            variance counts as 1.
        value_range: the image format's range, or None.
        seed: chooses the sample that stands for lazy data.
    """
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    if how == "none":
        return identity
    if how == "minmax" and value_range is not None:
        low, high = value_range
        return Normalizer(torch.tensor(float(low)), torch.tensor(float(high - low)))
    inputs = (part if isinstance(part, Examples) else _sample(part, seed)).inputs
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        raise ConfigError("data.normalize", how, "is for quantities; these inputs are token ids", "leave it out")
    # All but the channel of an image, or but the feature.
    axes = [0, *range(2, inputs.dim())]
    shape = [-1, *[1] * (inputs.dim() - 2)]
    if how == "minmax":
        shift, top = inputs.amin(axes).double(), inputs.amax(axes).double()
        scale = top - shift
    else:
        count = inputs.numel() // inputs.shape[1]
        if inputs.dtype == torch.uint8:
            # Bytes are counted: exact whatever the number of threads, and ten times as fast as a sum of squares.
            counts = torch.stack([torch.bincount(each.flatten(), minlength=256) for each in inputs.unbind(1)])
            values = torch.arange(256)
            total, squares = (counts * values).sum(1).double(), (counts * values.square()).sum(1).double()
        else:
            total = squares = torch.zeros(inputs.shape[1], dtype=torch.float64)
            for chunk in inputs.split(4096):  # in chunks: the float64 copy of a large set would not fit
                total = total + chunk.sum(axes, dtype=torch.float64)
                squares = squares + chunk.double().square().sum(axes)
        shift = total / count
        scale = (squares / count - shift.square()).clamp(min=0).sqrt()
        # Rounding leaves a constant feature a trace of variance.
        scale[scale <= 1e-7 * shift.abs()] = 0
    scale[scale == 0] = 1
    return Normalizer(shift.reshape(shape).float(), scale.reshape(shape).float())


def _sample(part: Dataset[Any], seed: int) -> Examples:
    """The examples that stand for lazy data."""
    if isinstance(part, IterableDataset):
        examples = list(_StreamHead(part, STATISTICS_SAMPLE))
    else:
        count = len(part)  # type: ignore[arg-type]
        chosen = torch.randperm(count, generator=seeding.generator(seed, "statistics"))[:STATISTICS_SAMPLE]
        examples = [part[int(i)] for i in chosen.sort().values]
    inputs, targets = ([torch.as_tensor(example[i]) for example in examples] for i in (0, 1))
    return Examples(torch.stack(inputs), torch.stack(targets))
