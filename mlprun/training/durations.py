"""Durations as people say them (`10 epochs`, `500 steps`, `5%`), turned into optimizer steps in one place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mlprun.errors import ConfigError, suggestion

_NUMBER_AND_UNIT = re.compile(r"([+-]?(?:[0-9]|\.[0-9])[0-9_.]*(?:e[+-]?[0-9]+)?)\s*(.*)", re.IGNORECASE | re.DOTALL)
_UNITS = {"epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps", "%": "%"}
_EXAMPLES = "write for example '10 epochs', '500 steps' or '5%'"
_LARGEST = 1e15  # beyond it, a float no longer counts single steps


@dataclass(frozen=True)
class Duration:
    """A length of training.

    Attributes:
        amount: how many of the unit; finite and >= 0.
        unit: `epochs`, `steps` or `%` (of all steps).
        key: the config key it was read from, for messages.
    """

    amount: float
    unit: str
    key: str = field(default="duration", compare=False)

    def __str__(self) -> str:
        """The way to write it; `parse(str(duration)) == duration`."""
        number = repr(float(self.amount)).removesuffix(".0")
        if self.unit == "%":
            return f"{number}%"
        return f"{number} {self.unit.removesuffix('s') if number == '1' else self.unit}"

    def steps(self, steps_per_epoch: int | None, total_steps: int) -> int:
        """The duration in optimizer steps, to the nearest; one above 0 lasts at least 1 step.

        Args:
            steps_per_epoch: None where the data does not tell its length.
            total_steps: what `%` is a share of.

        Raises:
            ConfigError: it counts epochs and `steps_per_epoch` is None.
        """
        if self.amount == 0:
            return 0
        if self.unit == "%":
            exact = self.amount * total_steps / 100
        elif self.unit == "steps":
            exact = self.amount
        elif steps_per_epoch is None:
            raise ConfigError(
                self.key,
                self,
                "the training data does not tell its length, so an epoch has no known number of steps",
                "count in steps instead, for example '500 steps'",
            )
        else:
            exact = self.amount * steps_per_epoch
        return max(1, int(exact + 0.5))


def parse(text: object, key: str = "duration") -> Duration:
    """Read a duration: a number >= 0 and a unit (`epochs`, `steps`, `%`); `0` needs no unit.

    Args:
        text: what stands in the config; spaces are optional, `1_000` and `1e3` are numbers.
        key: the config key, for the message.

    Raises:
        ConfigError: no number, no unit, an unknown unit, or a number out of range.
    """
    # A YAML `true` would otherwise be read as the word it prints as.
    found = None if isinstance(text, bool) else _NUMBER_AND_UNIT.fullmatch(str(text).strip())
    if found is None:
        raise ConfigError(key, text, "is not a duration", _EXAMPLES)
    number, word = found.groups()
    try:
        amount = float(number)
    except ValueError:
        raise ConfigError(key, text, f"'{number}' is not a number", _EXAMPLES) from None
    if amount < 0:
        raise ConfigError(key, text, "a duration cannot be negative", _EXAMPLES)
    if amount > _LARGEST:
        raise ConfigError(key, text, "is too long for a training", _EXAMPLES)
    if not word:
        if amount == 0:
            return Duration(0.0, "steps", key)
        raise ConfigError(key, text, "has no unit", f"write '{number} steps' or '{number} epochs'")
    unit = _UNITS.get(word.lower())
    if unit is None:
        raise ConfigError(key, text, f"unknown unit '{word}'", suggestion(word, ["epochs", "steps", "%"]))
    return Duration(abs(amount), unit, key)  # abs: '-0 steps' is 0
