"""One override from the command line."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, OverrideType, ValueType

from mlprun.errors import ConfigError

LARGEST_SWEEP = 10**5  # values of one key
# Keys whose values are names and paths: 2024_11 is no number there.
TEXT_KEYS = (
    *("data.groups", "data.name", "data.path", "data.root", "data.target", "data.text.vocabulary", "monitor"),
    *("sweep.name", "sweep.points", "trainer.weights"),
    *("hydra.job.name", "hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"),
)
TEXT_LISTS = ("data.categorical", "data.drop", "data.numeric", "trainer.freeze")  # keys whose values are lists of names
# A quoted text, which stays as it is; or what is between the commas and brackets of a list of values.
_NUMBER = re.compile(r"(?P<key>[a-zA-Z_]\w*(\.[a-zA-Z_]\w*)*)=(?P<value>-?(0|[1-9]\d*)(\.\d+)?(e-?\d+)?)", re.ASCII)
_VALUES = re.compile(
    r"""'(?:\\.|[^'\\])*'|"(?:\\.|[^"\\])*"|(?<![^,(\[])\s*(?P<value>[^,()\[\]{}'"]+?)\s*(?=[,)\]]|$)"""
)


def parse_override(parser: OverridesParser, line: str) -> Override:
    if match := _NUMBER.fullmatch(line):  # Hydra's parser takes half a millisecond, and a sweep has thousands of them
        number = float(match["value"]) if set(match["value"]) & set(".e") else int(match["value"])
        override = Override(OverrideType.CHANGE, match["key"], ValueType.ELEMENT, number, input_line=line)
        override.config_loader = parser.config_loader
        return override
    key, equals, value = line.partition("=")
    try:
        return parser.parse_overrides([f"{key}{equals}{_VALUES.sub(_quote_alphabet, value)}"])[0]
    except Exception as error:  # the lexer has errors of its own for some characters
        if key in TEXT_KEYS and value and not set(value) & set("'\"\\,[]{}"):
            return parser.parse_overrides([f"{key}='{value}'"])[0]
        remedy = "write key=value; quote a value with spaces, commas or brackets: \"eval_every='100 steps'\""
        raise ConfigError(line, ConfigError.MISSING, "cannot be read", remedy) from error


def quote_numbers(line: str) -> str:
    """Quote what Hydra would read as a number or a boolean and write otherwise: 2024_11 as 202411, 83e2 as 8300.0."""
    key, equals, value = line.partition("=")
    return f"{key}{equals}{_VALUES.sub(_quote_number, value)}"


def _quote_alphabet(match: re.Match[str]) -> str:
    """Quote a word with letters that Hydra does not read."""
    word = match["value"]
    return match[0] if word is None or word.isascii() or "${" in word else f"'{word}'"


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
    if override.is_interval_sweep():
        raise ConfigError(override.key_or_group, typed_value(override), "must be true or false", "write true,false")
    # OmegaConf accepts any number
    values = override.sweep_iterator() if override.is_sweep_override() else [override.value()]
    if not all(isinstance(v, bool) or str(v).startswith("${") for v in values):
        raise ConfigError(override.key_or_group, typed_value(override), "must be true or false")


def refuse_none(override: Override) -> None:
    """ConfigError if a value is the text None, which is meant to be null."""
    if any(type(text) is str and text == "None" for text in _elements(override._value)):
        line = re.sub(r"\bNone\b", "null", str(override.input_line))
        raise ConfigError(override.key_or_group, typed_value(override), "None is a text here", f"write {line}")


def _elements(value: Any) -> Iterator[Any]:
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _elements(item)
    elif isinstance(value, ChoiceSweep):
        yield from _elements(value.list)
    else:
        yield value


def check_sweep(override: Override, options: list[str]) -> None:
    """ConfigError for a sweep without values, or with values that Hydra would change; `options`: of a group."""
    if not override.is_discrete_sweep():
        return
    key, typed = override.key_or_group, typed_value(override)
    try:
        values = list(islice(override.sweep_string_iterator(), LARGEST_SWEEP + 1))
    except Exception as error:  # of a step of 0, for example
        raise ConfigError(key, typed, f"has no values: {str(error).splitlines()[0]}") from error
    if not values and isinstance(override._value, Glob):
        known = f"there are {', '.join(options)}" if options else "glob is for groups, such as model=glob(*)"
        raise ConfigError(key, typed, "matches nothing", known)
    if not values:
        raise ConfigError(key, typed, "has no values", "write range(START,STOP,STEP), which leaves STOP out, or a,b")
    if len(values) > LARGEST_SWEEP:
        raise ConfigError(key, typed, f"has more than {LARGEST_SWEEP:,} values")
    inner = re.search(r"range\([^()]*\)", str(typed))
    if inner and "sort(" in str(typed):  # Hydra sorts the ends of a range, and starts at the other
        plain = OverridesParser.create().parse_override(f"x={inner[0]}").sweep_string_iterator()
        meant = sorted(
            plain, key=float, reverse=re.search(r"reverse\s*=\s*true", str(typed), re.IGNORECASE) is not None
        )
        if sorted(map(float, values)) != sorted(map(float, meant)):
            raise ConfigError(key, typed, f"Hydra would run {','.join(values)}", f"write {key}={','.join(meant)}")


def ask_for_multirun(override: Override) -> NoReturn:
    key = override.key_or_group
    remedy = f"add -m for one run per value, or write {key}=[…] for a list"
    raise ConfigError(key, typed_value(override), "several values are a sweep", remedy)
