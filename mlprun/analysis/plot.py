"""Curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

from mlprun.analysis.configurations import varied
from mlprun.analysis.curves import AXES, Curve, Series, curve, default_metrics, mean_curve, metrics_of
from mlprun.errors import ConfigError
from mlprun.formatting import pluralize, truncate
from mlprun.pictures.figures import evenly_spaced, new_panels
from mlprun.pictures.labels import figure_text
from mlprun.runs.collect import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LISTED = 12  # entries of a legend
FEW = 40  # points: a curve with fewer has markers
DECADES = 2  # a loss that spans more gets a logarithmic axis
X_LABELS = {
    "step": "step (optimizer updates)",
    "epoch": "epoch",
    "seconds": "seconds of training, without evaluations",
    "optim/lr": "learning rate",
}
WIDTH, PANEL, MARGIN, ENTRY = (
    7.5,
    2.4,
    1.0,
    0.2,
)  # inches: a figure, the height of a panel, of all else, of a legend's row
# Okabe and Ito's colours, which the colour-blind tell apart; the yellow is too pale on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BLUE, RED, GREY = COLOURS[0], COLOURS[1], "0.5"


@dataclass(frozen=True)
class Look:
    """How a picture looks: the horizontal axis, logarithmic axes, and (width, height) in inches, None for our own."""

    x: str = "step"
    log_x: bool = False
    log_y: bool = False
    size: tuple[float, float] | None = None


def draw(series: Sequence[Series], metrics: Sequence[str], look: Look | str = "step") -> Figure:
    """A panel for each metric and a line for each series: a run, or the mean and range of its seeds or folds."""
    look = Look(look) if isinstance(look, str) else look
    figure, panels = new_figure([1.0] * len(metrics), look, [each.label for each in series])
    for panel, metric in zip(panels, metrics, strict=True):
        drawn = [curves_of(each, metric, look.x) for each in series]
        _scale(panel, look, [*chain(*drawn)], falls=not series[0].runs[0][1].higher_is_better(metric))
        for each, curves, style in zip(series, drawn, styles(len(series)), strict=True):
            _line(panel, curves, look.x, figure_text(each.label) or None, **style)
        panel.set_ylabel(figure_text(metric))
        if len(series) == 1 and len(series[0].runs) == 1 and look.x in AXES:
            _mark_best(panel, series[0], look.x)
    if (several := repeats_of(series)) is not None:
        panels[0].set_title(f"mean of {several}; the band is from the smallest to the largest", fontsize=10)
    elif len(series) == 1:
        panels[0].set_title(figure_text(_title(series[0].runs[0])), fontsize=10)
    add_legend(figure, panels[0], len(series))
    return figure


def draw_run(series: Series, look: Look | str = "step") -> Figure:
    """Panels for the losses, the score and the learning rate, with the test scores at the best step."""
    look = Look(look) if isinstance(look, str) else look
    _, record = series.runs[0]
    groups = panels_of_run(series)
    heights = [0.4 if metrics == ["optim/lr"] else 1.0 for metrics in groups]
    figure, panels = new_figure(heights, look)
    colours = {"train": BLUE, "val": RED, "optim": GREY}
    for panel, metrics in zip(panels, groups, strict=True):
        name = metrics[-1].partition("/")[2]
        drawn = {metric: curves_of(series, metric, look.x) for metric in metrics}
        falls = metrics[-1] != "optim/lr" and not record.higher_is_better(metrics[-1])
        _scale(panel, look, [*chain(*drawn.values())], falls=falls)
        for metric, curves in drawn.items():
            _line(panel, curves, look.x, figure_text(metric), color=colours[metric.partition("/")[0]])
        panel.set_ylabel("learning rate" if name == "lr" else figure_text(name.replace("_", " ")))
        at = _mark_best(panel, series, look.x)
        tested = record.metrics.get(f"test/{name}")
        if at is not None and tested is not None:
            label = figure_text(f"test/{name} {tested:.4g}")
            panel.plot([at], [tested], "*", color="black", markersize=11, label=label)
        if name != "lr":  # the best step is in the first legend only
            handles, texts = panel.get_legend_handles_labels()
            in_legend = [i for i, text in enumerate(texts) if panel is panels[0] or not text.startswith("best step")]
            panel.legend([handles[i] for i in in_legend], [texts[i] for i in in_legend], fontsize=8)
    panels[0].set_title(figure_text(_title(series.runs[0])), fontsize=10)
    return figure


def panels_of_run(series: Series) -> list[list[str]]:
    """What `draw_run` draws of a run, panel by panel."""
    score = next((name for name in default_metrics([series]) if not name.endswith("/loss")), None)
    scores = [f"train/{score.partition('/')[2]}", score] if score is not None else []
    logged = metrics_of([series])
    groups = (["train/loss", "val/loss"], scores, ["optim/lr"])
    return [kept for group in groups if (kept := [name for name in group if name in logged])]


def curves_of(series: Series, metric: str, x: str) -> list[Curve]:
    return [found for rows in series.rows if (found := curve(rows, metric, x))[0]]


def notes(series: Sequence[Series], metrics: Sequence[str], look: Look) -> list[str]:
    """What a picture of these curves does not show, a line each; ConfigError if an axis can show nothing."""
    found = []
    for metric in metrics:
        curves = [each for one in series for each in curves_of(one, metric, look.x)]
        if not curves:
            remedy = "perf/examples_per_sec is missing: choose step or epoch" if look.x == "seconds" else ""
            raise ConfigError("--x", look.x, f"no row has it and {metric}", remedy)
        ys = [y for _, values in curves for y in values]
        if gaps := sum(map(math.isnan, ys)):
            found.append(f"{metric}: {gaps} of {pluralize(len(ys), 'value')} are not finite, and gaps in the curve")
        axes = (
            ("--log-y", look.log_y, metric, [y for y in ys if not math.isnan(y)]),
            ("--log-x", look.log_x, look.x, [x for xs, _ in curves for x in xs]),
        )
        for option, is_log, name, values in axes:
            if is_log and (low := sum(value <= 0 for value in values)):
                if low == len(values):
                    raise ConfigError(option, ConfigError.MISSING, f"no value of {name} is above 0", "leave it out")
                found.append(
                    f"{name}: {low} of {pluralize(len(values), 'value')} are not above 0, so {option} hides them"
                )
    return list(dict.fromkeys(found))


def new_figure(heights: Sequence[float], look: Look, labels: Sequence[str] = ()) -> tuple[Figure, list[Axes]]:
    """A figure with a panel of each relative height, and room for a legend with these labels."""
    rows = math.ceil(min(len(labels), LISTED) / _legend_columns(labels)) if len(labels) > 1 else 0
    width, height = look.size or (WIDTH, MARGIN + PANEL * sum(heights) + ENTRY * rows)
    figure, panels = new_panels(len(heights), 1, width, height, sharex=True, height_ratios=heights)
    for panel in panels:
        panel.grid(alpha=0.3)
        if look.log_x or look.x == "optim/lr":
            panel.set_xscale("log", nonpositive="mask")
    panels[-1].set_xlabel(X_LABELS.get(look.x, figure_text(look.x)))
    return figure, panels


def styles(count: int) -> list[dict[str, Any]]:
    """Colour and kind of line for each of `count` curves; above `LISTED`, from one end of a scale to the other."""
    if count > LISTED:
        from matplotlib import colormaps

        return [{"color": colormaps["viridis"](0.92 * i / (count - 1))} for i in range(count)]
    kinds = ("-", (0, (5, 1.5)))
    return [{"color": COLOURS[i % len(COLOURS)], "linestyle": kinds[i // len(COLOURS)]} for i in range(count)]


def repeats_of(series: Sequence[Series]) -> str | None:
    """`3 seeds` or `1-5 folds`, of which each series is the mean; None if each is a single run."""
    counts = sorted({len(each.runs) for each in series})
    if counts[-1] < 2:
        return None
    several = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    kind = "/".join(sorted({varied(each.runs) for each in series if len(each.runs) > 1}))
    return f"{several} {kind}s"


def add_legend(figure: Figure, panel: Axes, count: int) -> None:
    """Below the panels, as labels may be long; of more than `LISTED` curves, some."""
    handles, texts = panel.get_legend_handles_labels()
    if count < 2 or not texts:
        return
    chosen = evenly_spaced(len(texts), LISTED)
    figure.legend(
        [handles[i] for i in chosen], [texts[i] for i in chosen], loc="outside lower center", fontsize=8,
        title=None if count <= LISTED else f"{LISTED} of {count}", ncols=_legend_columns(texts), handlelength=2.8,
    )  # fmt: skip


def _legend_columns(labels: Sequence[str]) -> int:
    return max(1, min(3, 100 // (max(map(len, labels)) + 8)))


def _line(panel: Axes, curves: Sequence[Curve], x: str, label: str | None, **style: Any) -> None:
    if not curves:
        panel.plot([], [], label=label, **style)  # its colour stays its own in every panel
        return
    if len(curves) == 1:
        xs, ys = curves[0]
    else:
        (xs, ys), low, high = mean_curve(curves, x)
        shown = [panel.get_yscale() != "log" or y > 0 for y in low]
        panel.fill_between(xs, low, high, where=shown, color=style["color"], alpha=0.15, linewidth=0)
    around = [math.nan, *ys, math.nan]
    alone = [i for i in range(len(ys)) if math.isnan(around[i]) and math.isnan(around[i + 2])]  # no line leads there
    dots = None if len(xs) <= FEW else alone
    marker = "." if dots is None or dots else None
    panel.plot(xs, ys, label=label, marker=marker, markevery=dots, linewidth=1.3, **style)


def _mark_best(panel: Axes, series: Series, x: str) -> float | None:
    """Mark the best step; its x, or None if the run has none yet."""
    best = series.runs[0][1].best_step
    xs, _ = curve([row for row in series.rows[0] if row.get("step") == best], "step", x)
    if not xs:
        return None
    panel.axvline(xs[0], color="black", linestyle=":", linewidth=1, label=f"best step {best}")
    return xs[0]


def _scale(panel: Axes, look: Look, curves: Sequence[Curve], *, falls: bool) -> None:
    values = [y for _, ys in curves for y in ys if math.isfinite(y)]
    if look.log_y or (falls and values and min(values) > 0 and max(values) / min(values) > 10**DECADES):
        panel.set_yscale("log", nonpositive="mask")


def _title(run: Run) -> str:
    path, record = run
    return truncate(path.resolve().name, 80) + f"  ({record.status})" * (record.status != "completed")
