"""Curves of metrics.jsonl: of a run, of the seeds or folds of a configuration, of a sweep."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlprun.analysis.configurations import configurations, label_each, repeat_of
from mlprun.errors import RunError
from mlprun.runs import metrics
from mlprun.runs.collect import Run, read_runs
from mlprun.runs.directory import RunDirectory
from mlprun.runs.metrics import Row
from mlprun.runs.record import RunRecord, warn_of_change

AXES = ("step", "epoch", "seconds")
SPEED = "perf/examples_per_sec"
Curve = tuple[list[float], list[float]]  # x and y


@dataclass(frozen=True)
class Series:
    """Runs that share a colour and a label: one, or one per seed or fold."""

    label: str
    runs: list[Run]
    rows: list[list[Row]]  # of metrics.jsonl, for each run


def rows_of(run: Run) -> list[Row]:
    """The rows of a run's metrics.jsonl; a last line without its newline is still being written, and left out."""
    file, record = RunDirectory(run[0]).metrics_file, run[1]
    if not file.exists():
        return []
    if "metrics_sha256" in record and record["metrics_sha256"] != metrics.sum_of(file):
        warn_of_change(file)
    return metrics.read_rows(file, remedy="remove the line, then plot")


def with_seconds(rows: list[Row], record: RunRecord) -> list[Row]:
    """The rows with `seconds`, the training time until then, without evaluations, pauses and what a kill undid.

    It is the sum of examples over `perf/examples_per_sec` of each row that has it, interpolated by steps between them;
    rows of a run that logged no speed get none.
    """
    sizes, steps, batch_size = record.data.get("sizes"), record.steps_per_epoch, record.config.get("batch_size")
    train: Any = sizes.get("train") if isinstance(sizes, dict) else None
    per_step = train / steps if _is_number(train) and steps else batch_size
    at, seconds, speed = [0], [0.0], 0.0
    for row in rows:
        if _is_number(row.get(SPEED)) and row[SPEED] > 0 and _is_number(per_step):
            speed = row[SPEED]
            seconds.append(seconds[-1] + (row["step"] - at[-1]) * per_step / speed)
            at.append(row["step"])
    if not speed:
        return rows
    seconds.append(seconds[-1] + (rows[-1]["step"] - at[-1]) * per_step / speed)
    at.append(rows[-1]["step"])
    known = np.interp([row["step"] for row in rows], at, seconds).tolist()
    return [{**row, "seconds": sec} for row, sec in zip(rows, known, strict=True)]


def curve(rows: Iterable[Row], metric: str, x: str = "step") -> Curve:
    """A metric over `x` (`step`, `epoch` or any metric), from the rows that have both; y is NaN where the row has null.

    A value of `train/…` is the mean since the previous row. Before or after an evaluation it may cover far fewer
    steps than the others: such a row is merged with the next.
    """
    rows = _merged(list(rows), metric) if metric.startswith("train/") else rows
    points = [(row[x], row[metric]) for row in rows if metric in row and _is_number(row.get(x))]
    return [float(at) for at, _ in points], [float(y) if _is_number(y) else math.nan for _, y in points]


def _merged(rows: list[Row], metric: str) -> list[Row]:
    """Rows that cover at least half the median number of steps, averaged by steps."""
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


def mean_curve(curves: Sequence[Curve], x: str = "step") -> tuple[Curve, list[float], list[float]]:
    """Mean, minimum and maximum of several curves at the x that all of them have; of seconds, at times between."""
    if x == "seconds":
        first, last = max(xs[0] for xs, _ in curves), min(xs[-1] for xs, _ in curves)
        times = np.linspace(first, last, max(len(xs) for xs, _ in curves)) if first <= last else np.array([])
        curves = [(times.tolist(), np.interp(times, *each).tolist()) for each in curves]
    tables = [dict(zip(*each, strict=True)) for each in curves]
    shared = [at for at in tables[0] if all(at in table for table in tables)]
    ys = np.array([[table[at] for at in shared] for table in tables]).reshape(len(curves), len(shared))
    return (shared, ys.mean(0).tolist()), ys.min(0).tolist(), ys.max(0).tolist()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def collect(paths: Sequence[Path]) -> list[Series]:
    """The series to draw: each run named by itself, and each configuration of a folder; RunError if there is none.

    Of a folder's configuration, its completed runs are drawn; without any, the unfinished, else the failed ones. Runs
    without a row are left out.
    """
    drawn: dict[str, Series] = {}
    for path in paths:
        runs = [run for run in read_runs(path) if run[1].has_config]
        if is_run(path):  # runs below it are not its own
            RunDirectory(path).read()  # else a damaged one would only be missing
            choices = [[[run for run in runs if run[0] == path]]]
        else:
            choices = [[c.runs, c.unfinished, c.failed] for c in configurations(runs)]
        for choice in choices:
            read = ([(run, rows) for run in kind if (rows := rows_of(run))] for kind in choice)
            pairs = next(filter(None, read), [])
            if group := [run for run, _ in pairs]:
                rows_of_all = [with_seconds(rows, run[1]) for run, rows in pairs]
                drawn[str([path for path, _ in group])] = Series("", group, rows_of_all)
    if not drawn:
        problem = f"{', '.join(map(str, paths))}: no run with anything in its metrics.jsonl"
        raise RunError(f"{problem}\n  name a run directory, or a folder of runs")
    labels = _labels(list(drawn.values()))
    series = [replace(each, label=label) for each, label in zip(drawn.values(), labels, strict=True)]
    if not all(map(is_run, paths)):  # 0.001, 0.01, 0.1, whatever order the directories have
        series.sort(key=lambda each: _numerically(each.label))
    return series


def is_run(path: Path) -> bool:
    return (path / "run.json").is_file()


def _numerically(label: str) -> list[tuple[float, str]]:
    """A sort key that puts `lr=1e-3` before `lr=0.01`, and sorts words alphabetically."""
    words = re.split(r"[ =,\[\]]+", label)
    return [(float(word), "") if re.fullmatch(r"[\d.]+(e-?\d+)?", word) else (math.inf, word) for word in words]


def _labels(series: Sequence[Series]) -> list[str]:
    """Label the series by config keys, then seeds and folds, then directories, until they differ."""
    if len(series) == 1:
        return [""]
    names = label_each([configurations([each.runs[0]])[0] for each in series])
    repeats = [repeat_of(s.runs[0][1]) if len(s.runs) == 1 else None for s in series]
    words = [
        f"seed={each[0]}" + ("" if each[1] is None else f" data.fold={each[1]}") if each else "" for each in repeats
    ]
    for details in (words, [s.runs[0][0].name for s in series]):
        pairs = zip(names, details, strict=True)
        names = [f"{name} {detail}".strip() if names.count(name) > 1 else name for name, detail in pairs]
    return names


def default_metrics(series: Sequence[Series]) -> list[str]:
    """The losses, and the monitored or another metric of the val split."""
    logged = metrics_of(series)
    scores = [series[0].runs[0][1].monitor, "val/accuracy", "val/r2"]
    score = [name for name in scores if name in logged and name != "val/loss"][:1]
    return [name for name in ("train/loss", "val/loss", *score) if name in logged]


def metrics_of(series: Sequence[Series]) -> list[str]:
    rows = (row for each in series for of_run in each.rows for row in of_run)
    return list(dict.fromkeys(name for row in rows for name in row if name not in AXES))
