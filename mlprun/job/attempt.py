"""One attempt to train a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlprun.data.digest import digest
from mlprun.data.parts import size
from mlprun.data.splits import Splits
from mlprun.data.transforms import stored_examples
from mlprun.job.prepare import Experiment
from mlprun.runs import provenance
from mlprun.runs.checkpoint import Checkpointer
from mlprun.runs.directory import RunDirectory
from mlprun.training.learner import Learner
from mlprun.training.loop import Progress


@dataclass(frozen=True)
class Attempt:
    """The objects that a run works with from its first step to its last; learner and progress change."""

    experiment: Experiment
    learner: Learner
    progress: Progress
    saver: Checkpointer
    directory: RunDirectory


def provenance_entries(experiment: Experiment) -> dict[str, Any]:
    """The origin of a result, for run.json: `device`, `data`, `sources` and, if they are given, `weights`."""
    device = {"type": str(experiment.device), "name": experiment.device_name, "num_threads": experiment.num_threads}
    entries = {"device": device, "data": data_entry(experiment.splits), "sources": provenance.sources(Path.cwd())}
    if (weights := experiment.weights) is not None:
        entries["weights"] = {
            "path": str(weights.source.path),
            "sha256": weights.source.digest,
            "num_tensors": len(weights.tensors),
            "new": weights.new,
        }
    return entries


def data_entry(splits: Splits) -> dict[str, Any]:
    """The data of a run, for run.json; `digests` are those of the splits in memory, which tell any change."""
    parts = {name: getattr(splits, name) for name in ("train", "val", "test")}
    data: dict[str, Any] = {
        "sizes": {name: size(part) for name, part in parts.items()},
        "fingerprints": splits.fingerprints or {},
        "digests": {name: digest(stored) for name, part in parts.items() if (stored := stored_examples(part))},
    }
    return data | splits.inputs.digests()
