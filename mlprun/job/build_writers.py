"""From config to writers."""

from __future__ import annotations

from mlprun.config.instantiate import construct
from mlprun.config.schema import Config
from mlprun.errors import ConfigError
from mlprun.writers.base import Writer
from mlprun.writers.collection import Writers


def build_writers(config: Config) -> Writers:
    """The writers of a config as one, not started.

    Raises:
        ConfigError: a class is missing, takes other arguments, or is no writer.
    """
    built = {}
    for name, node in config.writers.items():
        built[name] = construct(node, f"writers.{name}")
        if not isinstance(built[name], Writer):
            remedy = "derive the class from mlprun.writers.base.Writer"
            raise ConfigError(f"writers.{name}._target_", node["_target_"], "is no writer", remedy)
    return Writers(built)
