"""`mlprun reproduce`: repeat a run in a new directory; exits with 0 if it is identical."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.job.reproduce import reproduce

    return reproduce(options.run, command, trust=options.trust)
