"""The leaderboard: configurations ranked by their mean over seeds or folds, with tests of significance, failed runs."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate, zip_longest
from pathlib import Path
from typing import Any

from mlprun.analysis.columns import Columns, View
from mlprun.analysis.configurations import (
    UNFINISHED,
    Block,
    Configuration,
    comparable_blocks,
    configurations,
    differing_columns,
    override_lines,
)
from mlprun.analysis.confirmation import confirmation_lines
from mlprun.analysis.statistics import interval, mean_or_none, sd_or_none
from mlprun.analysis.where import as_number
from mlprun.files import atomic_write, naming_path
from mlprun.formatting import as_typed, csv_cell, first_few, pluralize, truncate_middle
from mlprun.runs.collect import Run, sort_by_name
from mlprun.terminal import width
from mlprun.text_table import render

WIDTH = 120  # of a line, except on a terminal; paths and commands to paste may be longer
LISTED = 10  # failed or unfinished runs
DEFAULT = View()


def columns_of(runs: Iterable[Run]) -> Columns:
    """The full table of the runs."""
    return Columns(comparable_blocks(configurations(runs)))


def leaderboard(runs: Sequence[Run], rows: int = 50, view: View = DEFAULT, columns: Columns | None = None) -> list[str]:
    """Lines for the terminal: tables of at most `rows` per data set and metric, then unfinished and failed runs.

    A wide view has all rows. `columns` are those of the runs, if they are known.
    """
    rows = sys.maxsize if view.wide else rows
    columns = columns_of(runs) if columns is None else columns
    entries = columns.entries
    confirming = [run for c in entries for run in c.confirming if run[1].status != "completed"]
    failed_again = [run for run in confirming if run[1].status not in UNFINISHED]
    unfinished = [run for c in entries for run in c.unfinished]
    unfinished += [run for run in confirming if run not in failed_again]
    failed = [*(run for run in runs if not run[1].has_config), *(run for c in entries for run in c.failed)]
    failed += failed_again
    starts = accumulate([0, *(len(block.all) for block in columns.blocks)])
    numbered = zip(columns.blocks, starts, strict=False)
    sections = [_block_lines(block, rows, view, columns, start) for block, start in numbered]
    confirmed = map(confirmation_lines, columns.blocks)
    sections = [lines for pair in zip(sections, confirmed, strict=True) for lines in pair]
    sections += [_unfinished_lines(sort_by_name(unfinished)), _failed_lines(sort_by_name(failed))]
    lines = [line for section in sections if section for line in ("", *section)]
    return lines[1:] or ["no runs"]


def _block_lines(block: Block, rows: int, view: View, columns: Columns, start: int) -> list[str]:
    best = block.all[0]
    better = "higher" if best.higher_is_better else "lower"
    counted = f"{pluralize(len(block.all), 'configuration')}, {pluralize(sum(c.num_runs for c in block.all), 'run')}"
    counted += f", {failed} failed" if (failed := sum(len(c.failed) for c in block.all)) else ""
    lines = [f"{best.data}  {best.monitor} ({better} is better)  {counted}", *_table(block, rows, view, columns, start)]
    if len(block.all) > rows:
        lines.append(f"… {len(block.all) - rows} more (mlprun runs --wide has all)")
    lines += _notes(block)
    if block.ranked and (len(block.ranked) > 1 or not block.apart):  # alone, it is the best of nothing
        sign = 1 if better == "lower" else -1
        run = min(best.runs, key=lambda run: sign * (run[1].metric(best.monitor) or 0.0))
        its = f"  best of {pluralize(len(best.runs), best.varied)}" if len(best.runs) > 1 else ""
        equal = len(_equal_to_best(block))
        lines += [f"{'best ' if equal == 1 else 'equal'}   {_line_to_paste(best)}", f"run     {run[0]}{its}"]
    return lines


def _equal_to_best(block: Block) -> list[Configuration]:
    """Those whose mean equals the best up to rounding: `monitor` does not tell them apart."""
    means = [math.fsum(c.values) / len(c.values) for c in block.ranked]
    return [c for c, mean in zip(block.ranked, means, strict=True) if math.isclose(mean, means[0], rel_tol=1e-6)]


def _notes(block: Block) -> list[str]:
    best, tests = block.all[0], block.separable[1:]
    varied = "/".join(sorted({c.varied for c in block.ranked}))
    notes = []
    if block.ranked and (equal := len(_equal_to_best(block))) > 1:
        notes.append(f"the first {equal} are equal in {best.monitor}: it does not choose between them")
    if tests and max(len(c.runs) for c in block.ranked) == 1:
        remedy = "seed=0,1,2,3,4" if varied == "seed" else "the other folds"
        notes.append(f"one {varied} each: differences may be chance; add {remedy}")
    elif tests:
        tested = [c for c, test in zip(block.ranked[1:], tests, strict=True) if test is not None]
        counts = sorted({len(c.runs) for c in (best, *tested)})
        how = f"at {'-'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} {varied}s (Welch's t-test, 95%)"
        if same := tests.count(False):
            notes.append(f"= not separable from the best {how}: {pluralize(same, 'configuration')}")
        elif tested:
            notes.append(f"the best is separable from {'all others' if None not in tests else 'the others'} {how}")
        if unknown := tests.count(None):
            notes.append(f"? not tested, needs 2 or more {varied}s: {pluralize(unknown, 'configuration')}")
    if any(c.varied != "seed" and len(c.runs) > 1 for c in block.ranked):
        notes.append("folds share training examples: the intervals and tests are too narrow")
    if block.ranked and best.failed:
        count = pluralize(best.num_runs, "run")
        notes.append(f"of the best's {count}, {len(best.failed)} failed: its mean leaves them out")
    if block.apart:
        here = first_few([f"{difference.key}={difference.texts()[0]}" for difference in block.apart], 2)
        notes.append(f"not comparable with the other tables of {best.data}: {here}")
    if any(difference.key.startswith(("loss", "task")) for difference in block.apart):
        notes.append(f"the losses differ, so {best.monitor} does not compare them: choose another monitor")
    if repeats := sum(len(c.repeats) for c in block.all):
        notes.append(f"{pluralize(repeats, 'older run')} of the same {varied.replace('run', 'seed and fold')}: ignored")
    return notes


def _line_to_paste(best: Configuration) -> str:
    path, record = min(best.runs, key=lambda run: run[1].is_reproduction)
    if record.overrides is None or record.is_reproduction or not record.is_own:  # a stranger's line is not for pasting
        return shlex.join(["mlprun", "reproduce", str(path)])
    overrides = [
        line
        for line in override_lines(record)
        if not re.match(r"[+~]*(seed=|data\.(num_folds|fold)=|(hydra|sweep)[=./@])", line)
    ]
    options = []
    with contextlib.suppress(ValueError):  # an open quote
        words = iter(shlex.split(record.command))
        for word in words:
            option, equals, _ = word.partition("=")
            if option in ("--config-dir", "-cd", "--config-name", "-cn"):
                options += [word] if equals else [word, next(words, "")]
    return shlex.join(["mlprun", *options, *overrides])


def _unfinished_lines(runs: list[Run]) -> list[str]:
    runs = [(path, record) for path, record in runs if record.status != "pruned"]  # the table has them
    rows = []
    for path, record in runs[:LISTED]:
        has_progress = record.steps is not None and record.num_steps is not None
        rows.append((record.status, f"{path}" + f"  step {record.steps} of {record.num_steps}" * has_progress))
    more = [f"… {len(runs) - LISTED} more unfinished"] if len(runs) > LISTED else []
    return [*render(rows, "<<"), *more]


def _failed_lines(runs: list[Run]) -> list[str]:
    lines = []
    for path, record in runs[:LISTED]:
        reason = record.error.strip().partition("\n")[0]
        if not reason:
            reason = "no finite value to rank it by" if record.status == "completed" else record.status
        file = path / "train.log"
        lines += [f"failed  {file if file.exists() else path}", f"  {truncate_middle(reason, width(WIDTH) - 2)}"]
    return lines + ([f"… {len(runs) - LISTED} more failed"] if len(runs) > LISTED else [])


@dataclass
class _Column:
    title: str
    cells: list[str]
    right: bool = True
    flexible: bool = False  # may be truncated
    spare: int = 0  # the highest is hidden first where the terminal is narrow, 0 never


def _table(block: Block, rows: int, view: View, all_columns: Columns, start: int) -> list[str]:
    numbers = all_columns.order(view, range(start, start + len(block.all)))[:rows]
    order = [number - start for number in numbers]
    num_ranked = len(block.ranked)
    columns = [_Column("", [str(i + 1) if i < num_ranked else "" for i in order])]
    marks = [{None: "?", False: "=", True: ""}[test] for test in block.separable[1:]]
    if max((len(c.runs) for c in block.ranked), default=0) > 1 and any(marks):
        marks = ["", *marks, *[""] * len(block.others)]
        columns.append(_Column("", [marks[i] for i in order]))
    if view.columns:
        chosen = {name: all_columns.cells(name, "--columns") for name in view.columns if name != "rank"}
        columns += [_chosen_column(name, [cells[i] for i in numbers]) for name, cells in chosen.items()]
    else:
        columns += _usual_columns(block, [block.all[i] for i in order], order)
    table = zip_longest(*([column.title, *column.cells] for column in columns), fillvalue="")
    align = "".join("<>"[column.right] for column in columns)
    flexible = [i for i, column in enumerate(columns) if column.flexible]
    spare = sorted((i for i, column in enumerate(columns) if column.spare), key=lambda i: -columns[i].spare)
    max_width = sys.maxsize if view.wide else width(WIDTH)
    return render(table, align, max_width=max_width, flexible=flexible, spare=spare)


def _chosen_column(name: str, cells: list[Any]) -> _Column:
    numbers = [cell for cell in cells if cell is not None]
    if numbers and all(isinstance(cell, float) for cell in numbers):
        return _Column(name, _format_numbers(cells, _decimal_places(cells)))
    texts = [_as_text(cell) for cell in cells]
    return _Column(name, texts, all(not text or as_number(text) is not None for text in texts), flexible=True)


def _as_text(cell: Any) -> str:
    """A cell of the full table: nothing for None, directories joined by `;`."""
    if cell is None:
        return ""
    return ";".join(map(str, cell)) if isinstance(cell, list) else as_typed(cell)


def _usual_columns(block: Block, entries: list[Configuration], order: list[int]) -> list[_Column]:
    columns = []
    for key, cells in differing_columns(block.all).items():
        is_number = all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|null|", cell) for cell in cells)
        for digits in (4, 6, 9):  # shorten the long numbers of a random search, unless two would look alike
            short = [f"{float(cell):.{digits}g}" if is_number and len(cell) > digits + 4 else cell for cell in cells]
            if len(set(short)) == len(set(cells)):
                break
        else:
            short = cells
        columns.append(_Column(key, [short[i] for i in order], is_number, flexible=True))
    if any(c.num_runs > 1 for c in entries):
        counts = [str(c.num_runs) if len(c.runs) == c.num_runs else f"{len(c.runs)} of {c.num_runs}" for c in entries]
        columns.append(_Column("n", counts))

    means = [mean_or_none(c.values) for c in entries]
    places = _decimal_places(means)
    results = zip(entries, _format_numbers(means, places), strict=True)
    columns.append(_Column(block.all[0].monitor, [number if c.runs else c.status for c, number in results]))
    spread = [sd_or_none(c.values) for c in entries]
    if any(sd is not None for sd in spread):
        places = max(places, min(8, 1 - _exponent(spread)))
        limits = [interval(c.values) for c in entries]
        halves = [None if limit is None else (limit[1] - limit[0]) / 2 for limit in limits]
        columns.append(_Column("sd", _format_numbers(spread, places), spare=3))
        columns.append(_Column("±95%", _format_numbers(halves, places), spare=4))
    for place, name in enumerate(_tested(block.all)):
        scores = [mean_or_none(c.metric(name)) for c in entries]
        columns.append(_Column(name, _format_numbers(scores, _decimal_places(scores)), spare=min(place + 1, 2)))
    columns.append(_Column("sec", _format_numbers([c.elapsed_sec for c in entries], 1), spare=5))
    if all(c.num_runs == 1 for c in block.all):
        paths = [(c.runs or c.failed or c.unfinished)[0][0] for c in block.all]
        above = os.path.commonpath([path.absolute().parent for path in paths])
        names = [os.path.relpath(paths[i], above) for i in order]
        columns.append(_Column("run", names, right=False, flexible=True))
    return columns


def _tested(entries: Iterable[Configuration]) -> list[str]:
    return list(dict.fromkeys(name for c in entries for name in c.tested))


def _exponent(values: Iterable[float | None]) -> int:
    """The power of ten of the first value that is not 0."""
    return math.floor(math.log10(next((abs(value) for value in values if value), 1.0)))


def _decimal_places(values: Sequence[float | None]) -> int:
    """Enough for four digits of the first value, and at least four decimals below 10."""
    exponent = _exponent(values)
    return min(8, max(3 - exponent, 4 if exponent < 1 else 0))


def _format_numbers(values: Sequence[float | None], places: int) -> list[str]:
    """With `places` decimals; `3e-05` and `1e+07` where these would show 0 or fill the column."""

    def one(value: float | None) -> str:
        if value is None:
            return ""
        return f"{value:.3g}" if abs(value) >= 1e7 or 0 < abs(value) < 0.5 * 10**-places else f"{value:.{places}f}"

    return [one(value) for value in values]


def full_table(columns: Columns, view: View = DEFAULT) -> tuple[list[str], list[list[Any]]]:
    """A header, and a row for every configuration, in the leaderboard's order, with all digits.

    Columns: `rank` (from 1 for each data set and metric; None without a result), the keys that differ (texts), `n`,
    `data`, `monitor`, `mean`, `sd`, `ci95_low`, `ci95_high`, the mean of the test metrics (`test/accuracy_mean`),
    `elapsed_sec_mean`, `separable_from_best` (None without a test), and the directories of the `n` runs, of the failed
    and of the unfinished ones; or those of the view.
    """
    header = list(view.columns or columns)
    chosen = [columns.cells(name, "--columns") for name in header]
    return header, [[cells[i] for cells in chosen] for i in columns.order(view, range(len(columns.entries)))]


def typed_rows(runs: Sequence[Run], view: View = DEFAULT) -> list[dict[str, Any]]:
    """The full table as dicts, the values of keys as numbers, booleans and None."""
    header, rows = full_table(columns_of(runs), view)
    return [dict(zip(header, map(_typed, row), strict=True)) for row in rows]


def _typed(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    number = as_number(cell)
    return {"true": True, "false": False, "null": None, "": None}.get(cell, cell) if number is None else number


def csv_text(
    runs: Sequence[Run], view: View = DEFAULT, start: Path | None = None, columns: Columns | None = None
) -> str:
    """The full table as CSV; directories, relative to `start` if it is given, are joined by `;`."""

    def text(cell: Any) -> Any:
        if isinstance(cell, list):
            return ";".join(str(run) if start is None else os.path.relpath(run, start) for run in cell)
        return str(cell).lower() if isinstance(cell, bool) else cell

    header, rows = full_table(columns_of(runs) if columns is None else columns, view)
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows(
        [[csv_cell(text(cell)) for cell in row] for row in (header, *rows)]
    )
    return table.getvalue()


def write_csv(runs: Sequence[Run], path: Path, columns: Columns | None = None) -> None:
    """Write the full table; directories are relative to the file. `columns` as for `leaderboard`."""
    with naming_path(path), atomic_write(path) as file:
        file.write(csv_text(runs, start=path.parent, columns=columns).encode())
