"""Curves of metrics.jsonl: of a run, of the seeds of a configuration, of a sweep."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlprun.analysis.configurations import configurations, labels
from mlprun.errors import RunError
from mlprun.runs import metrics
from mlprun.runs.collect import Run, read_runs
from mlprun.runs.directory import RunDirectory
from mlprun.runs.metrics import Row

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


def rows_of(path: Path) -> list[Row]:
    """The rows of a run's metrics.jsonl; empty for a run that has not logged yet.

    A last line without its end is left out: the run may be writing it.

    Args:
        path: of the run.

    Raises:
        RunError: a line is damaged, or the file cannot be read.
    """
    file = RunDirectory(path).metrics_file
    return metrics.read_rows(file, remedy="remove the line, then plot") if file.exists() else []


def curve(rows: Iterable[Row], metric: str, x: str = "step") -> Curve:
    """A metric over `x`: the rows that have both, in their order.

    Args:
        rows: as `rows_of` gives them.
        metric: such as `val/loss`.
        x: `step`, `epoch`, or any metric, such as `optim/lr`.

    Returns:
        x, finite numbers; y, NaN where the row has null. A value of `train/…` is the mean since the row before: one
        of much fewer steps than the others, before or after an evaluation, is merged with the next.
    """
    rows = _merged(list(rows), metric) if metric.startswith("train/") else rows
    points = [(row[x], row[metric]) for row in rows if metric in row and _is_number(row.get(x))]
    return [float(at) for at, _ in points], [float(y) if _is_number(y) else math.nan for _, y in points]


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
        runs = [(folder, record) for folder, record in read_runs(path) if record.has_config]
        if is_run(path):  # what lies below it is another matter
            groups += [[run] for run in runs[:1] if run[0] == path]
            continue
        for each in configurations(runs):
            kinds = ([run for run in kind if rows_of(run[0])] for kind in (each.runs, each.unfinished, each.failed))
            groups.append(next((kind for kind in kinds if kind), []))
    read = [(group, [rows_of(path) for path, _ in group]) for group in groups]
    drawn = {str([path for path, _ in group]): (group, rows) for group, rows in read if any(rows)}
    if not drawn:
        named = ", ".join(map(str, paths))
        raise RunError(
            f"{named}: no run with anything in its metrics.jsonl\n  name a run directory, or a folder of runs"
        )
    series = [Series("", group, rows) for group, rows in drawn.values()]
    series = [Series(label, s.runs, s.rows) for s, label in zip(series, _labels(series), strict=True)]
    if not all(map(is_run, paths)):  # 0.001, 0.01, 0.1, whatever order the directories have
        series.sort(key=lambda each: _numerically(each.label))
    return series


def is_run(path: Path) -> bool:
    return (path / "run.json").is_file()


def _numerically(label: str) -> list[tuple[float, str]]:
    """A key by which `lr=1e-3` comes before `lr=0.01`, and names are in the order of the alphabet."""
    words = re.split(r"[ =]", label)
    return [(float(word), "") if re.fullmatch(r"[\d.]+(e-?\d+)?", word) else (math.inf, word) for word in words]


def _labels(series: Sequence[Series]) -> list[str]:
    """What tells the series apart: keys of their configs, then seeds, then directories."""
    if len(series) == 1:
        return [""]
    firsts = [configurations([each.runs[0]])[0] for each in series]
    names = labels(firsts)

    def add(details: Sequence[str]) -> list[str]:
        twice = [names.count(text) > 1 for text in names]
        return [
            f"{text} {detail}".strip() if again else text
            for text, detail, again in zip(names, details, twice, strict=True)
        ]

    names = add([f"seed={s.runs[0][1].config.get('seed')}" if len(s.runs) == 1 else "" for s in series])
    return add([s.runs[0][0].name for s in series])


def default_metrics(series: Sequence[Series]) -> list[str]:
    """Losses, and the monitored or first other metric of the val split."""
    logged = metrics_of(series)
    monitor = series[0].runs[0][1].monitor
    scores = [monitor, "val/accuracy", "val/r2"]
    score = [name for name in scores if name in logged and name != "val/loss"][:1]
    return [name for name in ("train/loss", "val/loss", *score) if name in logged]


def metrics_of(series: Sequence[Series]) -> list[str]:
    """Every metric that a row has."""
    rows = (row for each in series for of_run in each.rows for row in of_run)
    return list(dict.fromkeys(name for row in rows for name in row if name not in ("step", "epoch")))
