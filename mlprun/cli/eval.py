"""`mlprun eval`: the test score of a finished run."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")


def run(options: argparse.Namespace, command: str) -> int:
    """Print the metrics, unrounded; the exit status."""
    from mlprun.predict.finished import evaluate

    for name, value in evaluate(options.run, trust=options.trust).items():
        print(name, value)
    return 0
