"""`mlprun runs`: the leaderboard of a folder."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlprun.config.project import find_project
from mlprun.errors import ConfigError, RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?")
    parser.add_argument("--debug", action="store_true", help="include runs with debug=…")
    help_ = "only these runs: 'val/accuracy>0.97 and model=cnn'; = != < <= > >= of metrics, keys, choices and status"
    parser.add_argument("--where", default="", metavar="COMPARISONS", help=help_)
    help_ = "sort by a column, a metric (best first) or a key (smallest first)"
    parser.add_argument("--sort", default="", metavar="KEY", help=help_)
    parser.add_argument("--reverse", action="store_true", help="the other way round")
    parser.add_argument("--columns", default="", metavar="A,B", help="show these columns, metrics and keys instead")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--wide", action="store_true", help="hide and shorten nothing: all rows and columns")
    form.add_argument("--csv", action="store_true", help="print the full table as CSV, with all digits")
    form.add_argument("--json", action="store_true", help="print it as one JSON object")


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.analysis.columns import View
    from mlprun.analysis.leaderboard import csv_text, leaderboard, typed_rows
    from mlprun.analysis.where import select
    from mlprun.formatting import json_line, pluralize
    from mlprun.runs.collect import read_runs
    from mlprun.terminal import print_line

    folder = options.folder or find_project().outputs
    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    columns = [name.strip() for name in options.columns.split(",")] if options.columns else []
    if "" in columns:
        raise ConfigError("--columns", options.columns, "a name is empty", "write names with commas: optim.lr,mean")
    view = View(options.sort, options.reverse, columns, options.wide)
    found = read_runs(folder)
    candidates = found if options.debug else [run for run in found if not run[1].is_debug]
    runs = select(candidates, options.where)
    if options.json:
        unreadable = [path for path, record in runs if not record.has_config]
        print_line(json_line({"folder": folder, "configurations": typed_rows(runs, view), "unreadable": unreadable}))
    elif options.csv:
        print_line(csv_text(runs, view).removesuffix("\n"))
    else:
        for line in leaderboard(runs, view=view):
            print_line(line)
    notes = sys.stderr if options.json or options.csv else sys.stdout
    if len(runs) < len(candidates):
        print_line(f"{len(runs)} of {pluralize(len(candidates), 'run')}: --where leaves out the others", notes)
    if left_out := len(found) - len(candidates):
        print_line(f"{pluralize(left_out, 'debug run')} left out; --debug includes them", notes)
    return 0
