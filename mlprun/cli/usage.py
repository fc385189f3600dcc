"""Errors as short messages with a remedy, those in options too."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from mlprun.errors import ConfigError, UserError, did_you_mean


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed arguments, options among the others; ConfigError if they are wrong."""

    def error(message: str) -> NoReturn:
        raise _explained(message, parser, arguments)

    setattr(parser, "error", error)  # noqa: B010  mypy refuses to assign to a method
    return parser.parse_intermixed_args(arguments)


def _explained(message: str, parser: argparse.ArgumentParser, arguments: Sequence[str]) -> ConfigError:
    help_ = f"see {parser.prog} --help"
    unknown = message.removeprefix("unrecognized arguments: ")
    word = next((word for word in arguments if word.startswith("-") and unknown.startswith(word)), None)
    if unknown == message or word is None:
        if match := re.fullmatch(r"argument (-\S+): (.*)", message):
            return ConfigError(max(match[1].split("/"), key=len), ConfigError.MISSING, match[2], help_)
        return ConfigError(parser.prog, ConfigError.MISSING, message, help_)
    known = [name for action in parser._actions for name in action.option_strings if name[:2] == "--"]
    if close := difflib.get_close_matches(word.partition("=")[0], known, n=1, cutoff=0.75):
        return ConfigError(word, ConfigError.MISSING, "there is no such option", did_you_mean(close))
    name, _, value = word.lstrip("-").partition("=")
    following = [*arguments[arguments.index(word) + 1 :], "-"][0]
    value = value or ("…" if following.startswith("-") or "=" in following else following)
    keys = any(action.dest == "overrides" for action in parser._actions)
    remedy = f"keys have no dashes: write {name}={value}; {help_}" if keys and name else help_
    return ConfigError(word, ConfigError.MISSING, "there is no such option", remedy)


def report(error: UserError) -> None:
    """Print an error, with its traceback if MLPRUN_TRACEBACK is 1."""
    from mlprun.terminal import print_line

    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    print_line(f"error: {error}", sys.stderr)
