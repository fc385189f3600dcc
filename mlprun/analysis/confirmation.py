"""What the runs of `sweep.confirm` say: the best configurations on seeds that did not choose them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from mlprun.analysis.configurations import Block, Configuration, label_each, repeat_of
from mlprun.analysis.statistics import Paired, paired, sd_or_none
from mlprun.formatting import format_metric, pluralize, truncate_middle
from mlprun.text_table import render


@dataclass(frozen=True)
class Confirmed:
    """A configuration on fresh seeds.

    Attributes:
        rank: in the leaderboard, from 1, by the seeds of the sweep.
        against: the first confirmed one minus this, on the seeds of both; None for the first.
    """

    rank: int
    entry: Configuration
    against: Paired | None

    @property
    def optimism(self) -> float:
        """By how much the sweep's mean was better than that of the fresh seeds."""
        difference = mean(self.entry.values) - mean(self.entry.confirmed.values())
        return difference if self.entry.higher_is_better else -difference


def confirmed_of(block: Block) -> list[Confirmed]:
    """Those with a completed run on a fresh seed, in the order of the leaderboard."""
    entries = [(rank, entry) for rank, entry in enumerate(block.ranked, 1) if entry.confirmed]
    found: list[Confirmed] = []
    for rank, entry in entries:
        first, own = entries[0][1].confirmed, entry.confirmed
        shared = [repeat for repeat in own if repeat in first]
        differences = [own[repeat] - first[repeat] for repeat in shared]
        found.append(Confirmed(rank, entry, paired(differences) if found and shared else None))
    return found


def confirmation_lines(block: Block) -> list[str]:
    """The table of the confirmed configurations and a summary of it; empty if there are none."""
    rows = confirmed_of(block)
    if not rows:
        return []
    first, monitor = rows[0], block.all[0].monitor
    labels = label_each(block.all)
    seeds = sorted({str(repeat_of(record)[0]) for row in rows for _, record in row.entry.confirming})
    tested = list(dict.fromkeys(name for row in rows for name in row.entry.tested))
    title = f"confirmed on {pluralize(len(seeds), 'fresh seed')} ({seeds[0]} to {seeds[-1]}), which did not select them"
    table = [["", "", "n", "in the sweep", monitor, "sd", "difference", "±95%", "p", *tested]]
    for row in rows:
        values, against = list(row.entry.confirmed.values()), row.against
        spread = sd_or_none(values)
        cells = [format_metric(mean(row.entry.values)), format_metric(mean(values))]
        cells += ["" if spread is None else format_metric(spread)]
        cells += ["" if against is None else f"{against.difference:+.4f}"]
        cells += ["" if against is None or against.half is None else format_metric(against.half)]
        cells += ["" if against is None or against.p is None else f"{against.p:.2g}"]
        scores = [[v for _, r in row.entry.confirming if (v := r.metric(name)) is not None] for name in tested]
        cells += [format_metric(mean(score)) if score else "" for score in scores]
        count = f"{len(values)} of {len(row.entry.confirming)}" if len(values) < len(row.entry.confirming) else ""
        label = truncate_middle(labels[row.rank - 1], 40)
        table.append([str(row.rank), label, count or str(len(values)), *cells])
    return [title, *render(table, "><" + ">" * (len(table[0]) - 2)), *_notes(rows, first)]


def _notes(rows: Sequence[Confirmed], first: Confirmed) -> list[str]:
    monitor = first.entry.monitor
    size = format_metric(abs(first.optimism))
    flattered = f"the sweep flattered it by {size}" if first.optimism > 0 else f"not flattered, but {size} better"
    before, now = format_metric(mean(first.entry.values)), format_metric(mean(first.entry.confirmed.values()))
    notes = [f"{first.rank}: {monitor} {before} in the sweep, {now} on fresh seeds: {flattered}"]
    sign = 1 if first.entry.higher_is_better else -1
    tests = [(row, row.against) for row in rows if row.against is not None]
    how = "on the same seeds (paired t-test, 95%, not corrected for several)"
    better = [row.rank for row, against in tests if sign * against.difference > 0]
    if better:
        notes.append(f"better than {first.rank} on fresh seeds: {', '.join(map(str, better))}")
    tested = [(row.rank, against.p) for row, against in tests if against.p is not None]
    apart = [str(rank) for rank, p in tested if p < 0.05]
    if apart:
        notes.append(f"separable from {first.rank}: {', '.join(apart)} {how}")
    elif tested:
        notes.append(f"none is separable from {first.rank} {how}")
    return notes
