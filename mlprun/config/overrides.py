"""One override from the command line."""

from __future__ import annotations

from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mlprun.errors import ConfigError


def parse_override(parser: OverridesParser, line: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except Exception as error:  # the lexer has errors of its own for some characters
        remedy = "write key=value; quote a value with spaces, commas or brackets: \"eval_every='100 steps'\""
        raise ConfigError(line, ConfigError.MISSING, "cannot be read", remedy) from error


def typed_value(override: Override) -> object:
    """The text after the `=`."""
    _, equals, value = (override.input_line or "").partition("=")
    return value if equals else ConfigError.MISSING


def check_boolean(override: Override) -> None:
    # OmegaConf accepts any number
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if not all(isinstance(v, bool) or str(v).startswith("${") for v in values):
        raise ConfigError(override.key_or_group, typed_value(override), "must be true or false")


def ask_for_multirun(override: Override) -> NoReturn:
    key = override.key_or_group
    remedy = f"add -m for one run per value, or write {key}=[…] for a list"
    raise ConfigError(key, typed_value(override), "several values are a sweep", remedy)
