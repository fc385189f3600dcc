"""What a sweep says when it ends: warnings, the leaderboard, where things are, and pictures of a search."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.config.identity import fingerprint
from mlprun.errors import RunError
from mlprun.formatting import format_share, pluralize
from mlprun.runs import sweep_record
from mlprun.runs.collect import Run
from mlprun.runs.directory import RunDirectory
from mlprun.runs.log import read_warnings
from mlprun.runs.record import DONE
from mlprun.terminal import print_line

if TYPE_CHECKING:
    from mlprun.sweep.points import Point

MOST_WARNINGS = 10
MOST_IN_TENSORBOARD = 250
# Drawing takes about five seconds, half of them to import Optuna's importance: a short search is not to wait for it.
WORTH_DRAWING_SEC = 60.0  # of all runs together


def summarise(sweep_dir: Path, runs: list[Run], points: list[Point], *, started: bool) -> bool:
    """Print warnings of the runs and the leaderboard, write leaderboard.csv; whether a run failed or is missing."""
    from mlprun.analysis.leaderboard import columns_of, leaderboard, write_csv

    _repeat_warnings([path for path, _ in runs])
    columns = columns_of(runs)
    for row in ["", *leaderboard(runs, columns=columns)]:
        print_line(row)
    write_csv(runs, sweep_dir / "leaderboard.csv", columns)
    if points:
        statuses = _statuses(points, runs)
    else:  # a search decides on its way what it runs
        statuses = [record.status for _, record in runs if record.has_config] or ["missing"]
    if missing := statuses.count("missing"):
        print_line(f"error: {missing} of {len(statuses)} runs not started", sys.stderr)
    print_line(f"sweep   {sweep_dir}")
    folder = shlex.quote(str(sweep_dir))
    in_tensorboard = sum("tensorboard" in record.config.get("writers", {}) for _, record in runs if record.has_config)
    if in_tensorboard > MOST_IN_TENSORBOARD:
        problem = f"TensorBoard stalls from about {MOST_IN_TENSORBOARD} runs on"
        print_line(f"curves  mlprun plot {folder}   ({problem}: start it with --logdir and the folder of a run)")
    elif in_tensorboard:
        print_line(f"curves  tensorboard --logdir {folder}")
    if not started:
        print_line(f"resume  mlprun resume {folder}")
    if pruned := [record for _, record in runs if record.status == "pruned"]:
        saved = sum((record.num_steps or 0) - (record.steps or 0) for record in pruned)
        share = format_share(saved / max(1, sum(record.num_steps or 0 for _, record in runs)))
        print_line(f"pruned  {len(pruned)} of {pluralize(len(runs), 'run')}, which saved {share} of all steps")
    return any(status not in DONE for status in statuses)


def _statuses(points: list[Point], runs: list[Run]) -> list[str]:
    """How the run of each point ended; `missing` without one."""
    by_name = {path.name: record for path, record in runs if record.has_config}
    found = [by_name.get(point.path.name) if point.path else None for point in points]
    if all(record is not None for record in found):
        return [record.status for record in found if record is not None]
    by_fingerprint = {fingerprint(record.config): record.status for record in by_name.values()}
    return [by_fingerprint.get(point.fingerprint, "missing") for point in points]


def _repeat_warnings(runs: list[Path]) -> None:
    """Print each warning in the logs of the runs once, with the number of runs that have it."""
    counts = Counter(warning for run in runs for warning in read_warnings(RunDirectory(run).log_file))
    for warning, count in counts.most_common(MOST_WARNINGS):
        print_line(f"warning in {count} of {pluralize(len(runs), 'run')}: {warning}", sys.stderr)
    if len(counts) > MOST_WARNINGS:
        print_line(f"{len(counts) - MOST_WARNINGS} other warnings: see train.log of the runs", sys.stderr)


def draw_search(sweep_dir: Path, runs: list[Run], num_done_before: int) -> None:
    """Draw the pictures of a search that took a while, if they would differ from those there are."""
    from mlprun.analysis.plot import Look
    from mlprun.analysis.sweep_pictures import PICTURES, write
    from mlprun.analysis.trials import trials_of

    done = [record for _, record in runs if record.status in DONE]
    is_drawn = (sweep_dir / f"{next(iter(PICTURES))}.png").exists()
    if is_drawn and len(done) == num_done_before:
        return
    if sum(record.elapsed_sec or 0.0 for record in done) < WORTH_DRAWING_SEC:
        print_line(f"plots   mlprun plot {shlex.quote(str(sweep_dir))}")
        return
    record = sweep_record.read(sweep_dir)
    try:
        trials = trials_of(runs, {} if record is None else record.scales, str(sweep_dir))
        files, _ = write(trials, list(PICTURES), lambda name: sweep_dir / f"{name}.png", Look())
    except RunError as error:  # the search has its results all the same
        print_line(f"warning: no pictures: {error}", sys.stderr)
        return
    print_line(f"plots   {', '.join(file.name for file in files)}")
