"""`mlprun eval`: the test metrics of a finished run, unrounded."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.runs.log import print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    help_ = "score the test split even if its data has changed since the run"
    parser.add_argument("--changed-data", action="store_true", help=help_)


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.predict.finished import evaluate

    for name, value in evaluate(options.run, trust=options.trust, changed_data=options.changed_data).items():
        print_line(f"{name} {value}")
    return 0
