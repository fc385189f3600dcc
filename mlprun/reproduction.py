"""Run again from a run's record, and compare bit by bit."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from mlprun import config as configs
from mlprun import job
from mlprun.errors import RunError
from mlprun.runs import compare
from mlprun.runs.directory import RunDirectory, claim, keep_out_of_git
from mlprun.trust import check_targets


def reproduce(path: Path, command: str, *, trust: bool = False) -> int:
    """Repeat the run in `path` in a new directory, and print where the two part; 0 if nowhere, else 1.

    Args:
        path: of a completed run.
        command: the whole line that was typed, for the new run's record.
        trust: also call stored targets that are neither a library's own nor from the current folder.

    Raises:
        UserError: no run, one that has not ended, or one whose config cannot be built here.
        KeyboardInterrupt: asked to stop.
    """
    original = RunDirectory(path)
    record = original.read()
    if record["status"] != "completed":
        raise RunError(
            f"{path} is '{record['status']}', and only a completed run can be compared"
            f"\n  finish it first: mlprun resume {path}"
        )
    if not trust:
        check_targets(record["config"], Path.cwd(), path)
    config = configs.from_record(record["config"])
    config = replace(config, trainer=replace(config.trainer, max_time=None))
    name = re.sub(r"^\d\d-\d\d-\d\d_", "", path.resolve().name)
    again = RunDirectory(claim(f"{datetime.now():outputs/%Y-%m-%d/%H-%M-%S}_{name}_again"))
    keep_out_of_git(Path("outputs"))
    outcome = job.run(
        config,
        again.path,
        command,
        record["overrides"],
        num_threads=record["device"]["num_threads"],
        reproduces=path,
    )
    if outcome.status != "completed":
        return outcome.exit_status
    parted = _differences(original, again)
    print(f"again   {again.path}")
    if not parted:
        rows = len(again.metrics_file.read_text(encoding="utf-8").splitlines())
        print(f"identical: {rows} rows of metrics.jsonl, the test scores, and every bit of best.pt and last.pt")
        return 0
    print("different:")
    found = compare.records(record, again.read())
    causes = [f"{section}: {d}" for section in ("code", "environment", "data") for d in found[section]]
    causes += [f"resumed at step {r['step']}: {line}" for r in record.get("resumed", []) for line in r["changed"]]
    for line in [*parted, *(causes or ["nothing that is recorded of code, environment and data differs"])]:
        print(f"  {line}")
    return 1


def _differences(original: RunDirectory, again: RunDirectory) -> list[str]:
    """Where two completed runs part: the first row, the scores, the checkpoints."""
    from mlprun.training import checkpoint

    found = []
    if (row := compare.rows(original.metrics_file, again.metrics_file)) is not None:
        found.append(str(row))
    first, second = original.read()["metrics"], again.read()["metrics"]
    found += [f"{name}: {first.get(name)} | {second[name]}" for name in second if first.get(name) != second[name]]
    for name in ("best.pt", "last.pt"):
        states: list[dict[str, Any]] = []
        for run in (original, again):
            try:
                states.append(checkpoint.load(run.checkpoints / name))
            except RunError as error:
                found.append(str(error))
        if len(states) == 2:
            ours, theirs = ({**state, "config": configs.identity(state["config"])} for state in states)
            parts = compare.tensors(ours, theirs)
            shown = ", ".join(parts[:3]) + (f" and {len(parts) - 3} more" if len(parts) > 3 else "")
            found += [f"checkpoints/{name}: {shown}"] if parts else []
    return found
