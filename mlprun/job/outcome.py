"""How a job ended: its result, and the command that continues it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mlprun.config.schema import Config
from mlprun.errors import ConfigError, UserError
from mlprun.formatting import format_metric


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    status: str  # `completed`, `failed`, `interrupted` or `pruned`
    directory: Path
    metrics: dict[str, float] = field(default_factory=dict)  # `val/…` of the best checkpoint and `test/…`
    objective: float = float("nan")  # the monitored value of the best checkpoint
    exit_status: int = 0  # for the command line
    began: bool = True  # False if it failed before training, so that nothing in the directory is worth keeping
    error: UserError | None = None  # why it failed


def resume_line(path: Path) -> str:
    return f"mlprun resume {shlex.quote(str(path))}"


def result_lines(metrics: dict[str, float], best_step: int, monitor: str) -> list[str]:
    """The step of the best checkpoint, and its test metrics."""
    shown = (name for name in metrics if name.startswith("test/") and name.count("/") == 1)  # of each class: run.json
    scores = "  ".join(f"{name.removeprefix('test/')} {format_metric(metrics[name])}" for name in shown)
    return [f"best    step {best_step}, {monitor} {format_metric(metrics[monitor])}", f"test    {scores}"]


def shorter_than_done(config: Config, steps: int, num_steps: int) -> ConfigError:
    """The error for a run that has done more steps than `config` asks for."""
    key = "epochs" if config.steps is None else "steps"
    return ConfigError(key, getattr(config, key), f"the run has done {steps} steps already, more than {num_steps}")
