"""`mlprun eval`: the test metrics of a finished run, unrounded."""

from __future__ import annotations

import argparse

from mlprun.cli.last import add_checkpoint, add_run_dir
from mlprun.errors import ConfigError
from mlprun.formatting import json_line
from mlprun.terminal import print_line, stdout_for_json

REMEDY = "only data.root=FOLDER can, which says where the data lie now"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser)
    parser.add_argument("overrides", metavar="data.root=FOLDER", nargs="*", help="where the data lie now")
    add_checkpoint(parser)
    help_ = "score the mean prediction over N draws of the training's augmentation"
    parser.add_argument("--tta", type=int, metavar="N", help=help_)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    help_ = "score the test split even if its data has changed since the run"
    parser.add_argument("--changed-data", action="store_true", help=help_)


def run(options: argparse.Namespace, command: str) -> int:
    from mlprun.config.stored import take_root
    from mlprun.predict.finished import evaluate

    root, others = take_root(options.overrides)
    if others:
        raise ConfigError(others[0], ConfigError.MISSING, "cannot change: a run is scored as it is", REMEDY)
    with stdout_for_json(options.json):
        values = evaluate(
            options.run,
            trust=options.trust,
            changed_data=options.changed_data,
            root=root,
            checkpoint=options.checkpoint,
            tta=options.tta,
        )
    lines = [f"{name} {value}" for name, value in values.items()]
    result = {"run": options.run, "checkpoint": options.checkpoint, "tta": options.tta, "metrics": values}
    for line in [json_line(result)] if options.json else lines:
        print_line(line)
    return 0
