"""`mlprun show`: a run, or how two differ."""

from __future__ import annotations

import argparse

from mlprun.cli.last import add_run_dir
from mlprun.runs.directory import RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    add_run_dir(parser, "other", nargs="?", help="another, for what differs")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.show import show
    from mlprun.terminal import print_line

    for line in show(*((path, RunDirectory(path).read()) for path in (options.run, options.other) if path)):
        print_line(line)
    return 0
