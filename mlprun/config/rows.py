"""Keys that are swept together: `pair=zip(model=choice(mlp,cnn),optim.lr=choice(1e-3,1e-4))`; `sweep.points=FILE.csv`.

The grammar is that of Hydra's plan (hydra#1258). Hydra's parser does not read dotted names of arguments, so a zip is
read here, before it, and is one choice of a row from there on.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from hydra.core.override_parser.types import ChoiceSweep, Override, OverrideType, ValueType

from mlprun.errors import ConfigError

_ZIP = re.compile(r"(?P<name>[\w-]+)=zip\((?P<columns>.*)\)", re.DOTALL)
# A part of the arguments without a comma of its own: quoted text, or anything else but a bracket.
_PART = re.compile(r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|[^,'"()\[\]{}]+|.""", re.DOTALL)
EXAMPLE = "pair=zip(model=choice(mlp,cnn),optim.lr=choice(1e-3,1e-4))"


@dataclass
class Rows(Override):
    """A choice of a row; `rows` are the overrides of each."""

    rows: list[list[str]] = field(default_factory=list)


def is_zip(line: str) -> bool:
    return _ZIP.fullmatch(line) is not None


def parse_zip(line: str, parse: Callable[[str], Override]) -> Rows:
    """The rows of a zip; ConfigError if it cannot be read, or its columns differ in length."""
    match = _ZIP.fullmatch(line)
    assert match is not None
    name, typed = match["name"], line.partition("=")[2]
    columns: dict[str, list[str]] = {}
    for column in _split(match["columns"]):
        if "=" not in column or is_zip(column):
            raise ConfigError(name, typed, f"{column or 'an empty argument'} is no KEY=VALUES", f"write {EXAMPLE}")
        override = parse(column.strip())
        key = override.get_key_element()
        if not override.is_discrete_sweep():
            raise ConfigError(key, column.partition("=")[2], "is no list of values", f"write {EXAMPLE}")
        if key in columns:
            raise ConfigError(name, typed, f"names {key} twice", f"write {EXAMPLE}")
        columns[key] = list(override.sweep_string_iterator())
    lengths = {key: len(values) for key, values in columns.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise ConfigError(name, typed, f"its lists differ in length: {counts}", "give each key as many values")
    rows = zip(*columns.values(), strict=True)
    return _rows(name, line, [[f"{key}={value}" for key, value in zip(columns, row, strict=True)] for row in rows])


def read_points(file: str) -> Rows:
    """The rows of a CSV file with a column for each key; an empty cell leaves its key as it is.

    ConfigError if it cannot be read.
    """
    try:
        with open(file, newline="", encoding="utf-8-sig") as opened:
            keys, *rows = [row for row in csv.reader(opened) if any(row)] or [[]]
    except (OSError, ValueError, csv.Error) as error:
        problem = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise ConfigError("sweep.points", file, problem, "name a CSV file with one column for each key") from error
    keys = [key.strip() for key in keys]
    if not rows or not all(keys) or len(set(keys)) < len(keys):
        problem = "has no points" if not rows else "has a column without a key, or one twice"
        raise ConfigError("sweep.points", file, problem, "the first line names the keys, each other line is a point")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(keys):
            problem = f"point {number} has {len(row)} cells, and there are {len(keys)} keys"
            raise ConfigError("sweep.points", file, problem, "quote cells with commas")
    lines = [[f"{key}={cell.strip()}" for key, cell in zip(keys, row, strict=True) if cell.strip()] for row in rows]
    return _rows("sweep.points", f"sweep.points={file}", lines)


def _rows(name: str, line: str, rows: list[list[str]]) -> Rows:
    values = ChoiceSweep(list=[" ".join(row) for row in rows])
    return Rows(OverrideType.CHANGE, name, ValueType.CHOICE_SWEEP, values, input_line=line, rows=rows)


def _split(text: str) -> list[str]:
    """The parts between the commas that are outside of brackets and quotes."""
    parts, depth = [""], 0
    for match in _PART.finditer(text):
        token = match[0]
        depth += token in "([{"
        depth -= token in ")]}"
        if token == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += token
    return [part.strip() for part in parts]


def rows_of(override: Override) -> list[list[str]]:
    """The overrides of each value of a discrete sweep."""
    if isinstance(override, Rows):
        return override.rows
    return [[f"{override.get_key_element()}={value}"] for value in override.sweep_string_iterator()]
