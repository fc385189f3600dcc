"""mlprun turns one command line, or one call, into a recorded, reproducible PyTorch training run.

`run`, `load`, `run_sweep` and `list_runs` are the Python API; docs/python.md explains it. What they need, torch too, is
imported when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlprun.api.model import Predictions, TrainedModel, load
    from mlprun.api.rows import Rows
    from mlprun.api.runs import Run, Sweep, list_runs, run, run_sweep
    from mlprun.errors import ConfigError, DataError, DivergedError, RunError, UserError

__version__ = "0.1.0"

__all__ = [
    "ConfigError", "DataError", "DivergedError", "Predictions", "Rows", "Run", "RunError", "Sweep", "TrainedModel",
    "UserError", "list_runs", "load", "run", "run_sweep",
]  # fmt: skip

_MODULES = {
    "mlprun.api.model": ("Predictions", "TrainedModel", "load"),
    "mlprun.api.rows": ("Rows",),
    "mlprun.api.runs": ("Run", "Sweep", "list_runs", "run", "run_sweep"),
    "mlprun.errors": ("ConfigError", "DataError", "DivergedError", "RunError", "UserError"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'mlprun' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
