"""The configurations of a sweep as points: their values of the swept keys, their result, and when they ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from statistics import mean

from mlprun.analysis.configurations import Configuration, comparable_blocks, configurations, differing_columns
from mlprun.analysis.where import as_number
from mlprun.errors import RunError
from mlprun.formatting import pluralize
from mlprun.runs import sweep_record
from mlprun.runs.collect import Run, read_runs

SPREAD = 10  # values whose largest is so many times the smallest get a logarithmic axis
PAUSE_SEC = 60.0  # without any run, from which on the sweep is taken to have been stopped


@dataclass(frozen=True)
class Axis:
    """The values of a swept key: numbers, or texts as typed in alphabetical order."""

    key: str
    choices: tuple[str, ...] = ()  # empty: numbers
    is_log: bool = False
    low: float = 0.0  # whole numbers if all are
    high: float = 0.0

    def place(self, cell: str) -> float:
        """The number, or of a text its index."""
        return self.choices.index(cell) if self.choices else float(cell)

    def share(self, cell: str) -> float:
        """The place between the ends, from 0 to 1."""
        if self.choices:
            return self.place(cell) / (len(self.choices) - 1) if len(self.choices) > 1 else 0.5
        low, high, value = (math.log(x) if self.is_log else x for x in (self.low, self.high, self.place(cell)))
        return (value - low) / (high - low) if high > low else 0.5


@dataclass(frozen=True)
class Trial:
    """A configuration.

    Attributes:
        cells: its values, as typed, of the keys that it has.
        status: `completed` if all its seeds and folds are, else `failed` if one has, else `pruned` or `unfinished`.
        values: of the monitor, in each run; of a pruned one those reached. Empty if it failed.
        ended_sec: since the first run was started, without pauses; None if a record does not say it.
    """

    cells: dict[str, str]
    status: str
    values: list[float]
    ended_sec: float | None = None

    @property
    def value(self) -> float:
        return mean(self.values)


@dataclass(frozen=True, eq=False)
class Trials:
    """What can be compared in a sweep, in the order in which it ended.

    Attributes:
        repeats: what the mean is over, such as `3 seeds`; empty if each configuration is one run.
        notes: what is left out, a line each.
    """

    monitor: str
    higher_is_better: bool
    axes: list[Axis]
    all: list[Trial]
    repeats: str = ""
    notes: list[str] = field(default_factory=list)

    @cached_property
    def completed(self) -> list[Trial]:
        return self.having("completed")

    def having(self, status: str) -> list[Trial]:
        return [trial for trial in self.all if trial.status == status]

    def best_so_far(self) -> list[tuple[int, float]]:
        """The best value up to each completed trial, with the number of trials that had ended, from 1."""
        ended = [(i, trial.value) for i, trial in enumerate(self.all, 1) if trial.status == "completed"]
        best = accumulate((value for _, value in ended), max if self.higher_is_better else min)
        return list(zip((i for i, _ in ended), best, strict=True))

    def ranked(self) -> list[Trial]:
        """The completed ones, the best first."""
        return sorted(self.completed, key=lambda trial: trial.value, reverse=self.higher_is_better)


def read_trials_of(folders: Sequence[Path]) -> Trials:
    """The trials of the runs in these folders; RunError if none has been completed."""
    runs = [run for folder in folders for run in read_runs(folder)]
    scales: dict[str, str] = {}
    for folder in folders:
        if (record := sweep_record.read(folder)) is not None:
            scales |= record.scales
    return trials_of(list(dict(runs).items()), scales, ", ".join(map(str, folders)))


def trials_of(runs: Sequence[Run], scales: Mapping[str, str], where: str = "") -> Trials:
    """The trials of the runs, of the largest group of them that compares; RunError if none has been completed.

    Args:
        scales: `log` or `linear`, of keys for which it is known.
    """
    blocks = comparable_blocks(configurations(runs))
    block = max(blocks, key=lambda block: len(block.all), default=None)
    if block is None or not block.ranked:
        raise RunError(f"{where}: no completed run with a value of its monitor\n  name a sweep that has one")
    notes = []
    if others := sum(len(other.all) for other in blocks) - len(block.all):
        of = f"{block.all[0].data} by {block.all[0].monitor}"
        notes.append(f"left out: {pluralize(others, 'configuration')} that {of} cannot be compared with")
    columns = differing_columns(block.all)
    known = [_trial(c, {key: cells[i] for key, cells in columns.items() if cells[i]}) for i, c in enumerate(block.all)]
    if unfinished := sum(trial.status == "unfinished" for trial in known):
        notes.append(f"left out: {pluralize(unfinished, 'configuration')} with a run that has not ended")
    pairs = [(c, trial) for c, trial in zip(block.all, known, strict=True) if trial.status != "unfinished"]
    pairs.sort(key=lambda pair: max((str(record.get("ended_at")), str(path)) for path, record in _runs(pair[0])))
    clock = _clock([run for c, _ in pairs for run in _runs(c)])
    trials = [Trial(t.cells, t.status, t.values, _ended(c, clock)) for c, t in pairs]
    if not any(trial.status == "completed" for trial in trials):
        raise RunError(f"{where}: no configuration has completed all its runs\n  mlprun resume SWEEP_DIR runs the rest")
    counts = sorted({len(trial.values) for trial in trials if trial.status == "completed"})
    several = "-".join(map(str, dict.fromkeys((counts[0], counts[-1]))))
    repeats = f"{several} {'/'.join(sorted({c.varied for c in block.ranked}))}s" if counts[-1] > 1 else ""
    axes = [_axis(key, [t.cells[key] for t in trials if key in t.cells], scales.get(key)) for key in columns]
    best = block.all[0]
    return Trials(best.monitor, best.higher_is_better, [a for a in axes if a is not None], trials, repeats, notes)


def _runs(entry: Configuration) -> list[Run]:
    return [*entry.runs, *entry.failed, *entry.unfinished]


def _trial(entry: Configuration, cells: dict[str, str]) -> Trial:
    pruned = [record for _, record in entry.unfinished if record.status == "pruned"]
    if entry.failed:
        return Trial(cells, "failed", [])
    if pruned:
        reached = [value for record in pruned if (value := record.metric(entry.monitor)) is not None]
        return Trial(cells, "pruned", reached)
    return Trial(cells, "unfinished" if entry.unfinished else "completed", entry.values)


def _axis(key: str, cells: Sequence[str], scale: str | None) -> Axis | None:
    """The axis of a key with these values; None if all of them are equal."""
    numbers = [number for cell in cells if (number := as_number(cell)) is not None and math.isfinite(number)]
    different = sorted(set(cells))
    if len(different) < 2:
        return None
    if len(numbers) < len(cells):
        return Axis(key, tuple(different))
    is_int = all(isinstance(number, int) for number in numbers)
    low, high = (end if is_int else float(end) for end in (min(numbers), max(numbers)))
    is_log = low > 0 and (high >= SPREAD * low if scale is None else scale == "log")
    return Axis(key, (), is_log, low, high)


def _clock(runs: Iterable[Run]) -> list[tuple[float, float]] | None:
    """(time, pauses until then) at the end of each pause, the first at the beginning; None if a record lacks a time."""
    spans = []
    for _, record in runs:
        end = _time(record.get("ended_at"))
        if end is None:
            return None
        spans.append((end - (record.elapsed_sec or 0.0), end))
    spans.sort()
    clock = [(spans[0][0], spans[0][0])]  # what lies before the first run is one more pause
    last = spans[0][0]
    for start, end in spans:
        if start - last > PAUSE_SEC:
            clock.append((start, clock[-1][1] + start - last))
        last = max(last, end)
    return clock


def _ended(entry: Configuration, clock: Sequence[tuple[float, float]] | None) -> float | None:
    ends = [_time(record.get("ended_at")) for _, record in _runs(entry)]
    known = [end for end in ends if end is not None]
    if clock is None or not known:
        return None
    end = max(known)
    return end - max((pauses for time, pauses in clock if time <= end), default=clock[0][1])


def _time(text: object) -> float | None:
    """Seconds of an ISO 8601 time; None if it is none."""
    try:
        return datetime.fromisoformat(text).timestamp() if isinstance(text, str) else None
    except ValueError:
        return None
