"""The columns of a leaderboard: what there is, what was asked for, and in which order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from mlprun.analysis.configurations import Block, Configuration, differing_columns, find_value, group_cells
from mlprun.analysis.diff import MISSING
from mlprun.analysis.statistics import interval, mean_or_none, sd_or_none
from mlprun.analysis.where import as_number, nearest
from mlprun.errors import ConfigError
from mlprun.formatting import as_typed


@dataclass(frozen=True)
class View:
    """How a leaderboard is shown.

    Attributes:
        sort: a column, a metric or a key of the config; empty: by rank. Metrics have the best first, all others the
            smallest.
        columns: likewise; empty: those that `Columns` has.
        wide: whatever the width of the terminal.
    """

    sort: str = ""
    reverse: bool = False
    columns: Sequence[str] = ()
    wide: bool = False


class Columns(dict[str, list[Any]]):
    """The columns of the full table, with a cell for each configuration, in the order of the blocks."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = blocks
        self.entries = entries = [c for block in blocks for c in block.all]
        tests = [test for block in blocks for _, test in zip_longest(block.all, block.separable)]
        places = [place for block in blocks for place in range(1, len(block.all) + 1)]
        values = [c.values for c in entries]
        limits = [interval(v) or (None, None) for v in values]
        swept = {key: cells for key, cells in differing_columns(entries).items() if key not in ("data", "monitor")}
        scores = dict.fromkeys(name for c in entries for name in c.tested)
        super().__init__(
            {
                "rank": [place if v else None for place, v in zip(places, values, strict=True)],
                **swept,
                "n": list(map(len, values)),
                "data": [c.data for c in entries],
                "monitor": [c.monitor for c in entries],
                "mean": list(map(mean_or_none, values)),
                "sd": list(map(sd_or_none, values)),
                "ci95_low": [low for low, _ in limits],
                "ci95_high": [high for _, high in limits],
                **{f"{name}_mean": [mean_or_none(c.metric(name)) for c in entries] for name in scores},
                **(_confirmed(entries) if any(c.confirming for c in entries) else {}),
                "elapsed_sec_mean": [c.elapsed_sec for c in entries],
                "separable_from_best": tests,
                "runs": [[path for path, _ in c.runs] for c in entries],
                "failed_runs": [[path for path, _ in c.failed] for c in entries],
                "unfinished_runs": [[path for path, _ in c.unfinished] for c in entries],
            }
        )

    def cells(self, key: str, option: str) -> list[Any]:
        """A column of the table, or the mean of a metric, or a key of the config; ConfigError if there is none."""
        if key in self or not self.entries:
            return self.get(key, [])
        runs = [[*c.runs, *c.repeats, *c.failed, *c.unfinished] for c in self.entries]
        if any(key in record.metrics for of_one in runs for _, record in of_one):
            return [mean_or_none(c.metric(key)) for c in self.entries]
        if any(key in c.typed or find_value(c.config, key) is not MISSING for c in self.entries):
            return group_cells(self.entries, key)
        found = [[find_value(record.config, key) for _, record in of_one] for of_one in runs]  # such as seed
        cells = [dict.fromkeys(as_typed(value) for value in values if value is not MISSING) for values in found]
        if any(cells):
            return [",".join(names) for names in cells]
        every = [run for of_one in runs for run in of_one]
        raise ConfigError(
            option, key, "neither a column, nor a metric or key of these runs", nearest(key, every, *self)
        )

    def order(self, view: View, numbers: range) -> list[int]:
        """The numbers of these configurations in the order asked for."""
        if not view.sort or not numbers:
            return list(numbers[::-1] if view.reverse else numbers)
        cells = self.cells(view.sort, "--sort")
        is_better_high = _is_metric(view.sort, self.entries) and _higher_is_better(view.sort, self.entries)
        present = [i for i in numbers if cells[i] not in (None, "")]
        present.sort(key=lambda i: _place(cells[i]), reverse=is_better_high != view.reverse)
        return present + [i for i in numbers if cells[i] in (None, "")]


def _confirmed(entries: Sequence[Configuration]) -> dict[str, list[Any]]:
    """On the fresh seeds of `sweep.confirm`."""
    values = [list(c.confirmed.values()) for c in entries]
    return {
        "confirmed_n": list(map(len, values)),
        "confirmed_mean": list(map(mean_or_none, values)),
        "confirmed_sd": list(map(sd_or_none, values)),
    }


def _is_metric(name: str, entries: Sequence[Configuration]) -> bool:
    name = name.removesuffix("_mean")
    return name == "mean" or any(c.metric(name) for c in entries)


def _higher_is_better(name: str, entries: Sequence[Configuration]) -> bool:
    if name in ("mean", "ci95_low", "ci95_high"):
        return entries[0].higher_is_better
    runs = [run for c in entries for run in c.runs]
    return bool(runs) and runs[0][1].higher_is_better(name.removesuffix("_mean"))


def _place(cell: Any) -> tuple[bool, float, str]:
    """Numbers, also those in texts, before all other texts."""
    number = as_number(cell) if isinstance(cell, str) else cell if isinstance(cell, int | float) else None
    return (number is None, number or 0, "" if number is not None else as_typed(cell))
