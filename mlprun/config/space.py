"""The search space of a sweep: what each swept key may be, in Hydra's grammar of intervals, ranges and choices."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hydra.core.override_parser.types import Override, RangeSweep
from omegaconf import DictConfig

from mlprun.config.hydra_private import find_node, is_value
from mlprun.config.overrides import typed_value
from mlprun.config.rows import Rows, rows_of
from mlprun.errors import ConfigError

REPEATS = ("seed", "data.fold")  # a search repeats each trial with all their values
# Keys that change what the monitor measures; the last ones change the loss.
MEASURES = ("data", "data.split_seed", "data.val_fraction", "data.test_fraction", "data.limit_eval", "monitor")
LOSS_MEASURES = ("loss", "data.normalize_targets")
DIGITS = 6  # significant digits of a proposed number


@dataclass(frozen=True)
class Dimension:
    """The values of one key: a choice, or numbers from `low` to `high`, both of them included."""

    key: str  # as typed, with its + and @
    choices: tuple[str, ...] = ()  # as Hydra writes them
    rows: tuple[list[str], ...] = ()  # the overrides of each choice
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    is_int: bool = False
    is_log: bool = False

    def overrides(self, value: Any) -> list[str]:
        """The overrides for a value of this dimension, one of the choices or a number."""
        if self.choices:
            return list(self.rows[self.choices.index(value)])
        return [f"{self.key}={value if self.is_int else f'{value:.{DIGITS}g}'}"]

    def has(self, value: object) -> bool:
        """Whether a recorded value is one of this dimension."""
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, int) or (isinstance(value, float) and not self.is_int)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]  # a number, as just checked

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(self.choices)
        step = f", in steps of {self.step:g}" if self.step else ", whole numbers" if self.is_int else ""
        return f"{self.low:g} to {self.high:g}{step}{', on a log scale' if self.is_log else ''}"

    @property
    def ends(self) -> tuple[Any, Any]:
        """Its first and last value."""
        return (self.choices[0], self.choices[-1]) if self.choices else (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """The dimensions of a search by key, and the overrides that all trials have, without those of Hydra.

    Attributes:
        groups: the dimensions that choose from a group, on which other keys may depend.
        repeats: the overrides of each run of a trial, such as `["seed=0"]`.
    """

    fixed: tuple[str, ...]
    dimensions: Mapping[str, Dimension]
    groups: frozenset[str] = frozenset()
    repeats: list[list[str]] = field(default_factory=lambda: [[]])

    def overrides(self, values: Mapping[str, Any], repeat: int = 0) -> list[str]:
        """The overrides of one run of a trial."""
        chosen = [line for key, dimension in self.dimensions.items() for line in dimension.overrides(values[key])]
        return [*self.fixed, *chosen, *self.repeats[repeat]]

    def has(self, values: object) -> bool:
        """Whether recorded values are a trial of this space."""
        return (
            isinstance(values, dict)
            and values.keys() == self.dimensions.keys()
            and all(dimension.has(values[key]) for key, dimension in self.dimensions.items())
        )

    @property
    def scales(self) -> dict[str, str]:
        """`log` or `linear` for each key with numbers."""
        numeric = (dimension for dimension in self.dimensions.values() if not dimension.choices)
        return {dimension.key.lstrip("+"): "log" if dimension.is_log else "linear" for dimension in numeric}

    def samples(self) -> Iterator[list[str]]:
        """Trials to check before the first run.

        For each combination of groups: the first and the last value of all keys, and each further choice of a key.
        """
        groups = [key for key in self.dimensions if key in self.groups]
        others = [key for key in self.dimensions if key not in self.groups]
        for chosen in itertools.product(*(self.dimensions[key].choices for key in groups)):
            first = dict(zip(groups, chosen, strict=True)) | {key: self.dimensions[key].ends[0] for key in others}
            last = first | {key: self.dimensions[key].ends[1] for key in others}
            tried = [first, last]
            tried += [first | {key: choice} for key in others for choice in self.dimensions[key].choices[1:]]
            for i, values in enumerate(tried):
                if values not in tried[:i]:
                    yield from (self.overrides(values, repeat) for repeat in range(len(self.repeats)))


def is_search(parsed: list[Override], num_trials: object) -> bool:
    """Whether the overrides of a sweep are a search space rather than a grid."""
    return num_trials is not None or any(o.is_interval_sweep() for o in parsed)


def build_space(
    parsed: list[Override], num_trials: object, monitor: str, bases: Mapping[tuple[str, ...], DictConfig]
) -> Space:
    """The space of the overrides of a sweep; the last override of a key counts.

    ConfigError if a key cannot be searched, or if nothing says how many trials there are.

    Args:
        bases: the composition of each combination of the swept groups, such as `("model=mlp",)`.
    """
    by_key = {o.get_key_element(): o for o in parsed}
    swept = {key: o for key, o in by_key.items() if o.is_sweep_override()}
    if num_trials is None:
        key, override = next((key, o) for key, o in swept.items() if o.is_interval_sweep())
        problem = "is an interval, and nothing says how many trials there are"
        raise ConfigError(key, typed_value(override), problem, "add sweep.num_trials=50, or write range(…) for a grid")
    chosen = {choice.partition("=")[0] for choices in bases for choice in choices}
    groups = frozenset(key for key, o in swept.items() if key in chosen or isinstance(o, Rows))
    dimensions = {
        key: _dimension(key, o, None if key in groups else _node(o, bases))
        for key, o in swept.items()
        if o.key_or_group not in REPEATS
    }
    if not dimensions:
        problem = "is for a search, and no key but a seed has several values"
        remedy = "add one: 'optim.lr=tag(log,interval(1e-4,1e-1))' or model=mlp,cnn; or leave it out"
        raise ConfigError("sweep.num_trials", num_trials, problem, remedy)
    for key, override in swept.items():
        names = _keys(override) if isinstance(override, Rows) else [override.key_or_group]
        if repeat := next((name for name in names if name in REPEATS and isinstance(override, Rows)), None):
            problem = f"holds {repeat}, which repeats each trial of a search, and is no hyperparameter"
            raise ConfigError(key, typed_value(override), problem, f"take it out, and write {repeat}=0,1,2")
        for name in names:
            _check_comparable(name, override, monitor)
    repeats = [[f"{key}={v}" for v in _strings(o)] for key, o in swept.items() if key not in dimensions]
    return Space(
        tuple(str(o.input_line) for key, o in by_key.items() if key not in swept and not o.is_hydra_override()),
        dimensions,
        groups,
        [list(chosen) for chosen in itertools.product(*repeats)],
    )


def _strings(override: Override) -> list[str]:
    if override.is_interval_sweep():
        key = override.key_or_group
        problem = "repeats each trial of a search, and is no hyperparameter"
        raise ConfigError(key, typed_value(override), problem, f"write {key}=0,1,2")
    return list(override.sweep_string_iterator())


def _node(override: Override, bases: Mapping[tuple[str, ...], DictConfig]) -> Any:
    """The node of a key, None for a new one; ConfigError if one of the groups' choices lacks the key."""
    if override.is_add() or override.is_force_add():
        return None
    nodes = {choices: find_node(cfg, override.key_or_group) for choices, cfg in bases.items()}
    lacking = [" ".join(choices) for choices, node in nodes.items() if node is None]
    if lacking and len(lacking) < len(nodes):
        problem = f"is no key of {lacking[0]}, and a trial has a value for every key"
        raise ConfigError(override.key_or_group, typed_value(override), problem, "search the choices one by one")
    return next(iter(nodes.values()))


def _dimension(key: str, override: Override, node: Any) -> Dimension:
    """The dimension of a key that holds `node`; an interval of whole numbers has them if the key does."""
    value: Any = override._value
    held = node._value() if node is not None and is_value(node) else None
    typed, tags = typed_value(override), value.tags
    if unknown := sorted(tags - {"log", "int", "float"}):
        raise ConfigError(key, typed, f"has the tag {unknown[0]}", "a search knows the tag log")
    is_log = "log" in tags
    if override.is_interval_sweep():
        if isinstance(held, str):
            raise ConfigError(key, typed, "is an interval, and the key takes words", f"write {key}=a,b")
        is_int = isinstance(value.start, int) and isinstance(value.end, int)  # int(interval(…))
        if isinstance(held, int) and not re.search(r"[.e]|float", str(typed).partition("interval")[2]):
            is_int, value = True, replace(value, start=int(value.start), end=int(value.end))
        dimension = Dimension(key, low=value.start, high=value.end, is_int=is_int, is_log=is_log)
    elif isinstance(value, RangeSweep) and not is_log:
        numbers = list(value.range())
        is_int = all(isinstance(number, int) for number in numbers)
        low, high = min(numbers), max(numbers)
        dimension = Dimension(key, low=low, high=high, step=abs(value.step), is_int=is_int)
    else:
        rows = {" ".join(row).removeprefix(f"{key}="): row for row in rows_of(override)}  # each once
        dimension = Dimension(key, tuple(rows), tuple(rows.values()))
    if is_log and not override.is_interval_sweep():
        problem = "has the tag log, which is for an interval"
        raise ConfigError(key, typed, problem, "leave the tag out, or write tag(log,interval(1e-4,1e-1))")
    if not dimension.choices and not dimension.low < dimension.high:
        remedy = "write interval(LOW,HIGH) with the smaller number first"
        if math.isclose(dimension.low, dimension.high):
            remedy = f"write {key}={dimension.low}"
        raise ConfigError(key, typed, "contains one number at most", remedy)
    if is_log and dimension.low <= 0:
        raise ConfigError(key, typed, "has no logarithm at its lower end", "write an interval above 0")
    if not dimension.choices and not all(map(math.isfinite, dimension.ends)):
        raise ConfigError(key, typed, "has no end", "write finite numbers")
    return dimension


def _keys(rows: Rows) -> list[str]:
    return [line.partition("=")[0].lstrip("+~").partition("@")[0] for line in rows.rows[0]]


def _check_comparable(name: str, override: Override, monitor: str) -> None:
    """Refuse a search over what the monitor means."""
    is_loss = monitor == "val/loss" and any(f"{name}.".startswith(f"{other}.") for other in LOSS_MEASURES)
    if name in MEASURES or is_loss:
        problem = f"changes what {monitor} measures, so that trials could not be compared"
        remedy = "choose one value"
        if is_loss:
            remedy += ", or another monitor such as monitor=val/accuracy"
        raise ConfigError(name, typed_value(override), problem, remedy)
