"""Pictures of image models: filters, feature maps, and the most confident mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlprun.data.parts import size
from mlprun.data.splits import Splits
from mlprun.pictures.base import (
    MAX_EXAMPLES,
    class_name,
    first_examples,
    input_shape,
    model_outputs,
    raise_unfit,
    texts_figure,
    to_displayable,
    token_ids,
)
from mlprun.pictures.figures import evenly_spaced, images_figure, put_image, sheet
from mlprun.pictures.labels import figure_text
from mlprun.tasks.classification import Classification
from mlprun.training.learner import Learner

MAX_FILTERS = 64
MAX_MAPS, MAX_LAYERS = 8, 5


def filters(learner: Learner, splits: Splits) -> Figure:
    """The weights of the first layer as images, at most `MAX_FILTERS`.

    Red is positive, blue negative, on one scale; filters of a convolution over three channels are shown in colour.
    """
    shape = input_shape(splits)
    layer = next((m for m in learner.model.modules() if isinstance(m, nn.Linear | nn.Conv2d)), None)
    if layer is None or len(shape) != 3:
        problem = "shows the first linear or convolutional layer over images"
        raise_unfit("filters", problem, "images, such as data=digits")
    weight = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        if weight.shape[1] != np.prod(shape):
            raise_unfit("filters", "shows a first linear layer that sees the whole image", "model=mlp or model=cnn")
        weight = weight.reshape(-1, *shape)
    shown = weight[:MAX_FILTERS]
    limit = float(shown.abs().max()) or 1.0
    if shown.shape[1] == 3:
        tiles: Sequence[Any] = [(0.5 + 0.5 * one / limit).permute(1, 2, 0).numpy() for one in shown]
    else:
        tiles = [one.mean(0).numpy() for one in shown]
    name = next(name for name, module in learner.model.named_modules() if module is layer)
    title = f"weights of {name}" + (f", {len(shown)} of {len(weight)}" if len(shown) < len(weight) else "")
    task = learner.task
    is_output = isinstance(task, Classification) and len(weight) == task.num_outputs and isinstance(layer, nn.Linear)
    return images_figure(
        title + f"; red {limit:.2g}, blue -{limit:.2g}" * (shown.shape[1] != 3),
        tiles,
        [class_name(splits, i) for i in range(len(shown))] if is_output else (),
        cmap="RdBu_r", vmin=-limit, vmax=limit,
    )  # fmt: skip


def feature_maps(learner: Learner, splits: Splits) -> Figure:
    """Outputs of the convolutions for the first validation image: a row per layer, a tile per channel."""
    layers = {name: m for name, m in learner.model.named_modules() if isinstance(m, nn.Conv2d)}
    if not layers or len(input_shape(splits)) != 3:
        raise_unfit("feature_maps", "shows what convolutions give", "model=cnn")
    image = first_examples(splits.val, 1)
    maps: dict[str, Tensor] = {}

    def keep(name: str, _: nn.Module, __: object, output: Tensor) -> None:
        maps.setdefault(name, output.detach().float().cpu())

    hooks = [layer.register_forward_hook(partial(keep, name)) for name, layer in layers.items()]
    try:
        model_outputs(learner, splits, image.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    names = [list(maps)[i] for i in evenly_spaced(len(maps), MAX_LAYERS)]
    figure, axes = sheet("channels of the convolutions", MAX_MAPS + 1, 1.2 * len(names), side=1.0)
    caption = class_name(splits, int(image.targets.flatten()[0]))
    put_image(axes, to_displayable(image.inputs[0]), 0.2, 0, caption, cmap="gray")
    for row, name in enumerate(names):
        count = maps[name].shape[1]
        shown = f"{name}, {MAX_MAPS} of {count}" if count > MAX_MAPS else name
        axes.text(1.04, 1.2 * row + 0.21, figure_text(shown), fontsize=8, ha="left", va="bottom")
        for column, one in enumerate(maps[name][0, :MAX_MAPS], start=1):
            put_image(axes, one.numpy(), 1.2 * row + 0.2, column, cmap="viridis")
    return figure


def misclassified(learner: Learner, splits: Splits) -> Figure:
    """Misclassified images or texts of the validation split, the most confident first."""
    tokens = token_ids(splits)
    task = learner.task
    if task.values_per_token:
        problem = "shows examples with their classes, and here each token of an example has one"
        raise_unfit("misclassified", problem, "data.task=classification, such as data=imdb")
    if not isinstance(task, Classification) or (len(input_shape(splits)) != 3 and tokens is None):
        data = "such data, as data=digits or data=imdb"
        raise_unfit("misclassified", "shows images or texts with their classes", data)
    val = first_examples(splits.val, MAX_EXAMPLES)
    outputs = model_outputs(learner, splits, val.inputs)
    guess = task.predicted_classes(outputs)
    certainty = outputs.amax(1) if outputs.shape[1] > 1 else (outputs - task.threshold).abs().flatten()
    if outputs.shape[1] > 1:
        certainty = certainty - outputs.gather(1, val.targets[:, None]).flatten()  # margin over the true class
    wrong = (guess != val.targets).nonzero().flatten()
    wrong = wrong[certainty[wrong].argsort(descending=True)]
    chances = task.probabilities(outputs) if tokens else None
    if chances is not None:  # as in the captions; ties stay in the order of the margins
        wrong = wrong[chances[wrong, guess[wrong]].argsort(descending=True, stable=True)]
    worst = wrong[:25]
    captions = [f"{class_name(splits, int(guess[i]))}, is {class_name(splits, int(val.targets[i]))}" for i in worst]
    what = "texts" if tokens else "images"
    some = f"{len(val.targets)} val {what}" if size(splits.val) == len(val.targets) else f"{len(val.targets)} of val"
    title = f"{len(wrong)} of {some} wrong"
    if tokens:
        if chances is not None:
            captions = [f"{100 * chances[i, guess[i]]:.1f} % {c}" for i, c in zip(worst, captions, strict=True)]
        texts = [tokens.decode(val.inputs[i]) for i in worst]
        return texts_figure(title, len(wrong), captions, texts)
    title += f", the {len(worst)} surest" * (len(worst) < len(wrong))
    return images_figure(title, [to_displayable(val.inputs[i]) for i in worst], captions, cmap="gray")
