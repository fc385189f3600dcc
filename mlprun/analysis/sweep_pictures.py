"""Pictures of a sweep: the best so far, the importance of keys, slices, and parallel coordinates."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.analysis.importance import importances, num_best
from mlprun.analysis.plot import BLUE, GREY, RED, Look
from mlprun.analysis.trial_marks import (
    MANY,
    ValueScale,
    counted,
    legend_entries,
    most_important,
    round_numbers,
    scale_numbers,
    scale_x,
    scatter,
)
from mlprun.analysis.trials import Axis, Trial, Trials
from mlprun.errors import RunError
from mlprun.formatting import format_metric, pluralize, truncate_middle
from mlprun.pictures.figures import DOTS_PER_INCH, evenly_spaced, new_panels, save
from mlprun.pictures.labels import figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SLICES, COLUMNS = 8, 4  # panels, and how many in a row
BARS = 20  # keys whose importance is shown
AXES = 10  # keys with a vertical axis
NAME = 20  # characters of a key or a value
LINES = 200  # of the completed, the pruned and the failed trials: more would be a single patch of colour
BOLD = 10
TICKS = 12  # choices that are named
NONE = -0.12  # height of the lines of trials that lack a key, whose axis is from 0 to 1


def draw_best_so_far(trials: Trials, look: Look) -> Figure:
    """The best value so far, against the number of trials that have ended and against time."""
    seconds = [trial.ended_sec for trial in trials.all if trial.ended_sec is not None]
    unit, name = _unit(max(seconds, default=0.0))
    scales: list[tuple[str, Sequence[float]]] = [("trials that have ended", range(1, len(trials.all) + 1))]
    if len(seconds) == len(trials.all):
        scales.append((f"{name}, without pauses", [sec / unit for sec in seconds]))
    figure, panels = new_panels(1, len(scales), *(look.size or (8.5, 3.8)), sharey=True)
    values = ValueScale.of(trials, look)
    best = trials.best_so_far()
    for panel, (label, xs) in zip(panels, scales, strict=True):
        values.apply(panel)
        scatter(panel, trials, values, xs, spread=True)
        steps = [(xs[number - 1], value) for number, value in best]
        panel.step(*zip(*steps, (xs[-1], best[-1][1]), strict=True), where="post", color=RED, label="best so far")
        scale_numbers(panel, min(xs[0], 0), xs[-1])
        panel.set_xlabel(label)
    panels[0].set_ylabel(figure_text(trials.monitor))
    _titled(figure, f"best {trials.monitor} {format_metric(best[-1][1])}", counted(trials))
    _legend(figure, panels[0])
    return figure


def draw_slices(trials: Trials, look: Look) -> Figure:
    """The value against each key; of many keys, against the most important."""
    axes = most_important(trials, SLICES)
    columns = max(1, min(len(axes), COLUMNS))
    rows = max(1, math.ceil(len(axes) / columns))
    figure, panels = new_panels(rows, columns, *(look.size or (max(5.0, 2.7 * columns), 1.1 + 2.5 * rows)), sharey=True)
    values = ValueScale.of(trials, look)
    values.apply(panels[0])
    for panel, axis in zip(panels, axes, strict=False):
        scatter(panel, trials, values, [_x(axis, trial, i) for i, trial in enumerate(trials.all)], shaded=True)
        panel.set_xlabel(figure_text(truncate_middle(axis.key, NAME + 6)))
        scale_x(panel, axis, TICKS, NAME)
    for panel in panels[len(axes) :]:
        panel.axis("off")
    for panel in panels[::columns]:
        panel.set_ylabel(figure_text(trials.monitor))
    _titled(figure, counted(trials), "the darker, the later", _of_keys(axes, trials))
    _legend(figure, panels[0])
    return figure


def draw_importance(trials: Trials, look: Look) -> Figure:
    """A bar for each key."""
    found = importances(trials)
    shown = dict(list(found.items())[:BARS])
    figure, (panel,) = new_panels(1, 1, *(look.size or (6.4, 1.2 + 0.32 * len(shown))))
    bars = panel.barh(range(len(shown)), list(shown.values()), color=BLUE)
    panel.set_yticks(range(len(shown)), [figure_text(truncate_middle(key, 2 * NAME)) for key in shown])
    panel.bar_label(bars, [f"{100 * share:.0f} %" for share in shown.values()], padding=3, fontsize=9)
    panel.invert_yaxis()
    panel.set_xlim(0, 1.12 * max(shown.values()))
    panel.xaxis.set_visible(False)
    panel.spines[["top", "right", "bottom"]].set_visible(False)
    against = f"the best {num_best(trials)} of {pluralize(len(trials.completed), 'completed trial')} against all"
    others = f"{len(shown)} of {len(found)} keys" if len(shown) < len(found) else ""
    _titled(figure, f"importance by {trials.monitor}: {against} (PED-ANOVA)", others)
    return figure


def draw_parallel(trials: Trials, look: Look) -> Figure:
    """A line for each trial through its values; the last axis is the value of the monitor, with the best on top."""
    from matplotlib.collections import LineCollection

    axes = most_important(trials, AXES)
    figure, (panel,) = new_panels(1, 1, *(look.size or (max(6.4, 1.6 * (len(axes) + 1)), 4.5)))
    values = ValueScale.of(trials, look)
    ranked = trials.ranked()
    num_bold = min(BOLD, math.ceil(len(ranked) / 10))
    lacking = [axis.key for axis in axes if any(axis.key not in trial.cells for trial in trials.all)]
    for status, style in (("failed", "-"), ("pruned", "--"), ("completed", "-")):
        found = ranked if status == "completed" else trials.having(status)
        bold = range(num_bold if status == "completed" else 0)
        drawn = [found[i] for i in sorted({*evenly_spaced(len(found), LINES), *bold}, reverse=True)]  # the best on top
        if drawn:
            looks = [_line(trials, values, trial, is_best=trial in ranked[:num_bold]) for trial in drawn]
            lines = [_heights(axes, values, trial) for trial in drawn]
            options: dict[str, Any] = {"linestyles": style, "rasterized": len(trials.all) > MANY}
            options |= {"colors": [color for color, _ in looks], "linewidths": [width for _, width in looks]}
            panel.add_collection(LineCollection(lines, **options))
    for x, axis in enumerate(axes):
        _upright(panel, x, axis.key, [*_ticks(axis), *([(NONE, "none")] if axis.key in lacking else [])])
    _upright(panel, len(axes), trials.monitor, values.ticks())
    panel.set_xlim(-0.1, len(axes) + 0.5)
    panel.set_ylim(NONE - 0.06 if lacking else -0.04, 1.1)
    panel.axis("off")
    in_bold = "the best in bold" if num_bold == 1 else f"the best {num_bold} in bold"
    thinned = f"of the completed ones about {LINES} are drawn" if len(ranked) > LINES else ""
    ending = [f"{kind}: {how}" for kind, how in (("pruned", "dashed"), ("failed", "red")) if trials.having(kind)]
    _titled(figure, counted(trials), in_bold, *ending, thinned, _of_keys(axes, trials))
    return figure


def _titled(figure: Figure, *parts: str) -> None:
    width = round(13 * figure.get_figwidth())
    lines = textwrap.wrap("; ".join(part for part in parts if part), width, break_long_words=False)
    figure.suptitle("\n".join(map(figure_text, lines)), fontsize=10)


def _legend(figure: Figure, panel: Axes) -> None:
    handles, labels = legend_entries(panel)
    if len(labels) > 1:
        figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), fontsize=8)


def _of_keys(axes: Sequence[Axis], trials: Trials) -> str:
    return f"{len(axes)} of {len(trials.axes)} keys" if len(axes) < len(trials.axes) else ""


def _unit(seconds: float) -> tuple[float, str]:
    for unit, name in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * unit:
            return unit, name
    return 1.0, "seconds"


def _x(axis: Axis, trial: Trial, number: int) -> float:
    """The horizontal position of a trial; NaN if it lacks the key. Trials of one choice are spread, each time alike."""
    if axis.key not in trial.cells:
        return math.nan
    aside = 0.5 * ((number * 0.618034) % 1 - 0.5) if axis.choices else 0.0
    return axis.place(trial.cells[axis.key]) + aside


def _line(trials: Trials, values: ValueScale, trial: Trial, *, is_best: bool) -> tuple[Any, float]:
    """Colour and width of a trial's line."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    alpha = min(0.9, max(0.25, 25 / len(trials.all)))
    if trial.status != "completed":
        return to_rgba(RED if trial.status == "failed" else GREY, 0.6 * alpha), 0.9
    color = colormaps["viridis_r"](0.08 + 0.92 * values.height(trial.value))
    return (*color[:3], 1.0 if is_best else alpha), 2.0 if is_best else 1.1


def _heights(axes: Sequence[Axis], values: ValueScale, trial: Trial) -> list[tuple[float, float]]:
    """The corners of a trial's line; only that of a completed one reaches the last axis."""
    cells = trial.cells
    heights = [axis.share(cells[axis.key]) if axis.key in cells else NONE for axis in axes]
    return list(enumerate([*heights, *([values.height(trial.value)] if trial.status == "completed" else [])]))


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    if axis.choices:
        chosen = [axis.choices[i] for i in evenly_spaced(len(axis.choices), TICKS)]
        return [(axis.share(choice), choice) for choice in chosen]
    texts = [f"{value:.3g}" for value in round_numbers(axis.low, axis.high, is_log=axis.is_log)]
    return [(axis.share(text), text) for text in texts]


def _upright(panel: Axes, x: int, name: str, ticks: Sequence[tuple[float, str]]) -> None:
    panel.plot([x, x], [0, 1], color="black", linewidth=1, zorder=3)
    panel.text(x, 1.05, figure_text(truncate_middle(name, NAME)), ha="center", fontsize=9)
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.8}
    for height, text in ticks:
        panel.plot([x], [height], marker="_", color="black", markersize=6, zorder=3)
        label = figure_text(truncate_middle(text, NAME))
        panel.text(x + 0.05, height, label, va="center", fontsize=8, bbox=box, zorder=4)


# The name of each picture, which is that of its file, and what draws it.
PICTURES: dict[str, Callable[[Trials, Look], Figure]] = {
    "best_so_far": draw_best_so_far,
    "importance": draw_importance,
    "slices": draw_slices,
    "parallel": draw_parallel,
}


def write(
    trials: Trials, names: Sequence[str], place: Callable[[str], Path], look: Look, dpi: int = DOTS_PER_INCH
) -> tuple[list[Path], list[RunError]]:
    """Draw these pictures into the files that `place` names; returns the files, and why others were not drawn."""
    files, refused = [], []
    for name in names:
        try:
            figure = PICTURES[name](trials, look)
        except RunError as error:
            refused.append(error)
            continue
        files.append(save(figure, place(name), dpi))
    return files, refused
