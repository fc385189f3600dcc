"""`mlprun show`: a run, or how two differ."""

from __future__ import annotations

import argparse

from mlprun.cli.last import add_run_dir
from mlprun.runs.directory import RunDirectory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    add_run_dir(parser, "other", nargs="?", help="another, for what differs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.show import as_json, show
    from mlprun.formatting import json_line
    from mlprun.terminal import print_line

    runs = [(path, RunDirectory(path).read()) for path in (options.run, options.other) if path]
    for line in [json_line(as_json(*runs))] if options.json else show(*runs):
        print_line(line)
    return 0
