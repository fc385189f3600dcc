"""A run's row in TensorBoard's HParams table."""

from __future__ import annotations

from typing import Any

from mlprun.config.schema import INPUT_SECTIONS

_LEFT_OUT = (
    *("logging", "writers", "checkpoint", "sweep", "inspect", "max_time"),
    *("root", "dataset", "input_shape", "num_outputs"),
)


def hyperparameters(values: dict[str, Any], prefix: str = "") -> dict[str, bool | float | str]:
    """The settings that distinguish runs, for TensorBoard's table: `optim` -> `Adam`, `optim.lr` -> 0.001.

    Without paths, sizes that follow from the data, and settings that are off (null, false).
    """
    flat: dict[str, bool | float | str] = {}
    for name, value in values.items():
        if (
            name in _LEFT_OUT
            or value in (None, {})
            or (name == "freeze" and not value)
            or (name in INPUT_SECTIONS and prefix == "data." and name not in values["dataset"])  # not read
        ):
            continue
        if name == "_target_":
            flat[prefix.removesuffix(".")] = str(value).rpartition(".")[2]
        elif isinstance(value, dict):
            flat |= hyperparameters(value, f"{prefix}{name}.")
        elif value is not False:
            flat[f"{prefix}{name}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat
