"""Dataclass fields with the meaning and the range of a config key."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from omegaconf import MISSING

from mlprun.config.ranges import Range
from mlprun.errors import ConfigError

DURATION = "duration"  # unit of `10 epochs`, `500 steps`, `5%`
_SCALARS = frozenset((str, int, float, bool, type(None)))
CLOCK_TIME = "wall-clock time"  # unit of `2h`, `90 min`, `02:00:00`


@dataclass(frozen=True)
class Option:
    """The metadata of a key; `section` is the dataclass of a group of keys, `check` None allows all of its type."""

    meaning: str
    check: Range | None = None
    unit: str = ""
    section: type | None = None


def option(default: Any, meaning: str, *, check: Range | None = None, unit: str = "", section: Any = None) -> Any:
    """A dataclass field for a key; a list or dict `default` is copied for each config."""
    metadata = {"option": Option(meaning, check, unit, section)}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: copy.copy(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def group(section: type) -> Any:
    """A dataclass field for a group of keys; the docstring of `section` is its meaning."""
    return field(default_factory=section, metadata={"option": Option(section.__doc__ or "", section=section)})


def iter_options(section: type, config: Any, prefix: str = "") -> Iterator[tuple[str, Option, Any]]:
    """(dotted key, option, value) of every key below a section; a group that is null has none."""
    for name, entry, kind in _options(section):
        value = getattr(config, name)
        if entry.section is None:
            if kind is not None and not (isinstance(value, kind) or value is None or value == MISSING):
                # by an interpolation, which OmegaConf does not check
                problem = "must be a list, such as [a,b]" if kind is list else "is a group of keys, not a value"
                raise ConfigError(f"{prefix}{name}", value, problem)
            yield f"{prefix}{name}", entry, value
        elif value is not None and not isinstance(value, entry.section):  # by an interpolation
            raise ConfigError(f"{prefix}{name}", value, "is a group of keys, not a value")
        elif value is not None:
            yield from iter_options(entry.section, value, f"{prefix}{name}.")


@cache
def _options(section: type) -> list[tuple[str, Option, type | None]]:
    """Name and option of each field, and the kind of its values if they are lists or dicts."""
    return [
        (name, entry, next((kind for kind in (list, dict) if str(spec.type).startswith(kind.__name__)), None))
        for name, (entry, spec) in fields_of(section).items()
    ]


@cache
def fields_of(section: type) -> dict[str, tuple[Option, dataclasses.Field[Any]]]:
    """Name of each field of a section -> its option, and the field."""
    return {spec.name: (spec.metadata["option"], spec) for spec in dataclasses.fields(section)}


def as_dict(value: Any) -> Any:
    """Nested dataclasses, dicts and lists as new dicts and lists; faster than `dataclasses.asdict`."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict:
        return {key: as_dict(item) for key, item in value.items()}
    if kind is list:
        return [as_dict(item) for item in value]
    if hasattr(kind, "__dataclass_fields__"):
        return {name: as_dict(getattr(value, name)) for name in kind.__dataclass_fields__}
    return copy.deepcopy(value)


def default_of(spec: dataclasses.Field[Any]) -> Any:
    """The default of a field; a new object if it is mutable."""
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
