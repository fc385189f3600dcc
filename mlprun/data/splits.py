"""From a data set to train, val and test: split, limited, checked and scaled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from mlprun import randomness
from mlprun.data.checks import ExpectedData
from mlprun.data.first_pass import FirstPass
from mlprun.data.folds import Folds, assign, find_groups, hold_out_groups, pool
from mlprun.data.normalize import STATISTICS_SAMPLE, Normalizer, make_normalizer, sample_examples
from mlprun.data.own_generators import warn_of_own_generators
from mlprun.data.parts import StreamPart, known_targets, limit_examples, named_classes, size, take
from mlprun.data.source import Examples, Inputs, Part, Source
from mlprun.data.text.inputs import kind_of
from mlprun.data.transforms import TransformedStream, Transforms, first_input, in_memory, stored_examples, untransformed
from mlprun.errors import ConfigError, DataError


@dataclass(frozen=True, kw_only=True)
class Splits(Source):
    """A data set with its final parts: what a run trains, selects and reports on.

    Attributes:
        train: with the random transformations of lazy data; `val` and `test` are without.
        inputs: their kind, with the options of the config.
        normalizer: of the inputs, by statistics of the training split.
        target_normalizer: of the targets of a regression, likewise, shape (num_outputs,); None leaves them unscaled.
        expected: what the config says about them.
        nested: examples have any structure of tensors, and are neither scaled nor checked.
        stored: the training examples before `data.transforms.eval`; None: there are none of these transforms.
        transformed: `shape` of an input before `data.transforms.eval` (None: no tensor), and `range`, as `value_range`,
            after them; None: there are none of these transforms.
        stored_test: the test part before `data.transforms.eval`.
    """

    val: Part
    test: Part
    inputs: Inputs
    normalizer: Normalizer
    target_normalizer: Normalizer | None = None
    expected: ExpectedData
    nested: bool = False
    stored: Part | None = None
    transformed: dict[str, Any] | None = None
    stored_test: Part

    def reading(self) -> dict[str, Any]:
        """Arguments of batches of any part."""
        targets, padding = self.target_normalizer, self.inputs.padding
        how = {"targets": targets, "padding": padding, "perturb": self.perturb, "nested": self.nested}
        return how | {"watch": self.expected.watch}

    def first_pass(self) -> FirstPass:
        """What watches the training batches of lazy data."""
        return FirstPass(self.expected, self.inputs, size(self.train), count_classes=self.class_counts() is None)

    def class_counts(self) -> Tensor | None:
        """The training examples of each class, or with each label; None if unknown without reading all of them."""
        return _class_counts(self.expected, self.train)

    def image_format(self) -> dict[str, Any]:
        """What `predict` must convert an image to, as plain values for a checkpoint.

        `range`: as `value_range`, or None; `border`: mean of the outermost pixels of training images in that unit,
        which distinguishes black backgrounds from white ones, or None if the images are not in memory; `resize`: as
        `Source.resize`; `transformed`: as the attribute, if it is not None.
        """
        border = None
        train = stored_examples(self.train if self.stored is None else self.stored)
        if train is not None and train.inputs.dim() == 4:
            some = train.inputs[:STATISTICS_SAMPLE]
            edges = [some[:, :, 0], some[:, :, -1], some[:, :, :, 0], some[:, :, :, -1]]
            border = float(torch.cat([edge.flatten() for edge in edges]).double().mean())
        limits = None if self.value_range is None else [float(v) for v in self.value_range]
        more = {} if self.transformed is None else {"transformed": self.transformed}
        return {"range": limits, "border": border, "resize": self.resize, **more}


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
    folds: Folds | None = None,
    groups: str | None = None,
    transforms: Transforms | None = None,
) -> Splits:
    """Check the data against the config, and split it.

    Args:
        val: a val part that replaces the source's own; if both are None, val is held out of the training part.
        val_fraction, test_fraction: shares in (0, 1) of parts that the source lacks.
        split_seed: seeds both permutations.
        normalize: `none`, `minmax` or `standardize`.
        normalize_targets: scale the targets of a regression by mean and standard deviation of the training split's.
        limit, limit_eval: number of training, and of val and test examples to use, None for all.
        folds: of train and val, whose own val part is then one with train.
        groups: name of the groups of examples that no two parts share.
        transforms: of one input at a time.

    Raises:
        DataError: NaN, an empty class, too few examples.
        ConfigError: `data.input_shape` or `data.num_outputs` does not match the data.
    """
    if task == "classification" and not source.class_names:
        source = replace(source, class_names=named_classes(source.train, max(num_outputs, 2)))
    val = source.val if val is None else val
    transforms = transforms or Transforms()
    before = None if transforms.eval is None else first_input(source.train)
    source, val = transforms.apply(source, val)
    expected, first = _check(source, val, task, input_shape, num_outputs, normalize)
    if folds is not None:
        source, val = pool(source, val, folds), None
    group_of = None if groups is None else find_groups(source, groups)
    if isinstance(source.train, IterableDataset):
        shares = (val_fraction if val is None else 0.0, test_fraction if source.test is None else 0.0)
        plain_train, held_out_val, held_out_test = _split_stream(source.train, shares, split_seed)
        val, test = held_out_val if val is None else val, held_out_test if source.test is None else source.test
        train = plain_train = limit_examples(plain_train, limit, split_seed)
        if isinstance(source.augmented, IterableDataset):
            train = limit_examples(_split_stream(source.augmented, shares, split_seed)[0], limit, split_seed)
    else:
        fractions = val_fraction, test_fraction
        indices, val, test = _split_examples(source, val, task, fractions, split_seed, folds, group_of)
        indices = indices[:limit].sort().values
        plain_train = take(source.train, indices)
        train = take(source.augmented, indices) if source.augmented is not None else in_memory(plain_train)
    if (counts := _class_counts(expected, train)) is not None:
        left_out = "" if limit is None else f"data.limit={limit} leaves them out, or "
        why = f"{left_out}val and test have all of theirs (data.split_seed={split_seed})"
        expected.warn_of_missing_classes(counts, f"{why}; no model can learn them")
    stored = None if transforms.eval is None else plain_train
    plain_train = plain_train if source.augmented is not None else train
    val, lazy_test = (limit_examples(part, limit_eval, split_seed) for part in (val, test))
    val, test = in_memory(val), in_memory(lazy_test)
    transforms.check_alike(train, val)
    if normalize_targets and not isinstance(plain_train, Examples):
        # one sample of lazy data serves both its inputs and its targets
        plain_train = sample_examples(plain_train, split_seed)
    parts = {"train": train, "val": val, "test": test, "augmented": None}
    kind = source.inputs or kind_of(first)
    kind.check_split(plain_train, {"val": val, "test": test})
    value_range, transformed = source.value_range, None
    if transforms.eval is not None and first is not None:
        value_range = value_range if isinstance(before, Tensor) and before.dtype == first.dtype else None
        shape = list(before.shape) if isinstance(before, Tensor) else None
        transformed = {"shape": shape, "range": None if value_range is None else [float(v) for v in value_range]}
    return Splits(
        **vars(source) | parts | {"inputs": kind},
        normalizer=make_normalizer(plain_train, normalize, value_range, split_seed, kind),
        target_normalizer=_target_normalizer(plain_train) if normalize_targets else None,
        expected=expected,
        nested=input_shape is None,
        stored=stored,
        stored_test=untransformed(lazy_test),
        transformed=transformed,
    )


def _check(
    source: Source, val: Part | None, task: str, input_shape: list[int] | None, num_outputs: int, normalize: str
) -> tuple[ExpectedData, Tensor | None]:
    """What the config says about the data, compared with all parts; and what `ExpectedData.check` gives of train."""
    nested = input_shape is None
    if nested and isinstance(source.train, Examples):
        raise ConfigError("data.input_shape", None, "these data are pairs of input and target", "give the shape")
    if nested and normalize != "none":
        problem = "has no effect on examples of any structure (data.input_shape=null)"
        remedy = "scale them in the data set, and set data.normalize=none"
        raise ConfigError("data.normalize", normalize, problem, remedy)
    shape = None if input_shape is None else tuple(input_shape)
    may_miss = source.inputs is not None and source.inputs.may_miss
    expected = ExpectedData(task, shape, num_outputs, source.class_names, may_miss)
    first = expected.check(source.train, "training")
    for part, name in ((source.test, "test"), (val, "val")):
        if part is not None:
            expected.check(part, name)
    for part in {id(part): part for part in (source.augmented or source.train, val, source.test)}.values():
        warn_of_own_generators(part)
    return expected, first


def _class_counts(expected: ExpectedData, part: Part) -> Tensor | None:
    """The examples of each class in a training part, if they are known without reading all of it."""
    targets = known_targets(part)
    return None if targets is None else expected.class_counts(targets)


def _split_examples(
    source: Source,
    val: Part | None,
    task: str,
    fractions: tuple[float, float],
    seed: int,
    folds: Folds | None,
    groups: Tensor | None,
) -> tuple[Tensor, Part, Part]:
    """The indices of the examples to train on, in a random order, and the val and test parts."""
    count, test = len(source.train), source.test  # type: ignore[arg-type]  # no stream, so it has a length
    val_fraction, test_fraction = fractions
    indices, classes = torch.arange(count), None
    if task == "classification" and (test is None or folds is not None):
        targets = known_targets(source.train)
        classes = None if targets is None or targets.numel() != count else targets.flatten()
    if test is None:
        if groups is None:
            indices, test_indices = hold_out(count, classes, test_fraction, seed)
        else:
            indices, test_indices = hold_out_groups(groups, test_fraction, seed, "test")
        test = take(source.train, test_indices)
    classes, groups = (None if each is None else each[indices] for each in (classes, groups))
    chosen = None
    if folds is not None:
        chosen = assign(len(indices), folds, seed, classes, groups, source.class_names) == folds.held_out
    elif val is None and groups is not None:
        chosen = torch.zeros(len(indices), dtype=torch.bool)
        chosen[hold_out_groups(groups, val_fraction, seed, "val")[1]] = True
    if chosen is not None:
        val, indices = take(source.train, indices[chosen]), indices[~chosen]
    # Permuted also with a val part of its own: `limit` must not take one class of files sorted by class.
    indices = indices[torch.randperm(len(indices), generator=randomness.generator(seed, "val"))]
    if val is None:
        num_val = max(1, round(val_fraction * len(indices)))
        # The order of the data set is kept: the shuffling of an epoch is not the split's business.
        val, indices = take(source.train, indices[:num_val].sort().values), indices[num_val:]
    if len(indices) == 0:
        raise DataError(
            f"data: {size(source.train)} examples leave none to train on after val and test are held out"
            "\n  use more data, or smaller data.val_fraction and data.test_fraction"
        )
    return indices, val, test


def _target_normalizer(part: Part) -> Normalizer:
    assert isinstance(part, Examples)
    values = part.targets.reshape(len(part.targets), -1)
    return make_normalizer(Examples(values, values), "standardize", None)


def hold_out(count: int, classes: Tensor | None, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split the indices of `count` examples at random: int64, ascending, of the rest and of a test part, at least one.

    The test part is `fraction` of all or, given `classes` (count,), of each class.
    """
    order = torch.randperm(count, generator=randomness.generator(seed, "test"))
    groups = [order] if classes is None else [order[classes[order] == label] for label in classes.unique()]
    chosen = torch.cat([group[: round(fraction * len(group))] for group in groups])
    if len(chosen) == 0:
        chosen = order[:1]
    is_left = torch.ones(count, dtype=torch.bool)
    is_left[chosen] = False
    return is_left.nonzero().flatten(), chosen.sort().values


def _split_stream(stream: Any, shares: tuple[float, float], seed: int) -> list[Part]:
    """A stream cannot be permuted: each position belongs to train, val or test, the same in every pass."""
    if isinstance(stream, TransformedStream):  # only the examples of a part are transformed
        return [TransformedStream(part, stream.chain) for part in _split_stream(stream.dataset, shares, seed)]
    if shares == (0.0, 0.0):
        return [stream, stream, stream]
    return [StreamPart(stream, shares, name, seed) for name in ("train", "val", "test")]
