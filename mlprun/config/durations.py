"""Parses durations: `10 epochs`, `500 steps` or `5%` become optimizer steps, `2h` seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from mlprun.errors import ConfigError, suggestion

_NUMBER_AND_UNIT = re.compile(r"([+-]?(?:[0-9]|\.[0-9])[0-9_.]*(?:e[+-]?[0-9]+)?)\s*(.*)", re.IGNORECASE | re.DOTALL)
_UNITS = {"epoch": "epochs", "epochs": "epochs", "step": "steps", "steps": "steps", "%": "%"}
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0, "sec": 1.0}
_EXAMPLES = "write for example '10 epochs', '500 steps' or '5%'"
_LARGEST = 1e15  # beyond it, a float no longer counts single steps


@dataclass(frozen=True)
class Duration:
    """A length of training: a finite `amount` >= 0 of a unit, `epochs`, `steps` or `%` (of all steps).

    `key` is its config key, for messages.
    """

    amount: float
    unit: str
    key: str = field(default="duration", compare=False)

    def __str__(self) -> str:
        """`parse(str(duration)) == duration`."""
        number = repr(float(self.amount)).removesuffix(".0")
        if self.unit == "%":
            return f"{number}%"
        return f"{number} {self.unit.removesuffix('s') if number == '1' else self.unit}"

    def steps(self, steps_per_epoch: int | None, total_steps: int) -> int:
        """The duration in optimizer steps, rounded; one above 0 lasts at least 1 step.

        Raises:
            ConfigError: it counts epochs, and `steps_per_epoch` is None: the data has no known length.
        """
        if self.amount == 0:
            return 0
        if self.unit == "%":
            exact = self.amount * total_steps / 100
        elif self.unit == "steps":
            exact = self.amount
        elif steps_per_epoch is None:
            problem = "the training data does not tell its length, so an epoch has no known number of steps"
            raise ConfigError(self.key, self, problem, "count in steps instead, for example '500 steps'")
        else:
            exact = self.amount * steps_per_epoch
        return max(1, int(exact + 0.5))


def parse(text: object, key: str = "duration") -> Duration:
    """Parse a number >= 0 and a unit (`epochs`, `steps`, `%`); `0` needs no unit, spaces are optional.

    Raises:
        ConfigError: no number, no unit, an unknown unit, or a number out of range; for the config key `key`.
    """
    match = _NUMBER_AND_UNIT.fullmatch(str(text).strip())
    if match is None:
        raise ConfigError(key, text, "is not a duration", _EXAMPLES)
    number, word = match.groups()
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


def parse_seconds(text: object, key: str) -> float:
    """Parse a time limit above 0: `2h`, `90 min`, `1h30m`, `45 s`, or a scheduler's `[D-]HH:MM:SS`."""
    examples = "write for example '2h', '90 min', '1h30m' or '02:00:00'"
    words = str(text).strip().lower()
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d):(\d\d)", words)
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*([a-z]+)", words)
    if clock is not None:
        days, hours, minutes, seconds = (int(group or 0) for group in clock.groups())
        total = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif re.fullmatch(r"[\d.]+", words):
        raise ConfigError(key, text, "has no unit", f"write '{words} min' or '{words} h'")
    elif not parts or re.fullmatch(r"(\d+(\.\d+)?\s*[a-z]+\s*)+", words) is None:
        raise ConfigError(key, text, "is not a time", examples)
    elif unknown := [unit for _, unit in parts if unit not in _SECONDS]:
        raise ConfigError(key, text, f"unknown unit '{unknown[0]}'", examples)
    else:
        total = sum(float(amount) * _SECONDS[unit] for amount, unit in parts)
    if not 0 < total < 1e9:
        raise ConfigError(key, text, "must be above 0 and below 30 years", examples)
    return total
