"""`mlprun eval`: the test metrics of a finished run, unrounded."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.runs.log import print_line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.predict.finished import evaluate

    for name, value in evaluate(options.run, trust=options.trust).items():
        print_line(f"{name} {value}")
    return 0
