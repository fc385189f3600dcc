"""`mlprun show`: a run, or how two differ."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.runs.directory import RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("other", type=Path, metavar="RUN_DIR", nargs="?")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.show import show
    from mlprun.terminal import print_line

    for line in show(*((path, RunDirectory(path).read()) for path in (options.run, options.other) if path)):
        print_line(line)
    return 0
