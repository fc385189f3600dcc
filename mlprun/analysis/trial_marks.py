"""What pictures of trials share: the axis of the value, the marks of trials, and the axes of keys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlprun.analysis.importance import importances
from mlprun.analysis.plot import DECADES, GREY, RED, Look
from mlprun.analysis.trials import Axis, Trials
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import pluralize, truncate_middle
from mlprun.pictures.figures import evenly_spaced
from mlprun.pictures.labels import figure_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MANY = 200  # trials, whose marks are small, and pixels in a .svg or .pdf
FAR = 5.0  # widths of the better three quarters of the values, beyond which a value is drawn at the edge
EDGE = 0.035  # share of the axis


@dataclass(frozen=True)
class ValueScale:
    """The axis of the monitor: from the best value to the worst that is drawn in its place."""

    best: float
    worst: float
    is_log: bool = False

    @classmethod
    def of(cls, trials: Trials, look: Look) -> ValueScale:
        """One value that is far from all others would leave no room for them: it is drawn at the edge."""
        ranked = [trial.value for trial in trials.ranked()]
        known = sorted([*ranked, *(t.value for t in trials.having("pruned") if t.values)])
        known = known[::-1] if trials.higher_is_better else known
        if look.log_y and min(known) <= 0:
            problem = f"not all values of {trials.monitor} are above 0"
            raise ConfigError("--log-y", ConfigError.MISSING, problem, "leave it out")

        def place(value: float) -> float:
            return math.log(value) if is_log else value

        falls = not trials.higher_is_better and min(known) > 0
        is_log = look.log_y or (falls and max(ranked) > 10**DECADES * min(known))
        reach = FAR * abs(place(ranked[(len(ranked) - 1) * 3 // 4]) - place(ranked[0]))
        near = [value for value in known if abs(place(value) - place(ranked[0])) <= reach]
        return cls(known[0], near[-1] if reach else known[-1], is_log)

    def height(self, value: float) -> float:
        """From 0, the worst that is drawn in its place and all beyond, to 1, the best."""
        best, worst, at = (math.log(x) if self.is_log else x for x in (self.best, self.worst, value))
        return min(1.0, max(0.0, (at - worst) / (best - worst))) if best != worst else 0.5

    def is_beyond(self, value: float) -> bool:
        return value > self.worst if self.worst > self.best else value < min(self.worst, self.best)

    def apply(self, panel: Axes) -> None:
        """Scale the vertical axis, with a margin for marks at the edge."""
        low, high = (math.log(x) if self.is_log else x for x in sorted((self.best, self.worst)))
        margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
        ends = [math.exp(x) if self.is_log else x for x in (low - margin, high + margin)]
        panel.set_yscale("log" if self.is_log else "linear")
        panel.set_ylim(*ends)

    def ticks(self) -> list[tuple[float, str]]:
        """Heights and texts."""
        low, high = sorted((self.best, self.worst))
        texts = [f"{value:.3g}" for value in round_numbers(low, high, is_log=self.is_log)]
        return [(self.height(float(text)), text) for text in texts]


def scatter(
    panel: Axes, trials: Trials, values: ValueScale, xs: Sequence[float], *, spread: bool = False, shaded: bool = False
) -> None:
    """Mark the trials at these x; failed ones, and those far beyond the others, at the edge.

    Args:
        spread: a line from the smallest to the largest value of each.
        shaded: the later, the darker.
    """
    from matplotlib import colormaps

    many = len(trials.all) > MANY
    shades = colormaps["Blues"]
    edge = EDGE if trials.higher_is_better else 1 - EDGE
    panel.grid(alpha=0.3)
    for status, marker, label in (
        ("failed", "|", "failed"),
        ("pruned", "x", "pruned"),
        ("completed", "o", "completed"),
    ):
        inside: list[tuple[float, float, Any]] = []
        beyond: list[tuple[float, float, Any]] = []
        for i, (trial, x) in enumerate(zip(trials.all, xs, strict=True)):
            if trial.status != status or math.isnan(x) or not (trial.values or status == "failed"):
                continue
            share = i / max(1, len(trials.all) - 1) if shaded else 0.45
            color = {"failed": RED, "pruned": GREY}.get(status) or shades(0.35 + 0.65 * share)
            if status == "failed" or values.is_beyond(trial.value):
                beyond.append((x, edge, color))
                continue
            inside.append((x, trial.value, color))
            if spread and status == "completed" and len(trial.values) > 1:
                panel.plot([x, x], [min(trial.values), max(trial.values)], color=color, linewidth=1, alpha=0.6)
        how: dict[str, Any] = {"rasterized": many, "linewidths": 1.0, "zorder": 2}
        size = (8 if many else 22) * (1.0 if marker == "o" else 1.3)
        if inside:
            at, heights, colors = zip(*inside, strict=True)
            panel.scatter(at, heights, s=size, c=colors, marker=marker, label=label, **how)
        if beyond:
            at, heights, colors = zip(*beyond, strict=True)
            marker = marker if status == "failed" else "v" if trials.higher_is_better else "^"
            label = label if status == "failed" else "beyond the axis"
            where = panel.get_xaxis_transform()
            panel.scatter(at, heights, s=1.6 * size, c=colors, marker=marker, label=label, transform=where, **how)


def legend_entries(panel: Axes) -> tuple[list[Any], list[str]]:
    """The handles and labels of a panel, each label once."""
    found = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def most_important(trials: Trials, most: int) -> list[Axis]:
    """At most so many keys, in the order of the sweep; if there are more and it can be told, the most important.

    RunError if no key differs.
    """
    if not trials.axes:
        raise RunError(f"no key of the {pluralize(len(trials.all), 'trial')} has several values")
    if len(trials.axes) <= most:
        return trials.axes
    try:
        chosen = list(importances(trials))[:most]
    except RunError:  # too few trials, or no Optuna: `--of importance` says which
        return trials.axes[:most]
    return [axis for axis in trials.axes if axis.key in chosen]


def counted(trials: Trials) -> str:
    """`50 trials, each the mean of 3 seeds, 8 pruned, 2 failed`."""
    counts = [f"{n:,} {status}" for status in ("pruned", "failed") if (n := len(trials.having(status)))]
    mean_of = [f"each the mean of {trials.repeats}"] * bool(trials.repeats)
    return ", ".join([pluralize(len(trials.all), "trial"), *mean_of, *counts])


def scale_x(panel: Axes, axis: Axis, most: int, width: int) -> None:
    """Scale the horizontal axis for a key."""
    if not axis.choices:
        scale_numbers(panel, axis.low, axis.high, is_log=axis.is_log)
        return
    shown = evenly_spaced(len(axis.choices), most)
    labels = [figure_text(truncate_middle(axis.choices[i], width)) for i in shown]
    room = max(map(len, labels)) * len(labels)
    panel.set_xticks(shown, labels, fontsize=8, rotation=0 if room < 28 else 30 if room < 60 else 90)
    panel.set_xlim(-0.5, len(axis.choices) - 0.5)


def scale_numbers(panel: Axes, low: float, high: float, *, is_log: bool = False) -> None:
    """Scale the horizontal axis from `low` to `high`, with a margin: matplotlib overlooks marks at the edge."""
    from matplotlib.ticker import MaxNLocator

    panel.set_xscale("log" if is_log else "linear")
    if is_log:
        margin = (high / low) ** 0.04
        panel.set_xlim(low / margin, high * margin)
        if high < 10**DECADES * low:  # else matplotlib names 2 × 10⁻¹, 3 × 10⁻¹, …
            numbers = round_numbers(low, high, is_log=True, room=0.25)
            panel.set_xticks(numbers, [f"{x:.2g}" for x in numbers])
            panel.set_xticks([], minor=True)
        return
    margin = 0.04 * (high - low) or 0.5
    panel.set_xlim(low - margin, high + margin)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=isinstance(low, int)))


def round_numbers(low: float, high: float, *, is_log: bool, room: float = 0.1) -> list[float]:
    """The ends, and round numbers between them, at least `room` of the axis from each."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    if not low < high:
        return [low]
    locator = LogLocator(numticks=6) if is_log else MaxNLocator(4, integer=isinstance(low, int))
    place = math.log if is_log else float
    least = room * (place(high) - place(low))
    inner = [float(value) for value in locator.tick_values(low, high) if low < value < high]
    return [low, *(x for x in inner if place(x) - place(low) > least < place(high) - place(x)), high]
