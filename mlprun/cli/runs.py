"""`mlprun runs`: the leaderboard of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.errors import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("outputs"))


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.leaderboard import leaderboard
    from mlprun.runs.collect import read_runs
    from mlprun.runs.log import print_line

    if not options.folder.is_dir():
        raise RunError(f"there is no folder {options.folder}")
    for line in leaderboard(read_runs(options.folder)):
        print_line(line)
    return 0
