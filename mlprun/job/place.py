"""Where a run or a sweep was started: its relative paths and the user's own classes are found there."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlprun.config.own_modules import find_own_modules
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import section
from mlprun.terminal import print_line


@contextlib.contextmanager
def where_it_began(
    path: Path, folder: str | None, config: Mapping[str, Any] | None, *, is_own: bool, trust: bool, data: bool = True
) -> Iterator[Path]:
    """Change to the folder where the run or sweep in `path` was started, and yield its path from there.

    The current folder stays the same if that one is gone, if the project was moved or copied to the current one, or if
    the record is a stranger's, who could name a folder with modules of their own.

    Args:
        folder: as recorded.
        config: as recorded; None: the record has several.
        is_own: signed by the user.
        data: the data are read too.
    """
    here, there = Path.cwd(), Path(folder or os.curdir).absolute()
    used = None if config is None else _relative_paths(config, data=data)
    missing = [name for name in used or () if (there / name).exists() and not (here / name).exists()]
    if not there.is_dir():
        _warn_of_gone(there, section(config or {}, "data").get("root") if data else None, is_sweep=config is None)
        yield path
    elif here == there or (_came_along(path, here, there) and not missing):
        yield path
    elif trust or (is_own and there.stat().st_uid == os.geteuid()):  # another's may have been made since
        if used is None or any((there / name).exists() for name in used):
            _say(f"working in {there}, where it was started")
        run = path.resolve()
        with contextlib.chdir(there):
            find_own_modules()
            yield run
        find_own_modules()
    elif used is None:
        remedy = "resume it from there, or add --trust if you trust its author"
        raise RunError(f"{path} is not signed by you and was started in another folder, {there}\n  {remedy}")
    else:
        if missing:
            problem = f"{missing[0]} is not in the current folder; the run was started in {there}, which has it"
            _say(f"warning: {problem}\n  change to that folder, or add --trust if you trust the run's author")
        yield path


@contextlib.contextmanager
def where_run_began(path: Path, *, trust: bool, data: bool = True) -> Iterator[Path]:
    """As `where_it_began`, for the run in `path`; RunError if there is none."""
    record = RunDirectory(path).read()
    config = record.config if record.has_config else {}
    with where_it_began(path, record.folder, config, is_own=record.is_own, trust=trust, data=data) as there:
        yield there


def _warn_of_gone(there: Path, root: object, *, is_sweep: bool) -> None:
    if is_sweep:
        _say(f"{there}, where the sweep was started, no longer exists: relative paths start at the current folder")
    elif isinstance(root, str) and not os.path.isabs(root) and not os.path.exists(os.path.expanduser(root)):
        problem = f"{root} is not in the current folder, and {there}, where the run was started, no longer exists"
        _say(f"warning: {problem}\n  change to the folder that contains it now, or add data.root=FOLDER")


@cache  # once, also if one function calls another that goes there
def _say(text: str) -> None:
    print_line(text, sys.stderr)


def _came_along(path: Path, here: Path, there: Path) -> bool:
    """Whether a run is below the current folder, and no longer below the one where it was started."""
    run = path.resolve()
    return here.resolve() in run.parents and there.resolve() not in run.parents


def _relative_paths(config: Mapping[str, Any], *, data: bool) -> list[str]:
    """What may be relative paths in a stored config: those of modules and, with `data`, of data and weights."""
    modules = {target.partition(".")[0] for target in _texts(config, "_target_")}
    found = {*modules, *(f"{name}.py" for name in modules)}
    if data:
        found |= {*_texts(section(config, "data")), *_texts([section(config, "trainer").get("weights")])}
    return sorted(text for text in found if text and not os.path.isabs(text) and text.isprintable() and len(text) < 255)


def _texts(node: Any, key: str | None = None) -> Iterator[str]:
    """The texts of nested dicts and lists; those of a `key` alone, if it is given."""
    for name, value in node.items() if isinstance(node, Mapping) else enumerate(node):
        if isinstance(value, Mapping | list):
            yield from _texts(value, key)
        elif isinstance(value, str) and key in (None, name):
            yield value
