"""One override from the command line."""

from __future__ import annotations

import contextlib
import re
from typing import NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from mlprun.errors import ConfigError

# Keys whose values are names and paths: 2024_11 is no number there.
TEXT_KEYS = (
    *("data.name", "data.root", "data.text.vocabulary", "monitor", "sweep.name", "trainer.weights"),
    *("hydra.job.name", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"),
)
# A quoted text, which stays as it is; or what stands between the commas and brackets of a list of values.
_VALUES = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<![^,(\[])\s*(?P<value>[^,()\[\]{}'"]+?)\s*(?=[,)\]]|$)"""
)


def parse_override(parser: OverridesParser, line: str) -> Override:
    try:
        return parser.parse_overrides([line])[0]
    except Exception as error:  # the lexer has errors of its own for some characters
        remedy = "write key=value; quote a value with spaces, commas or brackets: \"eval_every='100 steps'\""
        raise ConfigError(line, ConfigError.MISSING, "cannot be read", remedy) from error


def quote_numbers(line: str) -> str:
    """Quote what Hydra would read as a number or a boolean and write otherwise: 2024_11 as 202411, 83e2 as 8300.0."""
    key, equals, value = line.partition("=")
    return f"{key}{equals}{_VALUES.sub(_quote_number, value)}"


def _quote_number(match: re.Match[str]) -> str:
    word = match["value"]
    return match[0] if word is None or _is_kept(word) else f"'{word}'"


def _is_kept(word: str) -> bool:
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return str(number(word)) == word
    return word.lower() not in ("true", "false")


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
