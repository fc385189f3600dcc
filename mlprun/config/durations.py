"""Lengths as people say them, in one place: `10 epochs`, `500 steps`, `5%` become optimizer steps, `2h` seconds."""

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


def parse_seconds(text: object, key: str) -> float:
    """Read a time limit: `2h`, `90 min`, `1h30m`, `45 s`, or a scheduler's `[D-]HH:MM:SS`.

    Args:
        text: what stands in the config.
        key: the config key, for the message.

    Raises:
        ConfigError: it is none, or not above 0.
    """
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
