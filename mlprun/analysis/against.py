"""The value that runs reached, against a key of their configs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from mlprun.analysis.configurations import Configuration, configurations, label_each
from mlprun.analysis.curves import Series, curve, metrics_of
from mlprun.analysis.plot import Look, add_legend, new_figure, repeats_of, styles
from mlprun.analysis.trials import SPREAD
from mlprun.analysis.where import nearest, values_of_run
from mlprun.errors import ConfigError, suggestion
from mlprun.formatting import as_typed
from mlprun.pictures.labels import figure_text
from mlprun.runs.collect import Run
from mlprun.runs.metrics import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Against:
    """Which value, at which end, against which key; there is a line for each config that is otherwise equal."""

    key: str
    metrics: Sequence[str]
    final: bool = False  # the last value, not that of the best checkpoint

    def value(self, run: Run, rows: Sequence[Row], metric: str) -> float | None:
        """The metric of a run; None if it has none that is finite."""
        record = run[1]
        if not self.final and metric in record.metrics:
            return record.metric(metric)
        until = math.inf if self.final or record.best_step is None else record.best_step
        _, values = curve([row for row in rows if row["step"] <= until], metric)
        return values[-1] if values and math.isfinite(values[-1]) else None


def metrics_to_compare(series: Sequence[Series], names: Sequence[str], *, final: bool) -> list[str]:
    """The names, or the monitor and its test metric; ConfigError for one that no run has."""
    tested = dict.fromkeys(name for each in series for _, record in each.runs for name in record.metrics)
    known = list(dict.fromkeys([*metrics_of(series), *tested]))
    for name in names:
        if name not in known:
            raise ConfigError("--metric", name, "no run has it", suggestion(name, known))
        if final and name.startswith("test/"):
            raise ConfigError("--final", ConfigError.MISSING, f"{name} is that of the best checkpoint", "leave it out")
    monitor = series[0].runs[0][1].monitor
    usual = [monitor] if final else [monitor, f"test/{monitor.removeprefix('val/')}"]
    return list(names) or [name for name in usual if name in known]


def draw_against(series: Sequence[Series], what: Against, look: Look) -> tuple[Figure, list[str]]:
    """The picture, with a panel for each metric, and what it leaves out."""
    every = [run for each in series for run in each.runs]
    at = [_value_of(each.runs[0], what.key) for each in series]
    if all(value is None for value in at):
        is_null = any(values_of_run(record, what.key) for _, record in every)
        problem = "is null in all of these runs" if is_null else "is no key of these runs"
        raise ConfigError("--against", what.key, problem, "" if is_null else nearest(what.key, every))
    numbers = [x for x in at if isinstance(x, int | float) and not isinstance(x, bool)]
    is_numeric = len(numbers) == sum(x is not None for x in at)
    if look.log_x and (not is_numeric or min(numbers) <= 0):
        raise ConfigError("--log-x", ConfigError.MISSING, f"not all values of {what.key} are above 0", "leave it out")
    spread = is_numeric and min(numbers) > 0 and max(numbers) >= SPREAD * min(numbers)
    look = replace(look, x=what.key, log_x=look.log_x or spread)
    groups = _groups(series, what.key)
    figure, panels = new_figure([1.0] * len(what.metrics), look, list(groups))
    left_out = []
    for panel, metric in zip(panels, what.metrics, strict=True):
        missing = 0
        for (label, members), style in zip(groups.items(), styles(len(groups)), strict=True):
            points: dict[Any, list[float]] = {}
            for each, x in ((series[i], at[i]) for i in members):
                values = [what.value(*pair, metric) for pair in zip(each.runs, each.rows, strict=True)]
                kept = [value for value in values if value is not None and not (look.log_y and value <= 0)]
                missing += len(values) - len(kept) * (x is not None)
                if kept and x is not None:
                    points.setdefault(x if is_numeric else as_typed(x), []).extend(kept)
            xs = sorted(points) if is_numeric else list(points)
            panel.plot(xs, [mean(points[x]) for x in xs], label=figure_text(label) or None, linewidth=1.3, **style)
            dots = [(x, y) for x in xs for y in points[x]]
            panel.plot(*zip(*dots, strict=True) if dots else ([], []), "o", color=style["color"], markersize=4)
        if missing:
            above = " above 0" * look.log_y
            left_out.append(f"{metric}: {missing} of {len(every)} runs have no finite value{above}, and are left out")
        panel.set_ylabel(figure_text(metric))
        if look.log_y:
            panel.set_yscale("log")
    end = "last value" if what.final else "at the best checkpoint"
    several = repeats_of(series)
    panels[0].set_title(f"{end}; a dot is a run" + f", the line the mean of {several}" * bool(several), fontsize=10)
    add_legend(figure, panels[0], len(groups))
    return figure, left_out


def _value_of(run: Run, key: str) -> Any:
    values = values_of_run(run[1], key)
    return values[0] if values else None


def _groups(series: Sequence[Series], key: str) -> dict[str, list[int]]:
    """Label -> the numbers of the series whose configs differ in `key` alone."""
    from mlprun.config.identity import digest  # late: imports Hydra

    entries = [_without(configurations([each.runs[0]])[0], key) for each in series]
    members: dict[str, list[int]] = {}
    for i, each in enumerate(entries):
        members.setdefault(digest(each.config), []).append(i)
    labels = label_each([entries[numbers[0]] for numbers in members.values()])
    return dict(zip(labels, members.values(), strict=True))


def _without(entry: Configuration, key: str) -> Configuration:
    """The configuration without a key, or without the whole group that it chooses."""
    typed = {name: value for name, value in entry.typed.items() if name != key and not name.startswith(f"{key}.")}
    return replace(entry, config=_removed(entry.config, key.split(".")), typed=typed)


def _removed(config: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    name, *rest = path
    if not rest:
        return {key: value for key, value in config.items() if key != name}
    return {k: _removed(v, rest) if k == name and isinstance(v, Mapping) else v for k, v in config.items()}
