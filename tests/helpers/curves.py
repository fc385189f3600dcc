"""Runs that never ran, with losses of one's choice."""

from __future__ import annotations

import json
from pathlib import Path

CONFIG = {"seed": 0, "monitor": "val/loss", "data": {"name": "digits"}, "optim": {"lr": 0.1}, "trainer": {}}
LOSSES = [4.0, 2.0, 1.0]


def make_run(path: Path, losses=LOSSES, *, seed=0, lr=0.1, status="completed", lines=None, **more) -> Path:
    """A run with a row a step: train/loss, val/loss and val/accuracy, under a rate that grows tenfold a step."""
    path.mkdir(parents=True)
    record = {
        "status": status, "config": {**CONFIG, "seed": seed, "optim": {"lr": lr}}, "best_step": 3,
        "overrides": [f"optim.lr={lr}", f"seed={seed}"], "started_at": "2026-11-21T10:00:00+00:00",
        "metrics": {"val/loss": 1.0, "test/loss": 1.5, "test/accuracy": 0.75}, **more,
    }  # fmt: skip
    (path / "run.json").write_text(json.dumps(record))
    rows = [
        {"step": step, "epoch": step / 2, "train/loss": loss, "optim/lr": 10.0 ** (step - 6),
         "val/loss": loss, "val/accuracy": 1 / (1 + (loss or 9))}
        for step, loss in enumerate(losses, 1)
    ]  # fmt: skip
    text = "".join(json.dumps(row) + "\n" for row in rows) if lines is None else lines
    (path / "metrics.jsonl").write_text(text)
    return path
