"""One override of the command line."""

from __future__ import annotations

from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mlprun.errors import ConfigError


def parse_override(parser: OverridesParser, line: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except Exception as error:  # the lexer meets some characters with an error of its own
        raise ConfigError(
            line, ConfigError.MISSING, "cannot be read",
            "write key=value; quote a value with spaces, commas or brackets: \"eval_every='100 steps'\"",
        ) from error  # fmt: skip


def typed_value(override: Override) -> object:
    """What stands behind the `=`, as it was typed."""
    _, equals, value = (override.input_line or "").partition("=")
    return value if equals else ConfigError.MISSING


def check_boolean(override: Override) -> None:
    """OmegaConf takes any number for true."""
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if not all(isinstance(v, bool) or str(v).startswith("${") for v in values):
        raise ConfigError(override.key_or_group, typed_value(override), "must be true or false")


def ask_for_multirun(override: Override) -> NoReturn:
    raise ConfigError(
        override.key_or_group,
        typed_value(override),
        "several values are a sweep",
        f"add -m for one run a value, or write {override.key_or_group}=[…] for a list",
    )
