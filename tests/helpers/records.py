"""Records of runs that never ran: one with all its parts, copies that differ, and those that a leaderboard sees."""

from __future__ import annotations

import copy
import itertools
import json
import shlex
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from mlprun.analysis import show as shown
from mlprun.analysis.diff import MISSING
from mlprun.runs.record import RunRecord

SHA = {letter: f"sha256:{letter * 64}" for letter in "abcd"}
IMAGES, LABELS = "/data/MNIST/raw/images.gz", "/data/MNIST/raw/labels.gz"


RECORD = {
    "status": "completed",
    "command": "mlprun optim.lr=0.001",
    "overrides": ["optim.lr=0.001"],
    "folder": "/home/ada/project",
    "config": {
        "seed": 0,
        "optim": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999]},
        "trainer": {"num_threads": None, "deterministic": True},
        "model": {},
    },
    "seed": 0,
    "started_at": "2026-11-21T10:33:12+00:00",
    "mlprun": {"version": "0.1.0", "source": SHA["a"], "commit": "0" * 40, "dirty": False},
    "git": {"commit": "1" * 40, "dirty": True, "changes": SHA["b"]},
    "packages": {"python": "3.11.7", "torch": "2.15.0"},
    "host": {"name": "ada", "platform": "Linux-6.1", "cpu": "EPYC", "num_cpus": 16, "python": "/venv/bin/python"},
    "device": {"type": "cpu", "name": "cpu", "num_threads": 1},
    "sources": {"nets/wide.py": SHA["c"]},
    "data": {"sizes": {"train": 1437}, "fingerprints": {IMAGES: SHA["c"], LABELS: SHA["d"]}},
    "ended_at": "2026-11-21T10:33:24+00:00",
    "elapsed_sec": 12.345,
    "steps": 500,
    "best_step": 400,
    "metrics": {"val/loss": 0.125, "val/accuracy": 0.9312345678, "test/loss": None},
}
SECTIONS = ("config", "code", "environment", "data")


def show(*runs: tuple[Path, dict[str, Any]]) -> list[str]:
    return shown.show(*((path, RunRecord(record)) for path, record in runs))


def changed(record: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """A copy with another value at `place`, whose names are parted by colons; `MISSING` takes it away."""
    record = copy.deepcopy(record)
    *above, name = place.split(":")
    inner = record
    for part in above:
        inner = inner[part]
    if value is MISSING:
        del inner[name]
    else:
        inner[name] = value
    return record


NAMES = st.text("abcdefgh_", min_size=1, max_size=3)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
CONFIG = {
    "seed": 0,
    "device": "auto",
    "epochs": 10,
    "steps": None,
    "monitor": "val/loss",
    "data": {"name": "digits", "dataset": {"_target_": "mlprun.data.tabular.digits"}, "root": None, "limit": None},
    "model": {"_target_": "mlprun.models.mlp.MLP", "hidden": [128, 64], "dropout": 0.0},
    "optim": {"_target_": "torch.optim.Adam", "lr": 0.001, "betas": [0.9, 0.999]},
    "loss": {"_target_": "torch.nn.CrossEntropyLoss"},
    "trainer": {"grad_clip": None, "max_time": None},
    "checkpoint": {"every": "1 epoch"},
    "logging": {"every": "50 steps"},
    "sweep": {"name": None},
}
SGD = {"_target_": "torch.optim.SGD", "lr": 0.1}
LINEAR = {"_target_": "mlprun.models.mlp.Linear"}


numbers = itertools.count()


def run(*typed: str, value: float | None = 0.5, name: str | None = None, metrics=None, **record) -> tuple[Path, dict]:
    """A completed run that was typed so: values go into the config, choices of groups are given by `CHOICES`."""
    config = copy.deepcopy(CONFIG)
    for line in typed:
        key, _, text = line.lstrip("+~").partition("=")
        put(config, key, copy.deepcopy(CHOICES[line]) if line in CHOICES else json_or_text(text))
    number = next(numbers)
    made = {
        "status": "completed",
        "command": shlex.join(["mlprun", "-m", *typed]),
        "overrides": list(typed),
        "config": config,
        "started_at": f"2026-11-21T10:00:00.{number:06}",
        "elapsed_sec": 2.0,
        "metrics": {config["monitor"]: value, "test/accuracy": 0.75, "test/loss": 0.5} if metrics is None else metrics,
        **record,
    }
    record = RunRecord({k: v for k, v in made.items() if v is not MISSING})
    record.is_own = True
    return Path("outputs/sweeps/it", name or f"{number}"), record


CHOICES = {"optim=sgd": SGD, "optim=adam": CONFIG["optim"], "model=linear": LINEAR, "model=mlp": CONFIG["model"]}


def json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def put(config: dict, key: str, value: Any) -> None:
    *above, last = key.split(".")
    for part in above:
        config = config[part]
    config[last] = value


def seeds(*typed: str, values: list[float], **record) -> list[tuple[Path, dict]]:
    return [run(*typed, f"seed={i}", value=value, **record) for i, value in enumerate(values)]


def write_runs(folder: Path, runs: list[tuple[Path, dict]]) -> None:
    for path, record in runs:
        (folder / path).mkdir(parents=True)
        (folder / path / "run.json").write_text(json.dumps(record))
