"""Dataclass fields with the meaning and the range of a config key."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from mlprun.config.ranges import Range
from mlprun.errors import ConfigError

DURATION = "duration"  # unit of `10 epochs`, `500 steps`, `5%`
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
    for spec in dataclasses.fields(section):
        entry: Option = spec.metadata["option"]
        value = getattr(config, spec.name)
        if entry.section is None:
            for kind, problem in ((list, "must be a list, such as [a,b]"), (dict, "is a group of keys, not a value")):
                is_right = (
                    value == MISSING or isinstance(value, kind | None) or not str(spec.type).startswith(kind.__name__)
                )
                if not is_right:  # by an interpolation, which OmegaConf does not check
                    raise ConfigError(f"{prefix}{spec.name}", value, problem)
            yield f"{prefix}{spec.name}", entry, value
        elif value is not None and not isinstance(value, entry.section):  # by an interpolation
            raise ConfigError(f"{prefix}{spec.name}", value, "is a group of keys, not a value")
        elif value is not None:
            yield from iter_options(entry.section, value, f"{prefix}{spec.name}.")


def default_of(spec: dataclasses.Field[Any]) -> Any:
    """The default of a field; a new object if it is mutable."""
    return spec.default if spec.default_factory is dataclasses.MISSING else spec.default_factory()
