"""`mlprun reproduce`: run again, and compare."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")


def run(options: argparse.Namespace, command: str) -> int:
    """Reproduce the run in a new directory; 0 if it is identical."""
    from mlprun.job.reproduce import reproduce

    return reproduce(options.run, command, trust=options.trust)
