"""`mlprun prune`: remove the runs that came to nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.config.project import find_project
from mlprun.errors import ConfigError, RunError

if TYPE_CHECKING:
    from mlprun.runs.prune import Candidate

HELP = """Remove the runs of a folder that failed, were interrupted or killed, and debug runs (debug=…), after showing
them and asking. Never one that a process has, one whose directory holds anything but what mlprun wrote, or the start of
another run's weights. A sweep runs its points again when it is resumed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", help="default: outputs")
    help_ = "only these of them: 'status=failed and model=cnn'; as of mlprun runs"
    parser.add_argument("--where", default="", metavar="COMPARISONS", help=help_)
    parser.add_argument("--dry-run", action="store_true", help="show them, and remove nothing")
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")
    parser.add_argument("--json", action="store_true", help="print one JSON object; with --yes or --dry-run")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.where import select
    from mlprun.formatting import format_bytes, json_line, pluralize
    from mlprun.runs.prune import find, leftovers
    from mlprun.terminal import print_line

    asks = not (options.yes or options.dry_run)
    if asks and (options.json or not sys.stdin.isatty()):
        problem = "asks before it removes anything, and there is no terminal to ask"
        problem = "does not ask with --json" if options.json else problem
        raise ConfigError(
            "mlprun prune", ConfigError.MISSING, problem, "add --yes, or --dry-run to see what it would do"
        )
    folder = options.folder or find_project().outputs
    found, kept = find(folder)
    chosen = {path for path, _ in select([(each.path, each.record) for each in found], options.where)}
    candidates = [each for each in found if each.path in chosen]
    left = leftovers(folder)
    total = sum(each.num_bytes for each in candidates)
    if not options.json:
        for row in _table(candidates):
            print_line(row)
        _say_kept(kept, len(found) - len(candidates))
        if not (candidates or left):
            print_line("nothing to remove")
            return 0
        is_going = not options.dry_run and (options.yes or _agrees(len(candidates), total, len(left)))
        if not is_going:
            print_line(f"{pluralize(len(candidates), 'run')}, {format_bytes(total)}: nothing is removed")
            return 0
    removed, freed = ([], 0) if options.dry_run else _remove(candidates, left, folder, kept)
    if options.json:
        runs = [_as_json(each) | {"removed": each.path in removed} for each in candidates]
        print_line(json_line({"folder": folder, "runs": runs, "kept": kept, "freed_bytes": freed}))
    else:
        print_line(f"removed {pluralize(len(removed), 'run')}: {format_bytes(freed)} freed")
    return int(not options.dry_run and len(removed) < len(candidates))


def _remove(
    candidates: Sequence[Candidate], left: Sequence[Path], folder: Path, kept: dict[Path, str]
) -> tuple[list[Path], int]:
    """Remove them; the runs that are gone, and the bytes that this freed. What cannot be removed is said, and kept."""
    from mlprun.analysis.leaderboard import write_csv
    from mlprun.runs.collect import read_runs
    from mlprun.runs.prune import remove_run, remove_tree
    from mlprun.terminal import print_line

    freed = sum(remove_tree(path) for path in left)
    removed = []
    for each in candidates:
        try:
            remove_run(each, folder)
        except RunError as error:
            kept[each.path] = str(error)
            print_line(f"error: {error}", sys.stderr)
        else:
            removed.append(each.path)
            freed += each.num_bytes
    for table in sorted({path.parent / "leaderboard.csv" for path in removed}):
        if table.is_file():
            write_csv(read_runs(table.parent), table)
    return removed, freed


def _table(candidates: Sequence[Candidate]) -> list[str]:
    from mlprun.formatting import format_bytes, format_duration
    from mlprun.terminal import width
    from mlprun.text_table import render

    rows = [("run", "status", "age", "size")]
    for each in candidates:
        status = f"{each.record.status}{', debug' * each.record.is_debug}"
        age = format_duration(max(1, round(each.age_sec)))
        rows.append((str(each.path), status, age, format_bytes(each.num_bytes)))
    return render(rows, "<<>>", max_width=width(120), flexible=[0]) if candidates else []


def _say_kept(kept: dict[Path, str], num_others: int) -> None:
    from mlprun.formatting import pluralize
    from mlprun.terminal import print_line

    for path, reason in kept.items():
        print_line(f"kept    {path}: {reason}")
    if num_others:
        print_line(f"kept    {pluralize(num_others, 'other')}, which --where leaves out")


def _agrees(num_runs: int, num_bytes: int, num_left: int) -> bool:
    from mlprun.formatting import format_bytes, pluralize

    rest = f" and what is left of {pluralize(num_left, 'earlier removal')}" if num_left else ""
    print(f"remove {pluralize(num_runs, 'run')}, {format_bytes(num_bytes)}{rest}? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _as_json(each: Candidate) -> dict[str, Any]:
    status, is_debug = each.record.status, each.record.is_debug
    return {"path": each.path, "status": status, "debug": is_debug, "bytes": each.num_bytes, "age_sec": each.age_sec}
