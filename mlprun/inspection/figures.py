"""What `mlprun inspect` draws: a curve in characters, a schedule, some examples. Imports matplotlib when it draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mlprun.pictures.figures import new_figure, new_panels, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, Any]

# Bits of a braille cell (Unicode, block 2800): two columns of four dots, from the top.
_DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])


def text_plot(
    x: Sequence[int], y: Sequence[float], *, unicode: bool, lowest: float, width: int = 60, height: int = 10
) -> list[str]:
    """The curve against the steps in characters; lines without their ends' spaces.

    Args:
        x: steps, rising and evenly spaced.
        y: finite values, each held until the next.
        unicode: draw with braille, 2x4 dots a character; else with `*`.
        lowest: where the y axis begins, unless a value lies below it.
        width, height: of the area of the curve, in characters.
    """
    columns, rows = (2 * width, 4 * height) if unicode else (width, height)
    low, high = min(lowest, *y), max(y)
    span = (high - low) or 1.0
    heights = ((np.asarray(y) - low) / span * (rows - 1)).round().astype(int)
    dots = np.zeros((rows, columns), dtype=bool)
    last = int(heights[0])
    for column in range(columns):
        begin = column * len(heights) // columns
        here = heights[begin : max(begin + 1, (column + 1) * len(heights) // columns)]
        # a jump is drawn as a line, from beside where the last column ended
        bottom, top = int(here.min()), int(here.max())
        bottom, top = min(bottom, last + 1), max(top, last - 1)
        dots[rows - 1 - top : rows - bottom, column] = True
        last = int(here[-1])
    if unicode:
        cells = dots.reshape(height, 4, width, 2).transpose(0, 2, 1, 3)
        drawn = ["".join(chr(0x2800 + int(code)) for code in row) for row in (cells * _DOTS).sum((2, 3))]
        drawn = [row.replace("\u2800", " ") for row in drawn]
        side, corner, floor, tick = "┤", "└", "─", "│"
    else:
        drawn = ["".join("*" if dot else " " for dot in row) for row in dots]
        side, corner, floor, tick = "|", "+", "-", "|"
    marks = {0: high, height // 2: low + span * (1 - (height // 2 + 0.5) / height), height - 1: low}
    texts = [f"{marks[row]:.3g}" if row in marks else "" for row in range(height)]
    margin = max(map(len, texts))
    lines = [f"{text:>{margin}} {side if text else tick}{row}".rstrip() for text, row in zip(texts, drawn, strict=True)]
    lines.append(f"{'':>{margin}} {corner}{floor * width}")
    left, middle, right = (f"{x[i]:,}" for i in (0, len(x) // 2, -1))
    axis = f"{left:<{width // 2 - len(middle) // 2}}{middle}"
    lines.append(f"{'':>{margin}}  {axis}{right:>{width - len(axis)}}  step")
    return lines


def schedule_figure(
    steps: Sequence[int], curves: Mapping[str, Sequence[float]], title: str, steps_per_epoch: int | None
) -> Figure:
    """Values that a schedule sets, against the steps; one panel for rates and one for momentum.

    Args:
        steps: where they were taken.
        curves: name -> values; those called `momentum…` stand in a panel of their own.
        title: above.
        steps_per_epoch: for a second axis, in epochs; None: none.
    """
    names = [name for name in ("learning rate", "momentum") if any(curve.startswith(name) for curve in curves)]
    figure, panels = new_panels(len(names), 1, 6.8, 1.6 + 2.8 * len(names))
    end = steps[-1] + (steps[1] - steps[0] if len(steps) > 1 else 1)
    for axes, panel in zip(panels, names, strict=True):
        panel_curves = {name: values for name, values in curves.items() if name.startswith(panel)}
        for name, values in panel_curves.items():
            # each value holds until the next; of few steps that shows
            axes.plot([*steps, end], [*values, values[-1]], label=name,
                      drawstyle="steps-post" if len(steps) < 200 else "default")  # fmt: skip
        if len(panel_curves) > 1:
            axes.legend()
        axes.set(xlabel="optimizer step", ylabel=panel, xlim=(0, end))
        if panel == "learning rate":
            low, high = (pick(pick(values) for values in panel_curves.values()) for pick in (min, max))
            if low > 0 and high / low > 1000:  # a range test, say
                axes.set_yscale("log")
            else:
                axes.set_ylim(bottom=min(0.0, low))
        axes.grid(alpha=0.3)
    if steps_per_epoch is not None:
        both_ways: Any = (partial(np.multiply, 1 / steps_per_epoch), partial(np.multiply, float(steps_per_epoch)))
        panels[0].secondary_xaxis("top", functions=both_ways).set_xlabel("epoch")
    figure.suptitle(title, fontsize=10)
    return figure


def scatter_figure(inputs: Array, targets: Array, class_names: Sequence[str] | None, title: str) -> Figure:
    """Examples as points: two features by class or value, or a value against one feature.

    Args:
        inputs: (N, 2), or (N, 1) with values as targets.
        targets: (N,) class indices or values.
        class_names: one a class; None for a regression.
        title: above.
    """
    figure, axes = new_figure(title)
    axes.grid(alpha=0.3)
    if inputs.shape[1] == 1:
        axes.scatter(inputs[:, 0], targets, s=12, alpha=0.7)
        axes.set(xlabel="feature 0, as stored", ylabel="target")
        return figure
    axes.set(xlabel="feature 0, as stored", ylabel="feature 1, as stored")
    if class_names is None:
        points = axes.scatter(inputs[:, 0], inputs[:, 1], c=targets, s=12, cmap="viridis")
        figure.colorbar(points, label="target")
        return figure
    for label, (name, colour) in enumerate(zip(class_names, palette(len(class_names)), strict=True)):
        members = inputs[targets == label]
        axes.scatter(members[:, 0], members[:, 1], s=12, alpha=0.7, label=name, color=colour)
    if len(class_names) <= 20:
        axes.legend(title="class", fontsize=8)
    return figure
