"""`last`, which names the newest run wherever a RUN_DIR is expected."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from mlprun.config.project import find_project
from mlprun.errors import RunError

LAST, METAVAR = "last", "RUN_DIR"


def add_run_dir(
    parser: argparse.ArgumentParser,
    name: str = "run",
    *,
    sweeps: bool = False,
    nargs: str | None = None,
    help: str = "a run",
) -> None:
    """Add a positional argument that takes run directories, with `sweeps` those of sweeps too, and `last`."""
    take: Callable[[str], Path] = newest_run_or_sweep if sweeps else newest_run
    parser.add_argument(name, type=take, metavar=METAVAR, nargs=nargs, help=f"{help}; last: the newest in outputs")


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--checkpoint", default="best", metavar="NAME", help="best (default), last or step_N")


def newest_run(text: str) -> Path:
    """The path; for `last`, the run that was begun last, also as a point of a sweep, and whatever became of it."""
    return _newest(sweeps=False) if text == LAST and not os.path.lexists(text) else Path(text)


def newest_run_or_sweep(text: str) -> Path:
    """As `newest_run`, with the sweep of a run that is a point of one."""
    return _newest(sweeps=True) if text == LAST and not os.path.lexists(text) else Path(text)


def _newest(*, sweeps: bool) -> Path:
    """RunError if there is none."""
    from mlprun.runs.collect import read_runs  # late: TAB needs only the names above
    from mlprun.runs.sweep_record import FILE_NAME
    from mlprun.terminal import print_line

    folder = find_project().outputs
    runs = [(record.started_at, path) for path, record in (read_runs(folder) if folder.is_dir() else [])]
    known = [run for run in runs if run[0]]
    if not known:
        raise RunError(
            f"{LAST}: there is no run in {folder}\n  name a run directory, or go to the folder of your project"
        )
    path = max(known)[1]
    if sweeps:
        path = next((folder for folder in path.parents if (folder / FILE_NAME).is_file()), path)
    print_line(f"{LAST}    {path}", sys.stderr)
    return path
