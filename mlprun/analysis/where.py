"""`--where 'val/accuracy>0.97 and model=cnn'`: which runs to look at."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mlprun.analysis.configurations import choice_name, find_value, typed_values
from mlprun.analysis.diff import MISSING, flatten
from mlprun.errors import ConfigError
from mlprun.formatting import as_typed
from mlprun.runs.collect import Run
from mlprun.runs.record import RunRecord

OPTION = "--where"
_EXAMPLE = "write comparisons (= != < <= > >=) joined by and: 'val/accuracy>0.97 and model=cnn'"
_ORDERS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
_COMPARISON = re.compile(
    r"""\s*(?P<key>[^\s=!<>'"]+)\s*(?P<operator>!=|<=|>=|=|<|>)\s*"""
    r"""(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<plain>(?:[^\s=!<>'"\[\]]|\[[^\[\]'"]*\])+))(?=\s|$)"""
)
_AND = re.compile(r"\s+and(?=\s)")


@dataclass(frozen=True)
class Comparison:
    """`KEY OPERATOR VALUE`; a run that lacks the key fulfils none."""

    key: str
    operator: str
    value: str  # as typed after `KEY=`, without quotes

    def __str__(self) -> str:
        quote = '"' if "'" in self.value else "'"
        return f"{self.key}{self.operator}{quote}{self.value}{quote}"

    def holds(self, values: Iterable[Any]) -> bool:
        """Whether one of the values fulfils it: a choice may have two names. For `!=`, none may be equal."""
        values = list(values)
        if self.operator in _ORDERS and (number := as_number(self.value)) is not None:  # whole numbers as such
            return any(_is_number(value) and _ORDERS[self.operator](value, number) for value in values)
        equal = any(self._equals(value) for value in values)
        return bool(values) and equal == (self.operator == "=")

    def _equals(self, value: Any) -> bool:
        number = as_number(self.value)
        if number is not None and _is_number(value):
            return bool(value == number)
        return as_typed(value) == (re.sub(r"([,:])\s+", r"\1", self.value) if self.value[:1] in "[{" else self.value)


def parse_where(text: str) -> list[Comparison]:
    """The comparisons of a line, all of which must hold.

    Raises:
        ConfigError: it is none.
    """
    found: list[Comparison] = []
    place = 0
    while match := _COMPARISON.match(text, place):
        value = next(group for group in match.group("single", "double", "plain") if group is not None)
        found.append(Comparison(match["key"], match["operator"], value))
        if match["operator"] in _ORDERS and as_number(value) is None:
            raise _error(text, f"{value or 'nothing'} is not a number, which {match['operator']} needs")
        place = match.end()
        if not text[place:].strip():
            return found
        if (joined := _AND.match(text, place)) is None:
            break
        place = joined.end()
    rest = text[place:].strip()
    raise _error(text, f"cannot read {rest!r}" if rest else "a comparison is missing", _remedy(rest))


def select(runs: Sequence[Run], where: str) -> list[Run]:
    """The runs for which the line holds, all if it is empty.

    A key is a metric (of the best checkpoint, or of the test split), a key of the config, a group (its choice) or
    `status`.

    Raises:
        ConfigError: it cannot be read, or no run has such a key.
    """
    if not where:
        return list(runs)
    comparisons = parse_where(where)
    values = {each.key: [values_of_run(record, each.key) for _, record in runs] for each in comparisons}
    for each in comparisons:
        present = [value for of_run in values[each.key] for value in of_run]
        if runs and not present:
            raise _error(where, f"no run has {each.key}", nearest(each.key, runs))
        if each.operator in _ORDERS and present and not any(map(_is_number, present)):
            raise _error(where, f"{each.key} is not a number ({as_typed(present[0])})", "compare it by = or !=")
    return [run for i, run in enumerate(runs) if all(each.holds(values[each.key][i]) for each in comparisons)]


def values_of_run(record: RunRecord, key: str) -> list[Any]:
    """What a run has under a key: nothing, a value, or the names of a choice."""
    if key in record.metrics:
        return [record.metric(key)]
    if key == "status":
        return [record.status]
    if not record.has_config:
        return []
    value, typed = find_value(record.config, key), typed_values(record).get(key)
    if value is not MISSING and not isinstance(value, dict):
        return [value]
    names = [typed, choice_name(key, value) if isinstance(value, dict) and value else None]
    return [name for name in dict.fromkeys(names) if name]


def nearest(key: str, runs: Iterable[Run], *more: str) -> str:
    """The remedy for a key that no run has."""
    from mlprun.config.suggest import nearest_key  # late: imports Hydra

    known = [*more, "status"]
    for _, record in runs:
        known += record.metrics
        if record.has_config:
            flat = flatten(record.config)
            known += [*flat, *(name.rpartition(".")[0] for name in flat if "." in name), *typed_values(record)]
    return nearest_key(key, known)


def as_number(text: str) -> int | float | None:
    """The number that a text is, except for NaN."""
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if number == number else None
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _remedy(rest: str) -> str:
    if "==" in rest:
        return "write a single ="
    if re.match(r"\s*(or|not|&&|&|\|\||,|;)", rest):
        return "only `and` joins comparisons; ask again for other runs"
    return _EXAMPLE


def _error(text: str, problem: str, remedy: str = _EXAMPLE) -> ConfigError:
    return ConfigError(OPTION, text, problem, remedy)
