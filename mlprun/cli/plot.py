"""`mlprun plot`: the curves of one or several runs in a picture, or the trials of a sweep."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.analysis.against import Against, draw_against, metrics_to_compare
from mlprun.analysis.configurations import is_confirming
from mlprun.analysis.curves import AXES, Series, collect, default_metrics, is_run, metrics_of
from mlprun.analysis.plot import Look, draw, draw_run, notes, panels_of_run
from mlprun.analysis.sweep_pictures import PICTURES, write
from mlprun.analysis.trials import read_trials_of
from mlprun.cli.last import add_run_dir
from mlprun.errors import ConfigError, RunError, suggestion
from mlprun.formatting import first_few
from mlprun.pictures.figures import DOTS_PER_INCH, save
from mlprun.runs import trial_record
from mlprun.runs.collect import read_runs
from mlprun.terminal import print_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

X_AXES = (*AXES, "optim/lr")
FORMATS = (".png", ".pdf", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser, "paths", sweeps=True, nargs="+", help="a run, a sweep or a folder of runs")
    help_ = (
        "`curves`, or of the trials of a sweep any of best_so_far,importance,slices,parallel; `trials` is these four"
    )
    help_ += " (default: curves, of a search the trials)"
    parser.add_argument("--of", metavar="A,B", help=help_)
    help_ = "metrics to plot, any that is logged: val/accuracy,optim/grad_norm; a panel for each; may be repeated"
    parser.add_argument("--metric", action="append", default=[], metavar="A,B", help=help_)
    known = "|".join(X_AXES)
    parser.add_argument(
        "--x", default="step", metavar=known, help="horizontal axis (default: step); seconds of training"
    )
    parser.add_argument("--log-x", action="store_true", help="a logarithmic horizontal axis")
    parser.add_argument("--log-y", action="store_true", help="logarithmic vertical axes, also where we would have none")
    help_ = "the value at the best checkpoint against a key, such as optim.lr, instead of curves"
    parser.add_argument("--against", metavar="KEY", help=help_)
    parser.add_argument("--final", action="store_true", help="with --against: the last value")
    parser.add_argument("--size", metavar="WIDTHxHEIGHT", help="in inches, such as 8x5")
    parser.add_argument(
        "--dpi", type=int, metavar="N", default=DOTS_PER_INCH, help="dots per inch of a .png (default: 100)"
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help=f"{', '.join(FORMATS)} file (default: curves.png in it)"
    )


def run(options: argparse.Namespace, command: str) -> int:
    look = _checked(options)
    if pictures := _pictures(options):
        return _draw_trials(options, pictures, look)
    series = collect(options.paths)
    names = list(dict.fromkeys(name.strip() for names in options.metric for name in names.split(",")))
    if left_out := _named_runs(options.paths) - {path for each in series for path, _ in each.runs}:
        why = "no row yet, another try of a seed, or not completed where others are"
        print_line(f"left out ({why}): {first_few([str(path) for path in sorted(left_out)], 3)}", sys.stderr)
    if options.against:
        metrics = metrics_to_compare(series, names, final=options.final)
        figure, said = draw_against(series, Against(options.against, metrics, options.final), look)
    else:
        figure, said = _curves(series, names, look)
    for note in said:
        print_line(note, sys.stderr)
    with _other_file():
        print_line(str(save(figure, options.output or _place(options.paths, series), options.dpi)))
    return 0


def _pictures(options: argparse.Namespace) -> list[str]:
    """The pictures of trials that are asked for; none if it is curves."""
    of_curves = {
        "--metric": bool(options.metric), "--x": options.x != "step", "--log-x": options.log_x,
        "--against": options.against is not None, "--final": options.final,
    }  # fmt: skip
    typed = [option for option, is_typed in of_curves.items() if is_typed]
    if options.of is None:
        is_search = len(options.paths) == 1 and (options.paths[0] / trial_record.FILE_NAME).is_file()
        # What else is typed asks for curves, or for one picture.
        return list(PICTURES) if is_search and not typed and not options.output else []
    names = list(dict.fromkeys(name.strip() for name in options.of.split(",")))
    if names == ["curves"]:
        return []
    names = list(PICTURES) if names == ["trials"] else names
    for name in names:
        if name not in PICTURES:
            raise ConfigError("--of", name, "no such picture", suggestion(name, [*PICTURES, "trials", "curves"]))
    if typed:
        raise ConfigError(typed[0], ConfigError.MISSING, "is for curves", f"leave it out, or --of {options.of}")
    if options.output and len(names) > 1:
        raise ConfigError("--output", options.output, f"is one file for {len(names)} pictures", "choose one with --of")
    return names


def _draw_trials(options: argparse.Namespace, names: Sequence[str], look: Look) -> int:
    trials = read_trials_of(options.paths)
    for note in trials.notes:
        print_line(note, sys.stderr)
    folder = _folder(options.paths)
    with _other_file():
        files, refused = write(trials, names, lambda name: options.output or folder / f"{name}.png", look, options.dpi)
    if not files:
        raise refused[0]
    for file in files:
        print_line(str(file))
    for error in refused:
        print_line(f"left out: {' '.join(str(error).split())}", sys.stderr)
    return 0


@contextmanager
def _other_file() -> Iterator[None]:
    try:
        yield
    except RunError as error:
        raise RunError(f"{error}\n  choose another with --output FILE") from error


def _checked(options: argparse.Namespace) -> Look:
    """How the picture looks, of options that are checked before a run is read."""
    if options.x not in X_AXES:
        raise ConfigError("--x", options.x, "no such axis", suggestion(options.x, X_AXES))
    if options.output and options.output.suffix not in FORMATS:
        raise ConfigError("--output", options.output, "is no picture", f"let it end in {', '.join(FORMATS)}")
    if options.against and options.x != "step":
        raise ConfigError("--x", options.x, f"the horizontal axis is {options.against}", "leave it out")
    if options.final and not options.against:
        raise ConfigError("--final", ConfigError.MISSING, "is for --against KEY", "leave it out, or add a key")
    if not 30 <= options.dpi <= 600:
        raise ConfigError("--dpi", options.dpi, "must be 30 to 600")
    size = None
    if options.size is not None:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)", options.size)
        size = (float(match[1]), float(match[2])) if match else (0.0, 0.0)
        if not all(3 <= side <= 40 for side in size):
            raise ConfigError("--size", options.size, "must be width x height in inches, 3 to 40 each, such as 8x5")
    return Look(options.x, options.log_x, options.log_y, size)


def _curves(series: Sequence[Series], names: Sequence[str], look: Look) -> tuple[Figure, list[str]]:
    """The picture of the curves, and what it does not show."""
    known = metrics_of(series)
    for name in names:
        if name not in known:
            raise ConfigError("--metric", name, "no row has it", suggestion(name, known))
    if len(series) == 1 and len(series[0].runs) == 1 and not names and look.x in AXES:
        drawn = [name for panel in panels_of_run(series[0]) for name in panel]
        return draw_run(series[0], look), notes(series, drawn, look)
    metrics = names or default_metrics(series)
    return draw(series, metrics, look), notes(series, metrics, look)


def _named_runs(paths: Sequence[Path]) -> set[Path]:
    """Those to draw: of a folder, without the runs that `sweep.confirm` added."""
    in_folders = (run for path in paths if not is_run(path) for run in read_runs(path))
    own = {path for path, record in in_folders if not (record.has_config and is_confirming(record))}
    return own | {path for path in paths if is_run(path)}


def _place(paths: Sequence[Path], series: Sequence[Series]) -> Path:
    """curves.png in the run, or in the folder that contains all runs."""
    if len(series) == 1 and len(series[0].runs) == 1:
        return series[0].runs[0][0] / "curves.png"
    return _folder(paths) / "curves.png"


def _folder(paths: Sequence[Path]) -> Path:
    """The folder that contains all of them."""
    folder = Path(os.path.commonpath([path.absolute() for path in paths]))
    return Path(os.path.relpath(folder)) if Path.cwd() in [folder, *folder.parents] else folder
