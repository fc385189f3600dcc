"""Curves of metrics.jsonl as a picture: of one run, of several, or of a folder of them with the seeds together."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import re
import statistics
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.errors import ConfigError, RunError, suggestion
from mlprun.metric_names import lower_is_better
from mlprun.runs.compare import Run
from mlprun.runs.directory import RunDirectory
from mlprun.runs.report import configurations, labels, read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

AXES = ("step", "epoch", "optim/lr")
FORMATS = (".png", ".pdf", ".svg")
LISTED = 12  # entries of a legend
FEW = 40  # points of a curve that are marked one by one
DECADES = 2  # a loss that spans more is drawn on a logarithmic axis
X_LABELS = {"step": "step (optimizer updates)", "epoch": "epoch", "optim/lr": "learning rate"}

Row = dict[str, Any]  # of metrics.jsonl
Curve = tuple[list[float], list[float]]  # x and y; y is NaN where the value was not finite


@dataclass(frozen=True)
class Series:
    """Runs that are drawn in one colour.

    Attributes:
        label: what tells them from the others; may be empty.
        runs: one, or one a seed.
        rows: of metrics.jsonl, for each of `runs`.
    """

    label: str
    runs: list[Run]
    rows: list[list[Row]] = field(default_factory=list)


# ---------------------------------------------------------------------------------------------------- reading


def read_rows(path: Path) -> list[Row]:
    """The rows of a run's metrics.jsonl; empty for a run that has not logged yet.

    A last line without its end is left out: the run may be writing it.

    Args:
        path: of the run.

    Raises:
        RunError: a line is damaged, or the file cannot be read.
    """
    file = RunDirectory(path).metrics_file
    try:
        lines = file.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error
    rows = []
    for number, line in enumerate(lines[:-1], 1):
        try:
            rows.append(dict(json.loads(line)))
        except (ValueError, TypeError) as error:
            raise RunError(f"{file}, line {number}: damaged, not an object\n  remove the line, then plot") from error
    return rows


def curve(rows: Iterable[Row], metric: str, x: str = "step") -> Curve:
    """A metric over `x`: the rows that have both, in their order.

    Args:
        rows: as `read_rows` gives them.
        metric: such as `val/loss`.
        x: `step`, `epoch`, or any metric, such as `optim/lr`.

    Returns:
        x, finite numbers; y, NaN where the row has null. A value of `train/…` is the mean since the row before: one
        of much fewer steps than the others, before or after an evaluation, is merged with the next.
    """
    rows = _merged(list(rows), metric) if metric.startswith("train/") else rows
    found = [(row[x], row[metric]) for row in rows if metric in row and _is_number(row.get(x))]
    return [float(at) for at, _ in found], [float(y) if _is_number(y) else math.nan for _, y in found]


def _merged(rows: list[Row], metric: str) -> list[Row]:
    """Rows whose windows are at least half as long as the median window, of means weighted by the steps in them."""
    rows = [row for row in rows if metric in row]
    widths = [row["step"] - before for row, before in zip(rows, [0, *(row["step"] for row in rows)], strict=False)]
    least = statistics.median(widths) / 2 if widths else 0
    merged: list[Row] = []
    total, steps = 0.0, 0
    for row, width in zip(rows, widths, strict=True):
        total += width * row[metric] if _is_number(row[metric]) else math.nan
        steps += width
        if steps >= least:
            merged.append({**row, metric: total / steps if steps else row[metric]})
            total, steps = 0.0, 0
    return merged


def mean_curve(curves: Sequence[Curve]) -> tuple[Curve, list[float], list[float]]:
    """The mean of several curves where all have a point, and the smallest and largest value there."""
    tables = [dict(zip(*each, strict=True)) for each in curves]
    shared = [at for at in tables[0] if all(at in table for table in tables)]
    columns = [[table[at] for table in tables] for at in shared]
    gaps = [any(math.isnan(y) for y in column) for column in columns]
    middle = [math.nan if gap else math.fsum(ys) / len(ys) for gap, ys in zip(gaps, columns, strict=True)]
    low = [math.nan if gap else min(ys) for gap, ys in zip(gaps, columns, strict=True)]
    high = [math.nan if gap else max(ys) for gap, ys in zip(gaps, columns, strict=True)]
    return (shared, middle), low, high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# --------------------------------------------------------------------------------------------- what is drawn


def collect(paths: Sequence[Path]) -> list[Series]:
    """What is to be drawn: each run that is named by itself, and those of each folder with their seeds together.

    A configuration of a folder stands for its completed runs; where there is none for those that have not ended,
    then for those that failed. Runs without a row are left out.

    Args:
        paths: run directories, or folders that hold runs, such as a sweep's.

    Raises:
        RunError: there is no such folder, or no run with a row in it.
    """
    groups: list[list[Run]] = []
    for path in paths:
        runs = [(folder, record) for folder, record in read_runs(path) if "config" in record]
        if _is_run(path):  # what lies below it is another matter
            groups += [[run] for run in runs[:1] if run[0] == path]
            continue
        for found in configurations(runs):
            kinds = (
                [run for run in kind if read_rows(run[0])] for kind in (found.runs, found.unfinished, found.failed)
            )
            groups.append(next((kind for kind in kinds if kind), []))
    read = [(group, [read_rows(path) for path, _ in group]) for group in groups]
    drawn = {str([path for path, _ in group]): (group, rows) for group, rows in read if any(rows)}
    if not drawn:
        named = ", ".join(map(str, paths))
        raise RunError(
            f"{named}: no run with anything in its metrics.jsonl\n  name a run directory, or a folder of runs"
        )
    series = [Series("", group, rows) for group, rows in drawn.values()]
    series = [Series(label, s.runs, s.rows) for s, label in zip(series, _labels(series), strict=True)]
    if not all(map(_is_run, paths)):  # 0.001, 0.01, 0.1, whatever order the directories have
        series.sort(key=lambda each: _numerically(each.label))
    return series


def _numerically(label: str) -> list[tuple[float, str]]:
    """A key by which `lr=1e-3` comes before `lr=0.01`, and names are in the order of the alphabet."""
    words = re.split(r"[ =]", label)
    return [(float(word), "") if re.fullmatch(r"[\d.]+(e-?\d+)?", word) else (math.inf, word) for word in words]


def _labels(series: Sequence[Series]) -> list[str]:
    """What tells the series apart: keys of their configs, then seeds, then directories."""
    if len(series) == 1:
        return [""]
    firsts = [configurations([each.runs[0]])[0] for each in series]
    said = labels(firsts)

    def add(details: Sequence[str]) -> list[str]:
        twice = [said.count(text) > 1 for text in said]
        return [
            f"{text} {detail}".strip() if again else text
            for text, detail, again in zip(said, details, twice, strict=True)
        ]

    said = add([f"seed={s.runs[0][1]['config'].get('seed')}" if len(s.runs) == 1 else "" for s in series])
    return add([s.runs[0][0].name for s in series])


def default_metrics(series: Sequence[Series]) -> list[str]:
    """Losses, and the monitored or first other metric of the val split."""
    there = metrics_of(series)
    monitor = str(series[0].runs[0][1]["config"]["monitor"])
    scores = [monitor, "val/accuracy", "val/r2"]
    score = [name for name in scores if name in there and name != "val/loss"][:1]
    return [name for name in ("train/loss", "val/loss", *score) if name in there]


def metrics_of(series: Sequence[Series]) -> list[str]:
    """Every metric that a row has."""
    rows = (row for each in series for of_run in each.rows for row in of_run)
    return list(dict.fromkeys(name for row in rows for name in row if name not in ("step", "epoch")))


# --------------------------------------------------------------------------------------------------- drawing


def draw(series: Sequence[Series], metrics: Sequence[str], x: str = "step") -> Figure:
    """A panel for each metric, with a line for each series: the mean of several seeds, and the band of their values.

    Args:
        series: as `collect` gives them.
        metrics: such as `val/loss`.
        x: one of `AXES`; the axis of `optim/lr` is logarithmic.
    """
    figure, panels = _panels([1.0] * len(metrics), x)
    for panel, metric in zip(panels, metrics, strict=True):
        for each, colour in zip(series, _colours(len(series)), strict=True):
            curves = [curve(rows, metric, x) for rows in each.rows if rows]
            _line(panel, curves, colour, each.label or None)
        panel.set_ylabel(metric)
        _scale(panel, metric)
        if len(series) == 1 and len(series[0].runs) == 1 and x != "optim/lr":
            _mark_best(panel, series[0], x)
    counts = sorted({len(each.runs) for each in series})
    if counts[-1] > 1:
        several = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
        panels[0].set_title(f"mean of {several} seeds; the band is from the smallest to the largest", fontsize=10)
    elif len(series) == 1:
        panels[0].set_title(_title(series[0].runs[0]), fontsize=10)
    if len(series) > 1:
        _legend(figure, panels[0], len(series))
    return figure


def draw_run(series: Series, x: str = "step") -> Figure:
    """One run: the losses in a panel, accuracy or the like below it, the learning rate in a narrow third.

    The test scores are marked at the best step, and a line goes through all panels there.
    """
    rows, (_, record) = series.rows[0], series.runs[0]
    there = metrics_of([series])
    score = next((name for name in default_metrics([series]) if not name.endswith("/loss")), None)
    upper = [["train/loss", "val/loss"]]
    if score is not None:
        upper.append([f"train/{score.partition('/')[2]}", score])
    lower = [["optim/lr"]] if "optim/lr" in there else []
    figure, panels = _panels([1.0] * len(upper) + [0.4] * len(lower), x)
    colours = {"train": "tab:blue", "val": "tab:orange", "optim": "tab:gray"}
    for panel, metrics in zip(panels, [*upper, *lower], strict=True):
        name = metrics[-1].partition("/")[2]
        for metric in metrics:
            if metric in there:
                _line(panel, [curve(rows, metric, x)], colours[metric.partition("/")[0]], metric)
        _scale(panel, metrics[-1])
        panel.set_ylabel("learning rate" if name == "lr" else name.replace("_", " "))
        at = _mark_best(panel, series, x)
        tested = (record.get("metrics") or {}).get(f"test/{name}")
        if at is not None and tested is not None:
            panel.plot([at], [tested], "*", color="tab:red", markersize=12, label=f"test/{name} {tested:.4g}")
        if name != "lr":  # the line at the best step is named once
            handles, texts = panel.get_legend_handles_labels()
            kept = [i for i, text in enumerate(texts) if panel is panels[0] or not text.startswith("best step")]
            panel.legend([handles[i] for i in kept], [texts[i] for i in kept], fontsize=8)
    panels[0].set_title(_title(series.runs[0]), fontsize=10)
    return figure


def _panels(heights: Sequence[float], x: str) -> tuple[Figure, list[Axes]]:
    """A figure with panels below each other that share the horizontal axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 1.0 + 2.4 * sum(heights)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights})
    panels: list[Axes] = [row[0] for row in grid]
    for panel in panels:
        panel.grid(alpha=0.3)
        if x == "optim/lr":
            panel.set_xscale("log")
    panels[-1].set_xlabel(X_LABELS[x])
    return figure, panels


def _line(panel: Axes, curves: Sequence[Curve], colour: Any, label: str | None) -> None:
    """One curve, or the mean of several and their band."""
    if len(curves) == 1:
        xs, ys = curves[0]
    else:
        (xs, ys), low, high = mean_curve(curves)
        panel.fill_between(xs, low, high, color=colour, alpha=0.2, linewidth=0)
    marker = "." if len(xs) <= FEW else None
    panel.plot(xs, ys, color=colour, label=label, marker=marker, linewidth=1.3)


def _mark_best(panel: Axes, series: Series, x: str) -> float | None:
    """A line at the best step, and where that is; None where the run has no best step yet."""
    best = series.runs[0][1].get("best_step")
    xs, _ = curve([row for row in series.rows[0] if row.get("step") == best], "step", x)
    if not xs:
        return None
    panel.axvline(xs[0], color="tab:red", linestyle=":", linewidth=1, label=f"best step {best}")
    return xs[0]


def _scale(panel: Axes, metric: str) -> None:
    """A logarithmic axis for what is a loss or the like, and spans decades."""
    drawn: list[Any] = [line.get_ydata() for line in panel.get_lines()]
    values = [float(y) for ys in drawn for y in ys if math.isfinite(y)]
    falls = metric != "optim/lr" and lower_is_better(metric)
    if falls and values and min(values) > 0 and max(values) / min(values) > 10**DECADES:
        panel.set_yscale("log")


def _colours(count: int) -> list[Any]:
    from matplotlib import colormaps

    if count <= 10:
        return [colormaps["tab10"](i) for i in range(count)]
    return [colormaps["viridis"](0.95 * i / (count - 1)) for i in range(count)]


def _legend(figure: Figure, panel: Axes, count: int) -> None:
    """Below the panels, for labels may be long."""
    handles, texts = panel.get_legend_handles_labels()
    chosen = range(count) if count <= LISTED else [round(i * (count - 1) / (LISTED - 1)) for i in range(LISTED)]
    title = None if count <= LISTED else f"{LISTED} of {count}"
    longest = max(len(text) for text in texts)
    figure.legend(
        [handles[i] for i in chosen], [texts[i] for i in chosen], loc="outside lower center", fontsize=8, title=title,
        ncols=max(1, min(3, 100 // (longest + 8))),
    )  # fmt: skip


def _title(run: Run) -> str:
    path, record = run
    status = str(record.get("status"))
    name = path.resolve().name
    return (name if len(name) <= 80 else f"{name[:79]}…") + ("" if status == "completed" else f"  ({status})")


# ------------------------------------------------------------------------------------------------------ the verb


def command(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> int:
    """`mlprun plot RUN_DIR …`."""
    parser.add_argument("paths", type=Path, metavar="RUN_DIR", nargs="+", help="or a sweep, or any folder of runs")
    parser.add_argument(
        "--metric", action="append", metavar="NAME", help="a panel for this one, such as val/accuracy; may be repeated"
    )
    parser.add_argument("--x", default="step", metavar="|".join(AXES), help="the horizontal axis; step by default")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)}; by default curves.png")
    options = parser.parse_intermixed_args(arguments)
    if options.x not in AXES:
        raise ConfigError("--x", options.x, "no such axis", suggestion(options.x, AXES))
    if options.output and options.output.suffix not in FORMATS:
        raise ConfigError("--output", options.output, "is no picture", f"let it end in {', '.join(FORMATS)}")
    series = collect(options.paths)
    there = metrics_of(series)
    for name in options.metric or []:
        if name not in there:
            raise ConfigError("--metric", name, "no row has it", suggestion(name, there))
    if missing := len(_named_runs(options.paths)) - sum(len(each.runs) for each in series):
        left_out = _named_runs(options.paths) - {path for each in series for path, _ in each.runs}
        named = ", ".join(str(path) for path in sorted(left_out)[:3]) + ", …" * (missing > 3)
        why = "no row yet, another try of a seed, or not completed where others are"
        print(f"left out ({why}): {named}", file=sys.stderr)
    alone = len(series) == 1 and len(series[0].runs) == 1
    if alone and not options.metric and options.x != "optim/lr":
        figure = draw_run(series[0], options.x)
    else:
        figure = draw(series, list(dict.fromkeys(options.metric or default_metrics(series))), options.x)
    print(_save(figure, options.output or _place(options.paths, series)))
    return 0


def _named_runs(paths: Sequence[Path]) -> set[Path]:
    return {path for folder in paths for path, _ in ([(folder, 0)] if _is_run(folder) else read_runs(folder))}


def _is_run(path: Path) -> bool:
    return (path / "run.json").is_file()


def _place(paths: Sequence[Path], series: Sequence[Series]) -> Path:
    """curves.png in the run, or in the folder that holds all."""
    if len(series) == 1 and len(series[0].runs) == 1:
        return series[0].runs[0][0] / "curves.png"
    folder = Path(os.path.commonpath([path.absolute() for path in paths]))
    return Path(os.path.relpath(folder) if Path.cwd() in [folder, *folder.parents] else folder, "curves.png")


def _save(figure: Figure, file: Path) -> Path:
    """Write the picture; returns its path.

    Raises:
        RunError: it cannot be written.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format=file.suffix[1:])
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture.getvalue())
    except OSError as error:
        raise RunError(f"{file} cannot be written: {error.strerror}\n  choose another with --output FILE") from error
    return file
