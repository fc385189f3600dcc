"""`mlprun inspect`: data, model, schedule, devices and speed, without training."""

from __future__ import annotations

import argparse
from pathlib import Path

from mlprun.cli.line import typed_line
from mlprun.cli.verbs import check_words
from mlprun.config.checks import check
from mlprun.config.project import find_project
from mlprun.errors import ConfigError
from mlprun.formatting import json_line
from mlprun.terminal import importing_torch, print_line, stdout_for_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for a run; see mlprun --help")
    parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="your folder of YAML")
    parser.add_argument("--config-name", "-cn", metavar="NAME", default="config", help="the primary config")
    parser.add_argument("--json", action="store_true", help="print one JSON object; the lines go to stderr")
    parser.add_argument("--multirun", "-m", action="store_true", help=argparse.SUPPRESS)


def run(options: argparse.Namespace, command: str) -> int:
    check_words(options.overrides)
    if options.multirun:
        raise ConfigError("-m", ConfigError.MISSING, "is for sweeps", "inspect looks at one config: leave it out")
    flags = ["--config-name", options.config_name, *(["--config-dir", options.config_dir] * bool(options.config_dir))]
    line = typed_line([*options.overrides, *flags], command)
    line.refuse("sweep", "is for sweeps", "leave it out")
    composed = line.composer.compose(line.words)
    config = check(composed)
    is_chosen = line.sets("hydra.run.dir")
    folder = Path(composed.hydra.run.dir)
    if is_chosen and any((folder / name).exists() for name in ("run.json", "sweep.json")):
        raise ConfigError("hydra.run.dir", folder, "holds a run or a sweep", "choose another, or leave it out")
    if not is_chosen:
        folder = find_project().outputs / Path("inspect", f"{folder.parent.name}_{folder.name}")

    with importing_torch():
        from mlprun.inspection.inspect import inspect

    with stdout_for_json(options.json):
        facts = inspect(config, folder, claim=not is_chosen)
    if options.json:
        print_line(json_line(facts))
    return 0
