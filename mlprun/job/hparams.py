"""A run's row in TensorBoard's HParams table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_LEFT_OUT = (
    *("logging", "writers", "checkpoint", "sweep", "inspect", "max_time"),
    *("root", "dataset", "input_shape", "num_outputs"),
)


# shown for every run
_ALWAYS = ("data.name", "model", "optim", "optim.lr", "scheduler", "batch_size", "epochs", "steps", "seed")


def hyperparameters(config: dict[str, Any], overrides: Iterable[str]) -> dict[str, bool | float | str]:
    """The settings that tell runs apart, for TensorBoard's table: `optim` -> `Adam`, `optim.lr` -> 0.001.

    These are a few that every run has, and what the override lines set, without paths and what is off (null, false).
    """
    split = (line.lstrip("+").partition("=") for line in overrides if "=" in line)
    # `+optim@optim.groups.body=adam` chooses from the group `optim` for the key after the `@`
    values = {key.rpartition("@")[2]: value for key, _, value in split}
    chosen = {"experiment": values["experiment"]} if "experiment" in values else {}
    typed = tuple(f"{key}." for key in values if "." in key)
    flat = _flat(config, "")
    return chosen | {key: flat[key] for key in flat if key in _ALWAYS or key in values or f"{key}.".startswith(typed)}


def _flat(values: dict[str, Any], prefix: str) -> dict[str, bool | float | str]:
    flat: dict[str, bool | float | str] = {}
    for name, value in values.items():
        if name in _LEFT_OUT or value in (None, {}) or (name == "freeze" and not value):
            continue
        if name == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not False:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
