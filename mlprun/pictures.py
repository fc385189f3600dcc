"""Pictures of what a model has learnt, for `logging.pictures`.

A picture is a function of a learner and the splits that returns a matplotlib `Figure`, or pixels: uint8 (H, W, 3).
It is called at the start of a run and after each evaluation, and must leave both as they are; a function of the
user's own, `my_module.my_picture`, is called in the same way. Those here look at the validation split, never at the
test split. One that has nothing to show for this model or data raises ConfigError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from mlprun.data.batches import EvalBatches
from mlprun.data.source import Examples
from mlprun.data.splits import Normalizer, Part, Splits, size
from mlprun.errors import ConfigError
from mlprun.training.learner import Learner
from mlprun.training.metrics import predicted_classes

Pixels = np.ndarray[Any, Any]

DOTS_PER_INCH = 100
MAX_POINTS = 2000  # more would hide each other
MAX_EXAMPLES = 4096  # of the validation split, for what is counted or sorted
MAX_FILTERS = 64
MAX_MAPS, MAX_LAYERS = 8, 5
MAX_OUTPUTS = 8


def pixels(picture: Figure | Pixels, footer: str = "") -> Pixels:
    """What a picture function returned as uint8 (H, W, 3); a figure with `footer` in its lower right corner.

    Raises:
        ConfigError: it is no picture.
    """
    if isinstance(picture, Figure):
        picture.text(0.995, 0.003, footer, fontsize=7, color="0.5", ha="right", va="bottom")
        canvas: Any = FigureCanvasAgg(picture)
        picture.set_dpi(DOTS_PER_INCH)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise ConfigError(
        "logging.pictures", ConfigError.MISSING, f"a picture function returned {found}",
        "return a matplotlib Figure, or uint8 pixels of shape (H, W, 3)",
    )  # fmt: skip


# -------------------------------------------------------------------------------------------------- in the plane


def fit(learner: Learner, splits: Splits) -> Figure:
    """What a regression on one feature has learnt: the points of train and val, and the fitted curve."""
    if learner.task != "regression" or learner.num_outputs != 1 or _shape(splits) != (1,):
        _unfit("fit", "shows one value as a function of one feature", "data=line or data=parabola")
    figure, axes = _figure("fitted curve")
    train, val = _some(splits.train, MAX_POINTS), _some(splits.val, MAX_POINTS)
    axes.plot(train.inputs.flatten(), train.targets.flatten(), ".", color="0.7", label="train")
    axes.plot(val.inputs.flatten(), val.targets.flatten(), ".", color="tab:blue", label="val")
    low, high = float(train.inputs.min()), float(train.inputs.max())
    x = torch.linspace(low, high, 256)[:, None]
    # the curve may leave the points far behind, in the first steps or when it diverges
    targets = train.targets
    margin = max(0.25 * float(targets.max() - targets.min()), 1e-6)
    axes.set_ylim(float(targets.min()) - margin, float(targets.max()) + margin)
    axes.plot(x.flatten(), _outputs(learner, splits, x).flatten(), color="tab:red", linewidth=2, label="model")
    axes.set_xlabel("feature")
    axes.set_ylabel("target")
    axes.legend(loc="best", framealpha=0.9)
    return figure


def boundary(learner: Learner, splits: Splits) -> Figure:
    """The class that the model chooses in each place of the plane, for two features; wrong points are ringed."""
    if learner.task != "classification" or _shape(splits) != (2,):
        _unfit("boundary", "shows classes as a function of two features", "data=moons, xor, spirals, blobs or circles")
    figure, axes = _figure("decision boundary", width=5.4)
    train, val = _some(splits.train, MAX_POINTS), _some(splits.val, MAX_POINTS)
    both = torch.cat([train.inputs, val.inputs])
    low, high = both.amin(0), both.amax(0)
    border = 0.1 * (high - low).clamp(min=1e-6)
    xs, ys = (torch.linspace(float(a), float(b), 200) for a, b in zip(low - border, high + border, strict=True))
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (ys, xs, 2)
    outputs = _outputs(learner, splits, grid.reshape(-1, 2))
    chosen = predicted_classes(outputs, learner.loss.threshold)
    num_classes = max(learner.num_outputs, 2)
    colours = _colours(num_classes)
    shaded = 1 - 0.35 * (1 - colours[chosen.numpy()])  # pale, so that the points stand out
    extent = (float(xs[0]), float(xs[-1]), float(ys[0]), float(ys[-1]))
    axes.imshow(
        shaded.reshape(len(ys), len(xs), 3), extent=extent, origin="lower", aspect="auto", interpolation="nearest"
    )
    for one in range(num_classes):  # by class: of their numbers, a contour between 0 and 2 would be two
        inside = (chosen == one).reshape(len(ys), len(xs)).float()
        if 0 < float(inside.mean()) < 1:
            axes.contour(xs, ys, inside, levels=[0.5], colors="black", linewidths=0.6)
    for part, area, edge in ((train, 7, "none"), (val, 30, "white")):
        where = part.inputs.numpy()
        axes.scatter(where[:, 0], where[:, 1], s=area, c=colours[part.targets.numpy()], edgecolors=edge, linewidths=0.6)
    guess = predicted_classes(_outputs(learner, splits, val.inputs), learner.loss.threshold)
    wrong = val.inputs[guess != val.targets].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=70, facecolors="none", edgecolors="black", linewidths=1.2)
    axes.set_xlabel("feature 0")
    axes.set_ylabel("feature 1")
    if num_classes <= 10:
        for one in range(num_classes):
            axes.scatter([], [], s=22, c=[colours[one]], label=_class_name(splits, one))
        axes.legend(title="class", fontsize=8, loc="upper right", framealpha=0.9)
    axes.set_title(f"large points: val, {len(wrong)} of {len(val.targets)} wrong (ringed)", fontsize=10)
    return figure


def predictions(learner: Learner, splits: Splits) -> Figure:
    """Predicted against true values of a regression on the validation split; a perfect model is on the diagonal."""
    if learner.task != "regression":
        _unfit("predictions", "compares predicted with true values", "a regression, such as data=diabetes")
    val = _some(splits.val, MAX_POINTS)
    outputs = _outputs(learner, splits, val.inputs)
    targets = val.targets.reshape(len(outputs), -1)
    figure, axes = _figure(f"predictions on val, {len(targets)} examples", width=5.0)
    for column in range(min(targets.shape[1], MAX_OUTPUTS)):
        label = f"output {column}" if targets.shape[1] > 1 else None
        axes.plot(targets[:, column], outputs[:, column], ".", label=label)
    ends = [float(targets.min()), float(targets.max())]
    axes.plot(ends, ends, color="0.4", linewidth=1)
    if targets.shape[1] > 1:
        axes.legend(loc="best", fontsize=8)
    axes.set_xlabel("true value")
    axes.set_ylabel("predicted value")
    return figure


# --------------------------------------------------------------------------------------------------- of a model


def filters(learner: Learner, splits: Splits) -> Figure:
    """The weights of the first layer as pictures: what each unit or channel looks for.

    Red is positive, blue negative, on one scale; filters of a convolution over three channels are shown in their
    colours. At most `MAX_FILTERS`, the first.
    """
    shape = _shape(splits)
    layer = next((m for m in learner.model.modules() if isinstance(m, nn.Linear | nn.Conv2d)), None)
    if layer is None or len(shape) != 3:
        _unfit("filters", "shows the first linear or convolutional layer over images", "images, such as data=digits")
    weight = layer.weight.detach().float().cpu()
    if isinstance(layer, nn.Linear):
        if weight.shape[1] != np.prod(shape):
            _unfit("filters", "shows a first linear layer that sees the whole image", "model=mlp or model=cnn")
        weight = weight.reshape(-1, *shape)
    shown = weight[:MAX_FILTERS]
    limit = float(shown.abs().max()) or 1.0
    if shown.shape[1] == 3:
        tiles: Sequence[Any] = [(0.5 + 0.5 * one / limit).permute(1, 2, 0).numpy() for one in shown]
    else:
        tiles = [one.mean(0).numpy() for one in shown]
    name = next(name for name, module in learner.model.named_modules() if module is layer)
    title = f"weights of {name}" + (f", {len(shown)} of {len(weight)}" if len(shown) < len(weight) else "")
    is_output = learner.task == "classification" and len(weight) == learner.num_outputs and isinstance(layer, nn.Linear)
    return _tiles(
        title + f"; red {limit:.2g}, blue -{limit:.2g}" * (shown.shape[1] != 3),
        tiles,
        [_class_name(splits, i) for i in range(len(shown))] if is_output else (),
        cmap="RdBu_r", vmin=-limit, vmax=limit,
    )  # fmt: skip


def feature_maps(learner: Learner, splits: Splits) -> Figure:
    """What the convolutions make of the first image of the validation split: a row a layer, a tile a channel."""
    layers = {name: m for name, m in learner.model.named_modules() if isinstance(m, nn.Conv2d)}
    if not layers or len(_shape(splits)) != 3:
        _unfit("feature_maps", "shows what convolutions give", "model=cnn")
    image = _some(splits.val, 1)
    maps: dict[str, Tensor] = {}
    hooks = []
    for name, layer in layers.items():

        def keep(_: nn.Module, __: object, output: Tensor, name: str = name) -> None:
            maps.setdefault(name, output.detach().float().cpu())

        hooks.append(layer.register_forward_hook(keep))
    try:
        _outputs(learner, splits, image.inputs)
    finally:
        for hook in hooks:
            hook.remove()
    names = list(maps)
    if len(names) > MAX_LAYERS:  # evenly over the depth
        names = [names[round(i * (len(names) - 1) / (MAX_LAYERS - 1))] for i in range(MAX_LAYERS)]
    figure, axes = _sheet("channels of the convolutions", MAX_MAPS + 1, len(names), 1.0, 1.2)
    _put(axes, _displayable(image.inputs[0]), 0.2, 0, _class_name(splits, int(image.targets.flatten()[0])), cmap="gray")
    for row, name in enumerate(names):
        count = maps[name].shape[1]
        shown = f"{name}, {MAX_MAPS} of {count}" if count > MAX_MAPS else name
        axes.text(1.04, 1.2 * row + 0.21, shown, fontsize=8, ha="left", va="bottom")
        for column, one in enumerate(maps[name][0, :MAX_MAPS], start=1):
            _put(axes, one.numpy(), 1.2 * row + 0.2, column, cmap="viridis")
    return figure


# --------------------------------------------------------------------------------------------------- of examples


def misclassified(learner: Learner, splits: Splits) -> Figure:
    """The images of the validation split that the model gets wrong, the most certain mistakes first."""
    if learner.task != "classification" or len(_shape(splits)) != 3:
        _unfit("misclassified", "shows images with their classes", "images, such as data=digits")
    val = _some(splits.val, MAX_EXAMPLES)
    outputs = _outputs(learner, splits, val.inputs)
    guess = predicted_classes(outputs, learner.loss.threshold)
    certainty = outputs.amax(1) if outputs.shape[1] > 1 else (outputs - learner.loss.threshold).abs().flatten()
    if outputs.shape[1] > 1:
        certainty = certainty - outputs.gather(1, val.targets[:, None]).flatten()  # margin over the true class
    wrong = (guess != val.targets).nonzero().flatten()
    worst = wrong[certainty[wrong].argsort(descending=True)][:25]
    captions = [f"{_class_name(splits, int(guess[i]))}, is {_class_name(splits, int(val.targets[i]))}" for i in worst]
    some = f"{len(val.targets)} val images" if size(splits.val) == len(val.targets) else f"{len(val.targets)} of val"
    title = f"{len(wrong)} of {some} wrong" + f", the {len(worst)} surest" * (len(worst) < len(wrong))
    return _tiles(title, [_displayable(val.inputs[i]) for i in worst], captions, cmap="gray")


# --------------------------------------------------------------------------------------------------- their parts


class _Raw(NamedTuple):
    inputs: Tensor  # (N, *input_shape), as stored: not scaled
    targets: Tensor


def _some(part: Part, count: int) -> _Raw:
    """At most `count` examples of a split, on the CPU: the first of them."""
    if isinstance(part, Examples):
        some = part[slice(0, count)]
        return _Raw(some.inputs.cpu(), some.targets.cpu())
    # As an evaluation reads them: what an example draws at random is a function of its index.
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    known = size(part)
    indices = None if known is None else range(min(count, known))
    inputs, targets, _ = next(iter(EvalBatches(part, count, identity, torch.device("cpu"), indices=indices)))
    return _Raw(inputs[:count], targets[:count])


def _shape(splits: Splits) -> tuple[int, ...]:
    return tuple(_some(splits.val, 1).inputs.shape[1:])


def _outputs(learner: Learner, splits: Splits, inputs: Tensor) -> Tensor:
    """The model's outputs for unscaled inputs, float32 on the CPU."""
    normalizer = splits.normalizer.to(learner.device)
    chunks = [learner.outputs(normalizer(chunk.to(learner.device))) for chunk in inputs.split(1024)]
    return torch.cat(chunks).float().cpu()


def _figure(title: str, width: float = 6.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    return figure, axes


def _tiles(title: str, images: Sequence[Any], captions: Sequence[str] = (), **how: Any) -> Figure:
    """Pictures in a square, each below its caption; in one pair of axes, for a pair for each takes seconds."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    side, caption = (1.25, 0.18) if captions else (6.0 / columns, 0.0)
    figure, axes = _sheet(title, columns, math.ceil(len(images) / columns), side, 1 + caption)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        _put(axes, image, row * (1 + caption) + caption, column, captions[i] if captions else "", **how)
    return figure


def _sheet(title: str, columns: int, rows: int, side: float, height: float) -> tuple[Figure, Any]:
    """A figure whose axes have a unit a tile, `side` inches: `columns` of them, and rows that are `height` high."""
    top = 0.3  # inches for the title
    width, down = max(3.2, columns * side), max(1.0, rows * height * side) + top
    figure = Figure(figsize=(width, down))
    figure.text(0.5, 1 - 0.5 * top / down, title, fontsize=10, ha="center", va="center")
    axes: Any = figure.add_axes((0.0, 0.0, columns * side / width, 1 - top / down))
    axes.axis("off")
    axes.set_xlim(0, columns)
    axes.set_ylim(max(rows * height, 1.0 / side), 0)
    axes.set_autoscale_on(False)
    return figure, axes


def _put(axes: Any, image: Pixels, row: float, column: float, caption: str = "", **how: Any) -> None:
    """An image into the unit square below and to the right of (row, column), its caption above it."""
    gap = 0.04
    extent = (column + gap, column + 1 - gap, row + 1 - gap, row + gap)
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", **how)
    axes.text(column + 0.5, row + 0.01, caption, fontsize=8, ha="center", va="bottom")


def _displayable(image: Tensor) -> Pixels:
    """(C, H, W) of any range as (H, W) or (H, W, 3) in [0, 1]; bytes keep their brightness."""
    values = image.float()
    if image.dtype == torch.uint8:
        values = values / 255
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    return (values.permute(1, 2, 0) if len(values) == 3 else values.mean(0)).numpy()


def _class_name(splits: Splits, label: int) -> str:
    return splits.class_names[label][:14] if label < len(splits.class_names) else str(label)


def _colours(count: int) -> Pixels:
    """(count, 3) RGB in [0, 1], easily told apart up to ten."""
    from matplotlib import colormaps

    return np.asarray(colormaps["tab10"](np.arange(count) % 10))[:, :3]


def _unfit(name: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigError("logging.pictures", name, problem, f"it works with {remedy}")
