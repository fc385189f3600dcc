"""`mlprun plot`: the curves of one or several runs in a picture."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mlprun.analysis.curves import Series, collect, default_metrics, is_run, metrics_of
from mlprun.analysis.plot import AXES, draw, draw_run
from mlprun.cli.last import add_run_dir
from mlprun.errors import ConfigError, RunError, suggestion
from mlprun.formatting import first_few
from mlprun.pictures.figures import save
from mlprun.runs.collect import read_runs
from mlprun.terminal import print_line

FORMATS = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser, "paths", sweeps=True, nargs="+", help="a run, a sweep or a folder of runs")
    parser.add_argument(
        "--metric", action="append", metavar="NAME", help="metric to plot, such as val/accuracy; may be repeated"
    )
    parser.add_argument("--x", default="step", metavar="|".join(AXES), help="horizontal axis (default: step)")
    parser.add_argument("--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)} file (default: curves.png)")


def run(options: argparse.Namespace, command: str) -> int:
    if options.x not in AXES:
        raise ConfigError("--x", options.x, "no such axis", suggestion(options.x, AXES))
    if options.output and options.output.suffix not in FORMATS:
        raise ConfigError("--output", options.output, "is no picture", f"let it end in {', '.join(FORMATS)}")
    series = collect(options.paths)
    metrics = metrics_of(series)
    for name in options.metric or []:
        if name not in metrics:
            raise ConfigError("--metric", name, "no row has it", suggestion(name, metrics))
    if left_out := _named_runs(options.paths) - {path for each in series for path, _ in each.runs}:
        why = "no row yet, another try of a seed, or not completed where others are"
        print_line(f"left out ({why}): {first_few([str(path) for path in sorted(left_out)], 3)}", sys.stderr)
    alone = len(series) == 1 and len(series[0].runs) == 1
    if alone and not options.metric and options.x != "optim/lr":
        figure = draw_run(series[0], options.x)
    else:
        figure = draw(series, list(dict.fromkeys(options.metric or default_metrics(series))), options.x)
    try:
        print_line(str(save(figure, options.output or _place(options.paths, series))))
    except RunError as error:
        raise RunError(f"{error}\n  choose another with --output FILE") from error
    return 0


def _named_runs(paths: Sequence[Path]) -> set[Path]:
    return {path for folder in paths for path, _ in ([(folder, 0)] if is_run(folder) else read_runs(folder))}


def _place(paths: Sequence[Path], series: Sequence[Series]) -> Path:
    """curves.png in the run, or in the folder that contains all runs."""
    if len(series) == 1 and len(series[0].runs) == 1:
        return series[0].runs[0][0] / "curves.png"
    folder = Path(os.path.commonpath([path.absolute() for path in paths]))
    return Path(os.path.relpath(folder) if Path.cwd() in [folder, *folder.parents] else folder, "curves.png")
