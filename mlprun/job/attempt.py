"""One attempt to train a run: what it works with, and what the record says of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlprun.job.prepare import Experiment
from mlprun.runs import provenance
from mlprun.runs.checkpoint import Checkpointer
from mlprun.runs.directory import RunDirectory
from mlprun.training.learner import Learner
from mlprun.training.loop import Progress


@dataclass(frozen=True)
class Attempt:
    """What a run works with from its first step to its last; learner and progress change."""

    experiment: Experiment
    learner: Learner
    progress: Progress
    saver: Checkpointer
    directory: RunDirectory


def surroundings(experiment: Experiment) -> dict[str, Any]:
    """On what an experiment runs, for the record: `device`, `data`, `sources` and, if they are given, `weights`."""
    splits = experiment.splits
    device = {"type": str(experiment.device), "name": experiment.device_name, "num_threads": experiment.num_threads}
    data: dict[str, Any] = {"sizes": experiment.split_sizes, "fingerprints": splits.fingerprints or {}}
    if splits.tokenizer is not None:
        data["tokens"] = splits.tokenizer.digest()
    found = {"device": device, "data": data, "sources": provenance.sources(Path.cwd())}
    if experiment.weights is not None:
        weights, matched = experiment.weights
        found["weights"] = {
            "path": str(weights.path),
            "sha256": weights.digest,
            "num_tensors": len(matched.tensors),
            "new": matched.new,
        }
    return found
