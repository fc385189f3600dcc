"""Pictures of inputs with one or two features: the fitted curve, the decision boundary; and of regressions."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from mlprun.data.splits import Splits
from mlprun.pictures.base import (
    MAX_POINTS,
    class_name,
    first_examples,
    input_shape,
    model_outputs,
    raise_unfit,
    token_ids,
)
from mlprun.pictures.figures import new_figure, palette
from mlprun.pictures.labels import figure_text
from mlprun.tasks.classification import Classification
from mlprun.tasks.regression import Regression
from mlprun.training.learner import Learner

MAX_OUTPUTS = 8


def fit(learner: Learner, splits: Splits) -> Figure:
    """A regression on one feature: the points of train and val, and the fitted curve."""
    task = learner.task
    is_curve = isinstance(task, Regression) and task.num_outputs == 1 and input_shape(splits) == (1,)
    if not is_curve or token_ids(splits):
        raise_unfit("fit", "shows one value as a function of one feature", "data=line or data=parabola")
    figure, axes = new_figure("fitted curve")
    train, val = first_examples(splits.train, MAX_POINTS), first_examples(splits.val, MAX_POINTS)
    axes.plot(train.inputs.flatten(), train.targets.flatten(), ".", color="0.7", label="train")
    axes.plot(val.inputs.flatten(), val.targets.flatten(), ".", color="tab:blue", label="val")
    low, high = float(train.inputs.min()), float(train.inputs.max())
    x = torch.linspace(low, high, 256)[:, None]
    # the curve may be far from the points, in the first steps or when it diverges
    targets = train.targets
    margin = max(0.25 * float(targets.max() - targets.min()), 1e-6)
    axes.set_ylim(float(targets.min()) - margin, float(targets.max()) + margin)
    axes.plot(x.flatten(), model_outputs(learner, splits, x).flatten(), color="tab:red", linewidth=2, label="model")
    axes.set(xlabel="feature", ylabel="target")
    axes.legend(loc="best", framealpha=0.9)
    return figure


def boundary(learner: Learner, splits: Splits) -> Figure:
    """The predicted class of each point of the plane, for two features; misclassified points are ringed."""
    task = learner.task
    if not isinstance(task, Classification) or input_shape(splits) != (2,) or token_ids(splits):
        data = "data=moons, xor, spirals, blobs or circles"
        raise_unfit("boundary", "shows classes as a function of two features", data)
    figure, axes = new_figure("decision boundary", width=5.4)
    train, val = first_examples(splits.train, MAX_POINTS), first_examples(splits.val, MAX_POINTS)
    both = torch.cat([train.inputs, val.inputs])
    low, high = both.amin(0), both.amax(0)
    border = 0.1 * (high - low).clamp(min=1e-6)
    xs, ys = (torch.linspace(float(a), float(b), 200) for a, b in zip(low - border, high + border, strict=True))
    grid = torch.stack(torch.meshgrid(xs, ys, indexing="xy"), dim=-1)  # (ys, xs, 2)
    outputs = model_outputs(learner, splits, grid.reshape(-1, 2))
    chosen, num_classes = task.predicted_classes(outputs), task.num_classes
    colours = palette(num_classes)
    shaded = 1 - 0.35 * (1 - colours[chosen.numpy()])  # pale, so that the points stand out
    extent = (float(xs[0]), float(xs[-1]), float(ys[0]), float(ys[-1]))
    shaded = shaded.reshape(len(ys), len(xs), 3)
    axes.imshow(shaded, extent=extent, origin="lower", aspect="auto", interpolation="nearest")
    for one in range(num_classes):  # per class: a contour of the indices between 0 and 2 would be two lines
        inside = (chosen == one).reshape(len(ys), len(xs)).float()
        if 0 < float(inside.mean()) < 1:
            axes.contour(xs, ys, inside, levels=[0.5], colors="black", linewidths=0.6)
    for part, area, edge in ((train, 7, "none"), (val, 30, "white")):
        points = part.inputs.numpy().T
        axes.scatter(*points, s=area, c=colours[part.targets.numpy()], edgecolors=edge, linewidths=0.6)
    guess = task.predicted_classes(model_outputs(learner, splits, val.inputs))
    wrong = val.inputs[guess != val.targets].numpy()
    axes.scatter(wrong[:, 0], wrong[:, 1], s=70, facecolors="none", edgecolors="black", linewidths=1.2)
    axes.set(xlabel="feature 0", ylabel="feature 1")
    if num_classes <= 10:
        for one in range(num_classes):
            axes.scatter([], [], s=22, c=[colours[one]], label=figure_text(class_name(splits, one)))
        axes.legend(title="class", fontsize=8, loc="upper right", framealpha=0.9)
    axes.set_title(f"large points: val, {len(wrong)} of {len(val.targets)} wrong (ringed)", fontsize=10)
    return figure


def predictions(learner: Learner, splits: Splits) -> Figure:
    """Predicted against true values of a regression on the validation split."""
    if not isinstance(learner.task, Regression):
        raise_unfit("predictions", "compares predicted with true values", "a regression, such as data=diabetes")
    val = first_examples(splits.val, MAX_POINTS)
    outputs = model_outputs(learner, splits, val.inputs)
    targets = val.targets.reshape(len(outputs), -1)
    figure, axes = new_figure(f"predictions on val, {len(targets)} examples", width=5.0)
    for column in range(min(targets.shape[1], MAX_OUTPUTS)):
        label = f"output {column}" if targets.shape[1] > 1 else None
        axes.plot(targets[:, column], outputs[:, column], ".", label=label)
    ends = [float(targets.min()), float(targets.max())]
    axes.plot(ends, ends, color="0.4", linewidth=1)
    if targets.shape[1] > 1:
        axes.legend(loc="best", fontsize=8)
    axes.set(xlabel="true value", ylabel="predicted value")
    return figure
