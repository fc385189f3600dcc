"""`evaluations.jsonl` of a sweep: what its runs have reported so far, for the runs that decide whether to go on."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mlprun.errors import RunError
from mlprun.files import fsync, naming_path, open_to_read, open_to_write

FILE_NAME = "evaluations.jsonl"
Reports = dict[str, dict[int, float]]  # directory name of a run -> number of the evaluation, from 1 -> value


def report(sweep_dir: Path, run: str, number: int, value: float) -> None:
    """Append a value, in one write, so that the lines of runs in other processes stay whole."""
    file = sweep_dir / FILE_NAME
    shown = value if math.isfinite(value) else None
    line = json.dumps({"run": run, "evaluation": number, "value": shown}) + "\n"
    with naming_path(file), open_to_write(file, "ab", buffering=0) as opened:
        opened.write(line.encode())
        fsync(opened.fileno())


def read_reports(sweep_dir: Path) -> Reports:
    """All values, infinite if they were not finite; the last counts if one was reported again after a resume.

    RunError if a line is damaged, except for one that a killed process did not finish.
    """
    file = sweep_dir / FILE_NAME
    reports: Reports = {}
    if not file.exists():
        return reports
    with naming_path(file, "read"), open_to_read(file) as opened:
        lines = opened.read().split(b"\n")
    for place, line in enumerate(lines[:-1], start=1):
        try:
            row = json.loads(line)
            value = math.inf if row["value"] is None else float(row["value"])
            reports.setdefault(str(row["run"]), {})[int(row["evaluation"])] = value
        except (ValueError, TypeError, KeyError) as error:
            raise RunError(f"{file}, line {place}: damaged\n  remove the line") from error
    return reports
