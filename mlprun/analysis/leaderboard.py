"""The leaderboard: configurations ranked over their seeds, what chance may explain, and what failed."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
import shlex
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from mlprun.analysis.configurations import (
    SCORES,
    Block,
    Configuration,
    comparable_blocks,
    configurations,
    differing_columns,
    override_lines,
)
from mlprun.analysis.statistics import interval, mean_or_none, sd_or_none
from mlprun.analysis.table import (
    WIDTH,
    Column,
    decimal_places,
    exponent_of,
    format_numbers,
    render_columns,
    test_metric,
)
from mlprun.files import atomic_write, naming_path
from mlprun.formatting import pluralize, truncate_middle
from mlprun.runs.collect import Run, sort_by_name
from mlprun.text_table import render

TABLE_ROWS = 50
LISTED = 10  # runs that failed, or have not ended, that are listed


def leaderboard(runs: Sequence[Run], rows: int = TABLE_ROWS) -> list[str]:
    """Lines for the terminal: a table for each data set and metric, best first, then the runs without a result.

    Args:
        runs: as `read_runs` returns them.
        rows: of a table, at most.
    """
    entries = configurations(runs)
    sections = [_block_lines(block, rows) for block in comparable_blocks(entries)]
    damaged = [run for run in runs if not run[1].has_config]
    sections.append(_unfinished_lines(sort_by_name(run for c in entries for run in c.unfinished)))
    sections.append(_failed_lines(sort_by_name([*damaged, *(run for c in entries for run in c.failed)])))
    lines = [line for section in sections if section for line in ("", *section)]
    return lines[1:] or ["no runs"]


def _block_lines(block: Block, rows: int) -> list[str]:
    best = block.all[0]
    better = "higher" if best.higher_is_better else "lower"
    counted = f"{pluralize(len(block.all), 'configuration')}, {pluralize(sum(c.num_runs for c in block.all), 'run')}"
    counted += f", {failed} failed" if (failed := sum(len(c.failed) for c in block.all)) else ""
    lines = [f"{best.data}  {best.monitor} ({better} is better)  {counted}", *_table(block, rows)]
    if len(block.all) > rows:
        lines.append(f"… {len(block.all) - rows} more (leaderboard.csv has all)")
    lines += _notes(block)
    if block.ranked:
        sign = 1 if better == "lower" else -1
        run = min(best.runs, key=lambda run: sign * (run[1].metric(best.monitor) or 0.0))
        its = f"  the best of its {len(best.runs)} seeds" if len(best.runs) > 1 else ""
        equal = len(_equal_to_best(block))
        lines += [f"{'best ' if equal == 1 else 'equal'}   {_line_to_paste(best)}", f"run     {run[0]}{its}"]
    return lines


def _equal_to_best(block: Block) -> list[Configuration]:
    """The first, and those whose mean is the same but for the last bits: what differs does not show in `monitor`."""
    means = [math.fsum(c.values) / len(c.values) for c in block.ranked]
    return [c for c, mean in zip(block.ranked, means, strict=True) if math.isclose(mean, means[0], rel_tol=1e-6)]


def _notes(block: Block) -> list[str]:
    """What a reader of the table should know."""
    best, tests = block.all[0], block.separable[1:]
    notes = []
    if block.ranked and (equal := len(_equal_to_best(block))) > 1:
        notes.append(f"the first {equal} are equal in {best.monitor}: it does not choose between them")
    if tests and max(len(c.runs) for c in block.ranked) == 1:
        notes.append("one seed each: differences may be chance; add seed=0,1,2,3,4")
    elif tests:
        tested = [c for c, test in zip(block.ranked[1:], tests, strict=True) if test is not None]
        counts = sorted({len(c.runs) for c in (best, *tested)})
        how = f"at {'-'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds (Welch's t-test, 95%)"
        if same := tests.count(False):
            notes.append(f"= not separable from the best {how}: {pluralize(same, 'configuration')}")
        elif tested:
            notes.append(f"the best is separable from {'all others' if None not in tests else 'the others'} {how}")
        if unknown := tests.count(None):
            notes.append(f"? not tested, for it or the best has a single seed: {pluralize(unknown, 'configuration')}")
    if block.ranked and best.failed:
        notes.append(
            f"of the best's {pluralize(best.num_runs, 'run')}, {len(best.failed)} failed: its mean leaves them out"
        )
    if (
        best.monitor.endswith("/loss")
        and len({json.dumps(c.config.get("loss"), sort_keys=True) for c in block.all}) > 1
    ):
        notes.append(f"the losses differ, so {best.monitor} does not compare them: choose another monitor")
    if repeats := sum(len(c.repeats) for c in block.all):
        notes.append(f"{pluralize(repeats, 'run')} more of a seed that is there already: the newest counts")
    return notes


def _line_to_paste(best: Configuration) -> str:
    """The command that trains the configuration again."""
    path, record = min(best.runs, key=lambda run: run[1].is_reproduction)
    if record.overrides is None:
        return shlex.join(["mlprun", "reproduce", str(path)])
    overrides = [line for line in override_lines(record) if not re.match(r"[+~]*(seed=|(hydra|sweep)[=./@])", line)]
    return shlex.join(["mlprun", *_config_options(record.command), *overrides])


def _config_options(command: str) -> list[str]:
    """Where the command takes its config from, if not from mlprun's own."""
    options = []
    try:
        words = iter(shlex.split(command))
    except ValueError:  # an open quote
        return []
    for word in words:
        option, equals, _ = word.partition("=")
        if option in ("--config-dir", "-cd", "--config-name", "-cn"):
            options += [word] if equals else [word, next(words, "")]
    return options


def _unfinished_lines(runs: list[Run]) -> list[str]:
    rows = []
    for path, record in runs[:LISTED]:
        has_progress = record.steps is not None and record.num_steps is not None
        steps = f"  step {record.steps} of {record.num_steps}" if has_progress else ""
        rows.append((record.status, f"{path}{steps}"))
    return [*render(rows, "<<"), *_more(len(runs) - LISTED, "unfinished")]


def _failed_lines(runs: list[Run]) -> list[str]:
    lines = []
    for path, record in runs[:LISTED]:
        reason = record.error.strip().partition("\n")[0]
        if not reason:
            reason = "no finite value to rank it by" if record.status == "completed" else record.status
        file = path / "train.log"
        lines += [f"failed  {file if file.exists() else path}", f"  {truncate_middle(reason, WIDTH - 2)}"]
    return [*lines, *_more(len(runs) - LISTED, "failed")]


def _more(num_left: int, what: str) -> list[str]:
    return [f"… {num_left} more {what}"] if num_left > 0 else []


def _table(block: Block, rows: int) -> list[str]:
    entries = block.all[:rows]
    num_ranked = min(len(block.ranked), rows)
    columns = [Column("", [str(place) for place in range(1, num_ranked + 1)])]
    marks = [{None: "?", False: "=", True: ""}[test] for test in block.separable[1:]]
    if max((len(c.runs) for c in block.ranked), default=0) > 1 and any(marks):
        columns.append(Column("", ["", *marks]))
    for key, cells in differing_columns(block.all).items():
        is_number = all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|null|", cell) for cell in cells)
        for digits in (4, 6, 9):  # of numbers of many, such as a random search has, unless two would look alike
            short = [f"{float(cell):.{digits}g}" if is_number and len(cell) > digits + 4 else cell for cell in cells]
            if len(set(short)) == len(set(cells)):
                break
        else:
            short = cells
        columns.append(Column(key, short, is_number, flexible=True))
    if any(c.num_runs > 1 for c in entries):
        counts = [str(c.num_runs) if len(c.runs) == c.num_runs else f"{len(c.runs)} of {c.num_runs}" for c in entries]
        columns.append(Column("n", counts))

    means = [mean_or_none(c.values) for c in entries]
    places = decimal_places(means)
    statuses = [c.status for c in entries[num_ranked:]]
    columns.append(Column(block.all[0].monitor, [*format_numbers(means[:num_ranked], places), *statuses]))
    spread = [sd_or_none(c.values) for c in entries]
    if any(sd is not None for sd in spread):
        places = max(places, min(8, 1 - exponent_of(spread)))
        limits = [interval(c.values) for c in entries]
        halves = [None if limit is None else (limit[1] - limit[0]) / 2 for limit in limits]
        columns += [Column("sd", format_numbers(spread, places)), Column("±95%", format_numbers(halves, places))]
    if score := test_metric(block.all):
        scores = [mean_or_none(c.metric(score)) for c in entries]
        columns.append(Column(score, format_numbers(scores, decimal_places(scores))))
    columns.append(Column("sec", format_numbers([c.elapsed_sec for c in entries], 1)))
    if all(c.num_runs == 1 for c in block.all):
        paths = [(c.runs or c.failed or c.unfinished)[0][0] for c in block.all]
        above = os.path.commonpath([path.absolute().parent for path in paths])
        names = [os.path.relpath(path, above) for path in paths]
        columns.append(Column("run", names, right=False, flexible=True))
    return render_columns(columns, len(entries))


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Every configuration as a row of a table, in the leaderboard's order, with all digits.

    Columns: `rank` (from 1 for each data set and metric; empty without a result), the keys that differ, `n`, `data`,
    `monitor`, `mean`, `sd`, `ci95_low`, `ci95_high`, the mean of the test metrics (`test/accuracy_mean`),
    `elapsed_sec_mean`, `separable_from_best` (true, false, or empty where there is no test), and the directories of
    the `n` runs, of those that failed and of those that have not ended, from where the file lies, joined by `;`.

    Args:
        runs: as `read_runs` returns them.
        path: of the file; it is written whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    blocks = comparable_blocks(configurations(runs))
    swept = differing_columns([c for block in blocks for c in block.all])
    swept = {key: cells for key, cells in swept.items() if key not in ("data", "monitor")}
    scores = [name for name in SCORES if any(test_metric(block.all) == name for block in blocks)]
    header = ["rank", *swept, "n", "data", "monitor", "mean", "sd", "ci95_low", "ci95_high",
              *(f"{name}_mean" for name in scores), "elapsed_sec_mean", "separable_from_best",
              "runs", "failed_runs", "unfinished_runs"]  # fmt: skip
    rows: list[list[Any]] = []
    for block in blocks:
        for place, (c, test) in enumerate(zip_longest(block.all, block.separable), start=1):
            values, tested = c.values, "" if test is None else str(test).lower()
            folders = [
                [os.path.relpath(run, path.parent) for run, _ in group] for group in (c.runs, c.failed, c.unfinished)
            ]
            rows.append([
                place if values else None, *(cells[len(rows)] for cells in swept.values()),
                len(values), c.data, c.monitor, mean_or_none(values), sd_or_none(values),
                *(interval(values) or (None, None)),
                *(mean_or_none(c.metric(name)) for name in scores), c.elapsed_sec, tested, *map(";".join, folders),
            ])  # fmt: skip
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([header, *rows])
    with naming_path(path), atomic_write(path) as file:
        file.write(table.getvalue().encode())
