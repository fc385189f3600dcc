"""From a data set to train, val and test: carved, limited, checked and scaled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.checks import ExpectedData
from mlprun.data.normalize import STATISTICS_SAMPLE, Normalizer, make_normalizer, sample_examples
from mlprun.data.parts import Part, StreamPart, limit_examples, size, take
from mlprun.data.source import Examples, Perturb, Source
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError, DataError


@dataclass(frozen=True)
class Splits:
    """What a run trains, selects and reports on.

    Attributes:
        train: with random transformations where they belong to lazy data.
        val, test: without.
        normalizer: of the inputs, by statistics of the training split.
        target_normalizer: of the targets of a regression, likewise, shape (num_outputs,); None: they stay as they are.
        class_names: one a class, or empty.
        fingerprints: file -> `sha256:…`.
        value_range: smallest and largest value that the image format allows, or None.
        padding, perturb, tokenizer: as the `Source` has them.
        nested: examples have any structure of tensors, and are neither scaled nor checked.
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
    padding: int | None = None
    perturb: Perturb | None = None
    tokenizer: Tokenizer | None = None
    nested: bool = False


def make_splits(
    source: Source,
    *,
    val: Part | None,
    task: str,
    input_shape: list[int] | None,
    num_outputs: int,
    val_fraction: float,
    test_fraction: float,
    split_seed: int,
    normalize: str,
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
        normalize_targets: scale the targets of a regression by mean and standard deviation of the training split's.
        limit: training examples used, None for all.
        limit_eval: val and test examples used, None for all.

    Raises:
        DataError: NaN, an empty class, too few examples.
        ConfigError: `data.input_shape` or `data.num_outputs` is not what the data holds.
    """
    nested = input_shape is None
    if nested and isinstance(source.train, Examples):
        raise ConfigError("data.input_shape", None, "these data are pairs of input and target", "give the shape")
    if nested and normalize != "none":
        raise ConfigError(
            "data.normalize", normalize, "does not reach examples of any structure (data.input_shape=null)",
            "scale them in the data set, and set data.normalize=none",
        )  # fmt: skip
    expected = ExpectedData(task, None if input_shape is None else tuple(input_shape), num_outputs, source.class_names)
    val = source.val if val is None else val
    for part, name in ((source.train, "training"), (source.test, "test"), (val, "val")):
        if part is not None:
            expected.check(part, name)
    if isinstance(source.train, IterableDataset):
        assert not isinstance(val, Examples)
        train, val_part, test = _split_stream(source, val, val_fraction, test_fraction, split_seed)
        plain_train = train = limit_examples(train, limit, split_seed)
    else:
        rest, val_part, test = _split_examples(source, val, task, val_fraction, test_fraction, split_seed)
        rest = rest[:limit].sort().values
        plain_train = take(source.train, rest)
        train = plain_train if source.augmented is None else take(source.augmented, rest)
    test = limit_examples(test, limit_eval, split_seed)
    if normalize_targets and not isinstance(plain_train, Examples):
        # one sample of lazy data stands for both its inputs and its targets
        plain_train = sample_examples(plain_train, split_seed)
    return Splits(
        train=train,
        val=limit_examples(val_part, limit_eval, split_seed),
        test=test,
        normalizer=make_normalizer(plain_train, normalize, source.value_range, split_seed),
        class_names=source.class_names,
        fingerprints=source.fingerprints,
        value_range=source.value_range,
        target_normalizer=_target_normalizer(plain_train) if normalize_targets else None,
        padding=source.padding,
        perturb=source.perturb,
        tokenizer=source.tokenizer,
        nested=nested,
    )


def _split_examples(
    source: Source, val: Part | None, task: str, val_fraction: float, test_fraction: float, seed: int
) -> tuple[Tensor, Part, Part]:
    """The indices of the examples to train on, in a random order, and the val and test parts."""
    rest, test = _carve_test(source, task, test_fraction, seed)
    # Permuted also where val is not carved: `limit` must not take one class of files sorted by class.
    rest = rest[torch.randperm(len(rest), generator=randomness.generator(seed, "val"))]
    if val is None:
        num_val = max(1, round(val_fraction * len(rest)))
        # The order of the data set is kept: the shuffling of an epoch is not the split's business.
        val_part, rest = take(source.train, rest[:num_val].sort().values), rest[num_val:]
    else:
        val_part = val
    if len(rest) == 0:
        raise DataError(
            f"data: {size(source.train)} examples leave none to train on after val and test are carved"
            "\n  use more data, or smaller data.val_fraction and data.test_fraction"
        )
    return rest, val_part, test


def _target_normalizer(part: Part) -> Normalizer:
    assert isinstance(part, Examples)
    values = part.targets.reshape(len(part.targets), -1)
    return make_normalizer(Examples(values, values), "standardize", None)


def _carve_test(source: Source, task: str, fraction: float, seed: int) -> tuple[Tensor, Part]:
    """The indices left of the training part, and the test part: its own, or a stratified share."""
    count = len(source.train)  # type: ignore[arg-type]
    if source.test is not None:
        return torch.arange(count), source.test
    targets = getattr(source.train, "targets", None) if task == "classification" else None
    left, chosen = carve(count, None if targets is None else torch.as_tensor(targets).flatten(), fraction, seed)
    return left, take(source.train, chosen)


def carve(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """The indices of the examples that stay, and of those of a test part, at least one: both int64, ascending.

    Args:
        count: of all.
        classes: (count,), of each of which the test part has its share; None: a share of all.
        fraction: that share.
        seed: `data.split_seed`.
    """
    order = torch.randperm(count, generator=randomness.generator(seed, "test"))
    groups = [order] if classes is None else [order[classes[order] == label] for label in classes.unique()]
    chosen = torch.cat([group[: round(fraction * len(group))] for group in groups])
    if len(chosen) == 0:
        chosen = order[:1]
    left = torch.ones(count, dtype=torch.bool)
    left[chosen] = False
    return left.nonzero().flatten(), chosen.sort().values


def _split_stream(
    source: Source, val: Dataset[Any] | None, val_fraction: float, test_fraction: float, seed: int
) -> tuple[Part, Part, Part]:
    """A stream cannot be permuted: each position belongs to one split, the same in every pass."""
    stream = source.train
    assert isinstance(stream, IterableDataset)
    shares = (0.0 if val is not None else val_fraction, 0.0 if source.test is not None else test_fraction)
    train = stream if shares == (0.0, 0.0) else StreamPart(stream, shares, "train", seed)
    return (
        train,
        val if val is not None else StreamPart(stream, shares, "val", seed),
        source.test if source.test is not None else StreamPart(stream, shares, "test", seed),
    )
