"""`mlprun runs`: the leaderboard of a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.config.project import find_project
from mlprun.errors import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.leaderboard import leaderboard
    from mlprun.runs.collect import read_runs
    from mlprun.runs.log import print_line

    folder = options.folder or find_project().outputs
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    for line in leaderboard(read_runs(folder)):
        print_line(line)
    return 0
