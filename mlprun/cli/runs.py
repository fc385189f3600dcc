"""`mlprun runs`: the leaderboard of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.config.project import find_project
from mlprun.errors import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?")
    parser.add_argument("--debug", action="store_true", help="include runs with debug=…")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.leaderboard import leaderboard
    from mlprun.formatting import pluralize
    from mlprun.runs.collect import read_runs
    from mlprun.terminal import print_line

    folder = options.folder or find_project().outputs
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    found = read_runs(folder)
    runs = found if options.debug else [run for run in found if not run[1].is_debug]
    for line in leaderboard(runs):
        print_line(line)
    if left_out := len(found) - len(runs):
        print_line(f"{pluralize(left_out, 'debug run')} left out; --debug includes them")
    return 0
