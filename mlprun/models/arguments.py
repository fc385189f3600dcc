"""Checks of arguments that several models have. Each raises a ConfigError whose `key` is the argument."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mlprun.errors import ConfigError, suggestion


def check_positive(**sizes: int) -> None:
    """Accept positive whole numbers only."""
    for key, size in sizes.items():
        if not _is_positive(size):
            raise ConfigError(key, size, "must be a positive whole number")


def check_sizes(key: str, sizes: Sequence[int], at_least: int = 0) -> tuple[int, ...]:
    """`sizes` as a tuple of `at_least` or more positive whole numbers."""
    if not isinstance(sizes, Sequence) or isinstance(sizes, str):
        remedy = f"write {key}=[{sizes}]" if sizes is not None else "the data does not define it: write [1,28,28]"
        raise ConfigError(key, sizes, "must be a list of sizes", remedy)
    if len(sizes) < at_least:
        raise ConfigError(key, list(sizes), f"needs at least {at_least} size{'s' * (at_least > 1)}")
    for size in sizes:
        if not _is_positive(size):
            raise ConfigError(key, list(sizes), f"{size!r} is not a size", "sizes are positive whole numbers")
    return tuple(sizes)


def check_image_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """`input_shape` as (channels, height, width)."""
    shape = check_sizes("input_shape", input_shape, at_least=1)
    if len(shape) != 3:
        raise ConfigError("input_shape", list(shape), "this model needs images, [channels, height, width]")
    return shape[0], shape[1], shape[2]


def check_dropout(**rates: float) -> None:
    """Accept probabilities below 1 only."""
    for key, rate in rates.items():
        if not isinstance(rate, int | float) or not 0 <= rate < 1:
            raise ConfigError(key, rate, "must be a probability in [0, 1)", "0 switches dropout off")


def check_choice(key: str, value: str, known: Collection[str]) -> str:
    """`value`, if it is one of `known`."""
    if not isinstance(value, str) or value not in known:
        raise ConfigError(key, value, f"there is no such {key}", suggestion(str(value), known))
    return value


def _is_positive(size: object) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size > 0
