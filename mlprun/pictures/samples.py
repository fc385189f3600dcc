"""Pictures of the training examples, as `mlprun inspect` shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlprun import randomness
from mlprun.data.nested import AnyBatch, Batch, NestedBatch
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.formatting import pluralize, truncate
from mlprun.pictures.figures import images_figure, new_figure, palette
from mlprun.pictures.labels import figure_text
from mlprun.tasks.base import Task

NUM_SHOWN = 16  # examples
NUM_POINTS = 2000  # in a scatter plot


def unscaled(splits: Splits, inputs: Tensor) -> Tensor:
    return splits.normalizer.inverse(inputs) if inputs.is_floating_point() else inputs


def samples_figure(name: str, seed: int, splits: Splits, first: AnyBatch, task: Task) -> Any:
    """A picture of some training examples as stored; None for data without one."""
    if isinstance(first, NestedBatch):
        return None
    inputs, targets = unscaled(splits, first.inputs[:NUM_SHOWN]), first.targets[:NUM_SHOWN]
    if splits.target_normalizer is not None:
        targets = splits.target_normalizer.inverse(targets)
    names = task.class_names(splits.class_names)  # empty if they are no classes
    if inputs.dim() == 2 and (inputs.shape[1] == 2 or (inputs.shape[1] == 1 and not names)):
        train, few = splits.train, Batch(inputs, targets)
        if isinstance(train, Examples):
            order = torch.randperm(len(train), generator=randomness.generator(0, "inspect"))[:NUM_POINTS]
            few = Batch(train.inputs[order], train.targets[order])
        if few.targets.dim() == 1 or few.targets.shape[1] == 1:
            title = f"{name}: {pluralize(len(few.targets), 'training example')}"
            return _scatter(few.inputs.numpy(), few.targets.flatten().numpy(), names, title)
        return None
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        return None
    if inputs.dim() == 4 and inputs.shape[1] in (1, 3):
        images = inputs[:, 0] if inputs.shape[1] == 1 else inputs.permute(0, 2, 3, 1)
    elif inputs.dim() == 3:
        images = inputs
    else:
        return None
    captions = [_caption(target, names) for target in targets] if names else []
    captions = captions or [", ".join(f"{value:.3g}" for value in row) for row in targets.flatten(1).tolist()]
    low, high = float(images.min()), float(images.max())
    if isinstance(splits.train, Examples) and splits.train.inputs.dtype == torch.uint8 and high > 127:
        low, high = 0.0, 255.0
    title = f"{name}: the first training examples (seed={seed}), as stored: {low:.3g} to {high:.3g}"
    pixels = ((images - low) / ((high - low) or 1.0)).clamp(0, 1).numpy()
    return images_figure(title, list(pixels), [truncate(text, 22) for text in captions], cmap="gray", vmin=0, vmax=1)


def _caption(target: Tensor, names: Sequence[str]) -> str:
    """The class, or the shares of the classes of which an example is mixed."""
    if not target.is_floating_point():
        return names[int(target)]
    if len(target) == 1:  # of class 1
        target = torch.cat([1 - target, target])
    return ", ".join(f"{names[i]} {float(target[i]):.2g}" for i in target.nonzero().flatten().tolist())


def _scatter(points: Any, targets: Any, names: Sequence[str], title: str) -> Any:
    """Two features coloured by class or value, or a value against one feature; `names` are those of classes."""
    figure, axes = new_figure(title)
    axes.grid(alpha=0.3)
    axes.set(xlabel="feature 0, as stored", ylabel="target" if points.shape[1] == 1 else "feature 1, as stored")
    if points.shape[1] == 1:
        axes.scatter(points[:, 0], targets, s=12, alpha=0.7)
    elif not names:
        figure.colorbar(axes.scatter(*points.T, c=targets, s=12, cmap="viridis"), label="target")
    for label, (name, colour) in enumerate(zip(names, palette(len(names)), strict=True)):
        axes.scatter(*points[targets == label].T, s=12, alpha=0.7, label=figure_text(name), color=colour)
    if 0 < len(names) <= 20:
        axes.legend(title="class", fontsize=8)
    return figure
