"""Cross-validation: which fold an example is in; and splits that keep groups of examples together."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.parts import size
from mlprun.data.source import Examples, Part, Source
from mlprun.data.transforms import Transformed
from mlprun.errors import ConfigError, suggestion
from mlprun.formatting import pluralize


@dataclass(frozen=True)
class Folds:
    """Train and val are divided into `count` folds, of which number `held_out` is val."""

    count: int
    held_out: int

    def refuse(self, problem: str, remedy: str) -> ConfigError:
        return ConfigError("data.num_folds", self.count, problem, remedy)


def pool(source: Source, val: Part | None, folds: Folds) -> Source:
    """The source with one training part: its own, and the val part if it has one.

    Raises:
        ConfigError: these data cannot be divided into folds.
    """
    if isinstance(source.train, IterableDataset) or isinstance(val, IterableDataset):
        raise folds.refuse("a stream has no folds", "hold out a share of it: data.val_fraction=0.1")
    if source.inputs is not None and (why := source.inputs.why_not_folds):
        raise folds.refuse(why, "repeat the split with other seeds: data.split_seed=0,1,2,3,4")
    if val is None:
        return source
    if source.augmented is not None:
        problem = "the data set has a val split of its own, which its augmentation leaves out"
        remedy = "leave data.augment and data.transforms.train out, or move the val examples to the training ones"
        raise folds.refuse(problem, remedy)
    if isinstance(source.train, Examples) and isinstance(val, Examples):
        inputs = torch.cat([source.train.inputs, val.inputs])
        return replace(source, val=None, train=Examples(inputs, torch.cat([source.train.targets, val.targets])))
    if isinstance(source.train, Examples) or isinstance(val, Examples):
        problem = "one of the train and val parts is in memory, and the other is not"
        raise folds.refuse(problem, "leave data.val_dataset out")
    return replace(source, val=None, train=ConcatDataset([source.train, val]))


def find_groups(source: Source, name: str) -> Tensor:
    """The group of each training example, int64 from 0 (N,): of `Source.groups`, or an attribute of the data set.

    Raises:
        ConfigError: there is no such attribute, or it does not hold a value for each example.
    """
    if isinstance(source.train, IterableDataset):
        raise ConfigError("data.groups", name, "a stream cannot be divided by groups", "leave it out")
    values = source.groups.get(name)
    if values is None:
        values = _attribute(source.train, name)
    if values is None:
        remedy = suggestion(name, list(source.groups)) if source.groups else ""
        problem = "the data set has no such attribute, with the group of each example"
        raise ConfigError("data.groups", name, problem, remedy or f"set self.{name} = [...] in its __init__")
    array = np.asarray(values)
    if array.ndim != 1 or len(array) != size(source.train):
        shape, count = f"a value of shape {list(array.shape)}", size(source.train)
        raise ConfigError("data.groups", name, f"is {shape}, not one group for each of {count} examples")
    if array.dtype.kind == "f" and np.isnan(array).any():
        raise ConfigError("data.groups", name, f"{int(np.isnan(array).sum())} examples have no group (NaN)")
    return torch.from_numpy(np.unique(array, return_inverse=True)[1].astype(np.int64))


def _attribute(part: Part, name: str) -> Sequence[Any] | None:
    if isinstance(part, ConcatDataset):
        parts = [values for each in part.datasets if (values := _attribute(each, name)) is not None]
        return [value for values in parts for value in values] if len(parts) == len(part.datasets) else None
    part = part.dataset if isinstance(part, Transformed) else part
    value = getattr(part, name, None) if isinstance(part, Dataset) else None
    return None if callable(value) or isinstance(value, str | Mapping) else value


def assign(
    count: int, folds: Folds, seed: int, classes: Tensor | None, groups: Tensor | None, names: Sequence[str]
) -> Tensor:
    """The fold of each of `count` examples, (count,); the sizes of the folds differ by one at most.

    Args:
        classes: (count,); so do the numbers of each class in the folds.
        groups: (count,); a group is in one fold, classes are not looked at, and sizes are as equal as groups allow.
        names: of the classes, for messages.

    Raises:
        ConfigError: there are fewer examples, examples of a class, or groups than folds.
    """
    generator = randomness.generator(seed, "folds")
    if groups is not None:
        return _assign_groups(groups, folds, generator)
    if count < folds.count:
        raise folds.refuse(f"there are {pluralize(count, 'example')}", f"choose at most {count}")
    order = torch.randperm(count, generator=generator)
    if classes is not None:
        counts = classes.bincount()
        rare = int(torch.where(counts > 0, counts, count).argmin())
        if (fewest := int(counts[rare])) < folds.count:
            name = names[rare] if rare < len(names) else rare
            remedy = f"choose at most {fewest}" if fewest > 1 else "add examples of it, or leave the class out"
            raise folds.refuse(f"class {name} has {pluralize(fewest, 'example')} to divide", remedy)
        order = order[classes[order].argsort(stable=True)]
    of = torch.empty(count, dtype=torch.int64)
    of[order] = torch.arange(count) % folds.count
    return of


def _assign_groups(groups: Tensor, folds: Folds, generator: torch.Generator) -> Tensor:
    """The largest groups first, each to the smallest fold so far (scikit-learn's GroupKFold); ties at random."""
    sizes = groups.bincount()
    present = sizes.nonzero().flatten()
    if len(present) < folds.count:
        raise folds.refuse(
            f"data.groups has {pluralize(len(present), 'group')} to divide", f"choose at most {len(present)}"
        )
    shuffled = present[torch.randperm(len(present), generator=generator)]
    largest_first = shuffled[sizes[shuffled].argsort(descending=True, stable=True)]
    fold_sizes = [(0, fold) for fold in range(folds.count)]
    of_group = torch.empty(len(sizes), dtype=torch.int64)
    for group in largest_first.tolist():
        total, fold = heapq.heappop(fold_sizes)
        of_group[group] = fold
        heapq.heappush(fold_sizes, (total + int(sizes[group]), fold))
    return of_group[groups]


def hold_out_groups(groups: Tensor, fraction: float, seed: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Split the positions of `groups` (N,) into the rest and whole groups drawn at random, about `fraction` of all.

    Raises:
        ConfigError: there is one group only.
    """
    sizes = groups.bincount()
    present = sizes.nonzero().flatten()
    if len(present) < 2:
        raise ConfigError(
            "data.groups", ConfigError.MISSING, f"one group is left to hold {purpose} out of", "add groups"
        )
    order = present[torch.randperm(len(present), generator=randomness.generator(seed, purpose, "groups"))]
    before = sizes[order].cumsum(0) - sizes[order] / 2  # a group is in if more than half of it is wanted
    count = min(max(1, int((before <= fraction * len(groups)).sum())), len(present) - 1)
    is_chosen = torch.isin(groups, order[:count])
    return (~is_chosen).nonzero().flatten(), is_chosen.nonzero().flatten()
