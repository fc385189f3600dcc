"""How a job ended, its result, and the line that continues it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path

from mlprun.formatting import format_metric


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: `completed`, `failed` or `interrupted`.
        directory: of the run.
        metrics: `val/…` of the best checkpoint and `test/…`.
        objective: the monitored value of the best checkpoint, NaN for a run without one.
        exit_status: for the command line.
        began: whether a step was to be done; what fails before it leaves nothing worth keeping.
    """

    status: str
    directory: Path
    metrics: dict[str, float] = field(default_factory=dict)
    objective: float = float("nan")
    exit_status: int = 0
    began: bool = True


def resume_line(path: Path) -> str:
    return f"mlprun resume {shlex.quote(str(path))}"


def result_line(metrics: dict[str, float], best_step: int, monitor: str) -> str:
    tested = "  ".join(
        f"{k.removeprefix('test/')} {format_metric(v)}" for k, v in metrics.items() if k.startswith("test/")
    )
    return f"test    {tested}  (best checkpoint: step {best_step}, {monitor} {format_metric(metrics[monitor])})"
