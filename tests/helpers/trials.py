"""Trials of a sweep that never ran."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.runs.collect import Run
from mlprun.runs.record import RunRecord


def a_run(number: int, value: float | None = 1.0, status: str = "completed", **more: Any) -> Run:
    """A run that ended `number` seconds after ten; `more`: its lr, model, seed, monitor, momentum."""
    monitor, lr, seed = more.pop("monitor", "val/loss"), more.pop("lr", number / 10), more.pop("seed", 0)
    optim = {"lr": lr, **more}
    overrides = [*(f"optim.{key}={value}" for key, value in optim.items()), f"seed={seed}"]
    minute, second = divmod(number, 60)
    return Path(f"runs/{number}"), RunRecord(
        status=status,
        config={"seed": seed, "monitor": monitor, "data": {"name": "digits"}, "optim": optim},
        overrides=overrides,
        started_at="2026-11-21T10:00:00+00:00",
        ended_at=f"2026-11-21T10:{minute:02}:{second:02}+00:00",
        elapsed_sec=1.0,
        metrics={} if value is None else {monitor: value},
        higher_is_better={"accuracy": True, "loss": False},
    )
