"""What a run left behind, read back and compared; and lines that many tests run."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlprun.analysis.diff import compare_rows, compare_tensors
from mlprun.config.identity import identity
from mlprun.runs import checkpoint

RUN = "run"
# A run of a second or two that logs, evaluates and saves at periods that do not divide each other.
SMALL = [
    f"hydra.run.dir={RUN}",
    "epochs=30",
    "logging.every=3 steps",
    "checkpoint.every=7 steps",
    "eval_every=11 steps",
]
# Everything that a run carries from one step to the next.
EVERYTHING = [
    *SMALL,
    "epochs=40",
    "data.augment.crop=1",
    "model.dropout=0.3",
    "optim=momentum",
    "scheduler=cosine",
    "scheduler.warmup=5%",
    "checkpoint.keep=2",
    "checkpoint.keep_best=3",
    "trainer.ema=0.99",
]


def record_of(run: Path) -> dict:
    return json.loads((run / "run.json").read_text())


def rows_of(run: Path) -> list[dict]:
    """The rows of metrics.jsonl, without what the clock says."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in row.items() if not key.startswith("perf/")} for row in lines]


def last_step(folder: Path) -> int:
    """The last step in metrics.jsonl of the run in the folder."""
    file = folder / RUN / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return json.loads(lines[-1])["step"] if lines and lines[-1].endswith("\n") else 0


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model"]


def through_a_file(state: Any) -> Any:
    """The state as a checkpoint would give it back, in a loader that runs no code."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def curves(run: Path) -> dict[str, list[tuple[int, object]]]:
    """(step, value) of every scalar but the speed, picture and histogram, as TensorBoard reads them."""
    events = EventAccumulator(str(run), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()
    tags = events.Tags()
    read = {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags["scalars"]}
    read |= {tag: [(event.step, event.encoded_image_string) for event in events.Images(tag)] for tag in tags["images"]}
    read |= {
        tag: [(event.step, event.tensor_proto.SerializeToString()) for event in events.Tensors(tag)]
        for tag in tags["tensors"]
    }
    return {tag: points for tag, points in read.items() if not tag.startswith(("run/", "training/examples_per_sec"))}


def pictures(run: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in (run / "pictures").glob("*")}


def assert_identical(first: Path, second: Path) -> None:
    """Same rows, same curves, same bits in every checkpoint, same files."""
    assert compare_rows(first / "metrics.jsonl", second / "metrics.jsonl") is None
    assert curves(first) == curves(second)
    assert pictures(first) == pictures(second)
    names = sorted(file.name for file in (first / "checkpoints").iterdir())
    assert names == sorted(file.name for file in (second / "checkpoints").iterdir())
    for name in names:
        ours, theirs = (checkpoint.load(run / "checkpoints" / name) for run in (first, second))
        for state in (ours, theirs):
            state["config"] = identity(state["config"])
        assert compare_tensors(ours, theirs) == [], name
    records = [record_of(run) for run in (first, second)]
    assert [r["status"] for r in records] in (["completed"] * 2, ["pruned"] * 2)
    for key in ("metrics", "best_step", "steps", "ended_by", "skipped_steps"):
        assert records[0][key] == records[1][key], key
    matrices = [run / "confusion_matrix.csv" for run in (first, second)]  # tokens have none
    assert len({file.read_text() if file.exists() else None for file in matrices}) == 1


def losses(run):
    """Every train/loss and val/loss of a run, in order."""
    rows = rows_of(run)
    return [row[tag] for row in rows for tag in ("train/loss", "val/loss") if tag in row]


def twice(mlprun, *words):
    """The losses of the same line typed twice."""
    found = []
    for name in ("first", "second"):
        result = mlprun(*words, f"hydra.run.dir={name}")
        assert result.status == 0, result.err
        found.append(losses(result.folder / name))
    return found
