"""Errors meant for the user: what was wrong, the value, the remedy.

Everything that a user can cause is raised as a `UserError`; the command line prints its
text without a traceback and exits with its `exit_status`. Any other exception is a bug of ours
or comes from the user's own code.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable

from mlprun.formatting import as_typed, truncate


class UserError(Exception):
    """A failure that the user can mend. `str(error)` is the whole message for the terminal."""

    exit_status = 1


class DataError(UserError):
    """The data is missing, damaged or not what the config says."""


class RunError(UserError):
    """A run failed while it trained: divergence, memory, a directory that cannot be written."""


class DivergedError(RunError):
    """The loss or the gradient is not finite any more: the same run again would be the same."""


class ConfigError(UserError, ValueError):
    """A config key has a value that cannot work.

    Args:
        key: dotted config key, relative to the place that raises (`activation`); `under`
            completes it (`model.activation`).
        value: the offending value, shown as `key=value`; `MISSING` shows the key alone.
        problem: what is wrong with it, one line.
        remedy: what to do instead; may be empty.
    """

    exit_status = 2
    MISSING = object()

    def __init__(self, key: str, value: object, problem: str, remedy: str = "") -> None:
        self.key, self.value, self.problem, self.remedy = key, value, problem, remedy
        super().__init__(key, value, problem, remedy)

    def __str__(self) -> str:
        head = self.key if self.value is self.MISSING else f"{self.key}={shown(self.value)}"
        text = f"{head}: {self.problem}"
        return f"{text}\n  {self.remedy}" if self.remedy else text

    def under(self, prefix: str) -> ConfigError:
        """The same error for the key `prefix.key`."""
        return ConfigError(f"{prefix}.{self.key}", self.value, self.problem, self.remedy)


def shown(value: object) -> str:
    """`value` as one would type it on the command line, cut to a readable length."""
    return truncate(as_typed(value), 120)


def is_users_own(file: str) -> bool:
    """Whether a source file lies in the current folder and is not mlprun's or an installed package's."""
    path, ours = os.path.abspath(file), os.path.dirname(os.path.abspath(__file__))
    plugin = os.path.join(os.path.dirname(ours), "hydra_plugins", "mlprun_")  # of a checkout one stands in
    return (
        path.startswith(os.getcwd().rstrip(os.sep) + os.sep)
        and "site-packages" not in path
        and not path.startswith((ours + os.sep, plugin))
    )


def close_matches(word: str, candidates: Iterable[str], count: int = 3) -> list[str]:
    """The candidates that look like `word`, best first; for "did you mean"."""
    known = list(dict.fromkeys(candidates))
    lowered = {c.lower(): c for c in known}
    found = difflib.get_close_matches(word.lower(), lowered, n=count, cutoff=0.6)
    return [lowered[f] for f in found]


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """`did you mean 'relu'?`, or the list of what there is; one line."""
    known = sorted(dict.fromkeys(candidates))
    found = close_matches(word, known)
    if found:
        return did_you_mean(found)
    return "choose from: " + ", ".join(known)


def did_you_mean(words: Iterable[str]) -> str:
    """`did you mean 'relu' or 'elu'?`."""
    return "did you mean " + " or ".join(f"'{word}'" for word in words) + "?"
