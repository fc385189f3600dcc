"""`trials.jsonl`, the trials of a search in the order of their numbers; their results are in the runs. No torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.files import fsync, naming_path, open_to_read, open_to_write, sync_folder

FILE_NAME = "trials.jsonl"
SAMPLERS = ("random", "quasi_random", "tpe", "gp", "cmaes")


@dataclass(frozen=True)
class TrialRecord:
    """One line: what was proposed, and what was known then."""

    trial: int  # number, from 0
    values: dict[str, Any]  # of each key of the space: a number, or the text of a choice
    ended: list[int]  # the trials that had ended since the trial before was proposed, in the order of their ends
    sampler: str  # `random`, `quasi_random`, `tpe`, `gp` or `cmaes`
    seed: int  # of the sampler


def read_trials(sweep_dir: Path) -> list[TrialRecord]:
    """The trials of a search; empty without a file. A last line that was cut off is left out.

    RunError if another line is damaged.
    """
    file = sweep_dir / FILE_NAME
    if not file.exists():
        return []
    with naming_path(file, "read"), open_to_read(file) as opened:
        lines = opened.read().decode(errors="replace").split("\n")
    trials = []
    for number, line in enumerate(lines[:-1]):
        try:
            record = TrialRecord(**json.loads(line))
            is_sound = record.trial == number and isinstance(record.values, dict)
            is_sound = is_sound and isinstance(record.ended, list) and all(e in range(number) for e in record.ended)
            is_sound = is_sound and record.sampler in SAMPLERS and type(record.seed) is int
        except (ValueError, TypeError):
            is_sound = False
        if not is_sound:
            raise RunError(
                f"{file}, line {number + 1}: damaged, not the record of trial {number}"
                "\n  remove this line and those after it: trials that are proposed again find their runs"
            )
        trials.append(record)
    return trials


def append_trial(sweep_dir: Path, record: TrialRecord) -> None:
    """Add the next trial, on disk before its first run starts; a last line that was cut off is replaced."""
    file = sweep_dir / FILE_NAME
    line = json.dumps(asdict(record)) + "\n"
    with naming_path(file), open_to_write(file, "a+b") as opened:
        opened.seek(0)
        content = opened.read() if record.trial else b""
        opened.truncate(content.rfind(b"\n") + 1)
        opened.write(line.encode())
        opened.flush()
        fsync(opened.fileno())
    if not record.trial:
        sync_folder(sweep_dir)
