"""A project of one's own: the table `[tool.mlprun]` of its pyproject.toml, from which the lines typed in it start.

    [tool.mlprun]
    conf = "conf"            # the folder of its YAML, as --config-dir
    outputs = "outputs"      # where its runs are written
    defaults = "base"        # conf/project/base.yaml, which every line starts from

Paths are relative to the file. The verbs that work on stored runs read `outputs` alone, for a run has its config.
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mlprun.errors import ConfigError, suggestion
from mlprun.formatting import printable

KEYS = ("conf", "outputs", "defaults")


@dataclass(frozen=True)
class Project:
    """What `[tool.mlprun]` says; without one, the outputs are in the current folder.

    Attributes:
        folder: that of pyproject.toml, as seen from the current folder.
        conf: as typed after --config-dir in the current folder; None: no YAML of its own.
        outputs: the folder of the runs, as seen from the current folder.
        defaults: an option of the group `project`.
    """

    folder: Path = Path()
    conf: str | None = None
    outputs: Path = Path("outputs")
    defaults: str | None = None


def find_project() -> Project:
    """The project that the current folder is in: the nearest pyproject.toml with the table, here or above.

    Raises:
        ConfigError: the file cannot be read, or has an unknown key, a wrong type or a folder that does not exist.
    """
    here = Path.cwd()
    for folder in (here, *here.parents):
        file = folder / "pyproject.toml"
        if file.is_file() and (table := _table(file)) is not None:
            return _project(table, file)
    return Project()


def _table(file: Path) -> object:
    """The table `[tool.mlprun]`; None if there is none, or if the file is another user's."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(str(file), ConfigError.MISSING, f"cannot be read: {error.strerror}") from error
    if b"mlprun" not in content:
        return None
    # As git does: a file in /tmp must not decide what the runs in folders below it import.
    if file.stat().st_uid not in (os.getuid(), 0):
        _warn_of_owner(file)
        return None
    try:
        tool = tomllib.loads(content.decode()).get("tool", {})
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(file), ConfigError.MISSING, f"is not TOML: {error}") from error
    return tool.get("mlprun") if isinstance(tool, Mapping) else None


@cache  # a command looks for the project several times
def _warn_of_owner(file: Path) -> None:
    note = f"{file} belongs to another user and is not read: name its folder with --config-dir"
    print(f"warning: {printable(note, keep='')}", file=sys.stderr)


def _project(table: Any, file: Path) -> Project:
    where = f"[tool.mlprun] of {file}"
    if not isinstance(table, Mapping):
        raise ConfigError(where, table, "must be a table", f"its keys are {', '.join(KEYS)}")
    for key, value in table.items():
        if key not in KEYS:
            raise ConfigError(f"{key} in {where}", ConfigError.MISSING, "there is no such key", suggestion(key, KEYS))
        if not isinstance(value, str) or not value:
            raise ConfigError(f"{key} in {where}", value, "must be a text")
    folder = Path(os.path.relpath(file.parent))
    conf = folder / table["conf"] if "conf" in table else None
    if conf is not None and not conf.is_dir():
        raise ConfigError(f"conf in {where}", table["conf"], "there is no such folder")
    if "defaults" in table and conf is None:
        raise ConfigError(f"defaults in {where}", table["defaults"], "is a file in the folder `conf`", "add conf")
    outputs = folder / os.path.expanduser(table.get("outputs", "outputs"))
    return Project(folder, None if conf is None else str(conf), outputs, table.get("defaults"))
