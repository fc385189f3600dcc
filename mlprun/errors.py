"""Errors for the user: what is wrong, the value, the remedy.

The command line prints the text of a `UserError` without a traceback and exits with its `exit_status`. Any other
exception is a bug in mlprun or comes from the user's own code.
"""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Iterable

from mlprun.formatting import as_typed, printable, truncate


class UserError(Exception):
    """An error that the user can fix; `str(error)` is the whole message."""

    exit_status = 1


class DataError(UserError):
    """The data is missing, damaged or does not match the config."""


class RunError(UserError):
    """A run failed: it diverged, ran out of memory or could not write its directory."""


class DivergedError(RunError):
    """The loss or the gradient became non-finite; a retry would give the same."""


class ConfigError(UserError, ValueError):
    """A config key has an invalid value; the message is `key=value: problem` and, on a second line, the remedy.

    `key` is dotted and may be relative to the code that raises (`activation`); `under` completes it
    (`model.activation`). `MISSING` as the value shows the key alone.
    """

    exit_status = 2
    MISSING: object = inspect.Parameter.empty  # a class, and so the same in every process

    def __init__(self, key: str, value: object, problem: str, remedy: str = "") -> None:
        self.key, self.value, self.problem, self.remedy = key, value, problem, remedy
        super().__init__(key, value, problem, remedy)

    def __str__(self) -> str:
        key = printable(self.key, keep="")
        head = key if self.value is self.MISSING else f"{key}={shown(self.value)}"
        text = f"{head}: {self.problem}"
        return f"{text}\n  {self.remedy}" if self.remedy else text

    def under(self, prefix: str) -> ConfigError:
        """The same error for the key `prefix.key`, or `prefix` if it has none."""
        return ConfigError(f"{prefix}.{self.key}" if self.key else prefix, self.value, self.problem, self.remedy)


def shown(value: object) -> str:
    """`value` as typed on the command line, truncated to 120 characters."""
    return truncate(as_typed(value), 120)


def is_users_own(file: str) -> bool:
    """Whether a source file is in the current folder and belongs neither to mlprun nor to an installed package."""
    if file.startswith("<") or "site-packages" in file:  # such as <frozen importlib._bootstrap>
        return False
    path, folder = os.path.abspath(file), os.getcwd().rstrip(os.sep) + os.sep
    if not path.startswith(folder) or "site-packages" in path:
        return False
    ours = os.path.dirname(os.path.abspath(__file__))
    plugin = os.path.join(os.path.dirname(ours), "hydra_plugins", "mlprun_")  # in a checkout
    return not path.startswith((ours + os.sep, plugin))


def close_matches(word: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates that resemble `word`, best first."""
    lowered = {c.lower(): c for c in candidates}
    return [lowered[match] for match in difflib.get_close_matches(word.lower(), lowered, n=count)]


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """`did you mean 'relu'?`, or the list of all candidates."""
    known = sorted(set(candidates))
    close = close_matches(word, known)
    return did_you_mean(close) if close else "choose from: " + ", ".join(known)


def did_you_mean(words: Iterable[str]) -> str:
    """`did you mean 'relu' or 'elu'?`."""
    return "did you mean " + " or ".join(f"'{word}'" for word in words) + "?"
