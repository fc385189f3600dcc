"""Curves as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlprun.analysis.configurations import varied
from mlprun.analysis.curves import Curve, Series, curve, default_metrics, mean_curve, metrics_of
from mlprun.formatting import truncate
from mlprun.pictures.figures import evenly_spaced, new_panels, palette
from mlprun.pictures.labels import figure_text
from mlprun.runs.collect import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = ("step", "epoch", "optim/lr")
LISTED = 12  # entries of a legend
FEW = 40  # points: a curve with fewer has markers
DECADES = 2  # a loss that spans more gets a logarithmic axis
X_LABELS = {"step": "step (optimizer updates)", "epoch": "epoch", "optim/lr": "learning rate"}


def draw(series: Sequence[Series], metrics: Sequence[str], x: str = "step") -> Figure:
    """A panel for each metric and a line for each series: a run, or the mean and range of its seeds or folds."""
    figure, panels = _panels([1.0] * len(metrics), x)
    for panel, metric in zip(panels, metrics, strict=True):
        for each, colour in zip(series, palette(len(series)), strict=True):
            curves = [curve(rows, metric, x) for rows in each.rows if rows]
            _line(panel, curves, colour, figure_text(each.label) or None)
        panel.set_ylabel(figure_text(metric))
        _scale(panel, falls=not series[0].runs[0][1].higher_is_better(metric))
        if len(series) == 1 and len(series[0].runs) == 1 and x != "optim/lr":
            _mark_best(panel, series[0], x)
    counts = sorted({len(each.runs) for each in series})
    if counts[-1] > 1:
        several = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        kind = "/".join(sorted({varied(each.runs) for each in series if len(each.runs) > 1}))
        panels[0].set_title(f"mean of {several} {kind}s; the band is from the smallest to the largest", fontsize=10)
    elif len(series) == 1:
        panels[0].set_title(figure_text(_title(series[0].runs[0])), fontsize=10)
    if len(series) > 1:
        handles, texts = panels[0].get_legend_handles_labels()
        chosen = evenly_spaced(len(series), LISTED)
        figure.legend(  # below the panels: labels may be long
            [handles[i] for i in chosen], [texts[i] for i in chosen], loc="outside lower center", fontsize=8,
            title=None if len(series) <= LISTED else f"{LISTED} of {len(series)}",
            ncols=max(1, min(3, 100 // (max(map(len, texts)) + 8))),
        )  # fmt: skip
    return figure


def draw_run(series: Series, x: str = "step") -> Figure:
    """Panels for the losses, the score and the learning rate, with the test scores at the best step."""
    rows, (_, record) = series.rows[0], series.runs[0]
    logged = metrics_of([series])
    score = next((name for name in default_metrics([series]) if not name.endswith("/loss")), None)
    upper = [["train/loss", "val/loss"]]
    if score is not None:
        upper.append([f"train/{score.partition('/')[2]}", score])
    lower = [["optim/lr"]] if "optim/lr" in logged else []
    figure, panels = _panels([1.0] * len(upper) + [0.4] * len(lower), x)
    colours = {"train": "tab:blue", "val": "tab:orange", "optim": "tab:gray"}
    for panel, metrics in zip(panels, [*upper, *lower], strict=True):
        name = metrics[-1].partition("/")[2]
        for metric in metrics:
            if metric in logged:
                _line(panel, [curve(rows, metric, x)], colours[metric.partition("/")[0]], figure_text(metric))
        _scale(panel, falls=metrics[-1] != "optim/lr" and not record.higher_is_better(metrics[-1]))
        panel.set_ylabel("learning rate" if name == "lr" else figure_text(name.replace("_", " ")))
        at = _mark_best(panel, series, x)
        tested = record.metrics.get(f"test/{name}")
        if at is not None and tested is not None:
            panel.plot(
                [at], [tested], "*", color="tab:red", markersize=12, label=figure_text(f"test/{name} {tested:.4g}")
            )
        if name != "lr":  # the best step is in the first legend only
            handles, texts = panel.get_legend_handles_labels()
            in_legend = [i for i, text in enumerate(texts) if panel is panels[0] or not text.startswith("best step")]
            panel.legend([handles[i] for i in in_legend], [texts[i] for i in in_legend], fontsize=8)
    panels[0].set_title(figure_text(_title(series.runs[0])), fontsize=10)
    return figure


def _panels(heights: Sequence[float], x: str) -> tuple[Figure, list[Axes]]:
    figure, panels = new_panels(len(heights), 1, 7.5, 1.0 + 2.4 * sum(heights), sharex=True, height_ratios=heights)
    for panel in panels:
        panel.grid(alpha=0.3)
        if x == "optim/lr":
            panel.set_xscale("log")
    panels[-1].set_xlabel(X_LABELS[x])
    return figure, panels


def _line(panel: Axes, curves: Sequence[Curve], colour: Any, label: str | None) -> None:
    if len(curves) == 1:
        xs, ys = curves[0]
    else:
        (xs, ys), low, high = mean_curve(curves)
        panel.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
    marker = "." if len(xs) <= FEW else None
    panel.plot(xs, ys, color=colour, label=label, marker=marker, linewidth=1.3)


def _mark_best(panel: Axes, series: Series, x: str) -> float | None:
    """Mark the best step; its x, or None if the run has none yet."""
    best = series.runs[0][1].best_step
    xs, _ = curve([row for row in series.rows[0] if row.get("step") == best], "step", x)
    if not xs:
        return None
    panel.axvline(xs[0], color="tab:red", linestyle=":", linewidth=1, label=f"best step {best}")
    return xs[0]


def _scale(panel: Axes, *, falls: bool) -> None:
    drawn: list[Any] = [line.get_ydata() for line in panel.get_lines()]
    values = [float(y) for ys in drawn for y in ys if math.isfinite(y)]
    if falls and values and min(values) > 0 and max(values) / min(values) > 10**DECADES:
        panel.set_yscale("log")


def _title(run: Run) -> str:
    path, record = run
    return truncate(path.resolve().name, 80) + f"  ({record.status})" * (record.status != "completed")
