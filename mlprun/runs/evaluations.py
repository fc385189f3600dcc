"""`evaluations.jsonl` of a sweep: what its runs have reported so far, for the runs that decide whether to go on."""

from __future__ import annotations

import json
import math
from pathlib import Path

from mlprun.errors import RunError
from mlprun.files import fsync, naming_path, open_to_read, open_to_write

FILE_NAME = "evaluations.jsonl"
Reports = dict[str, dict[int, float]]  # directory name of a run -> number of the evaluation, from 1 -> value


class Evaluations:
    """The file in the directory of a sweep; each process reads what is new in it."""

    def __init__(self, sweep_dir: Path) -> None:
        self._file = sweep_dir / FILE_NAME
        self._reports: Reports = {}
        self._num_read, self._num_lines = 0, 0  # bytes, lines

    def report(self, run: str, number: int, value: float) -> None:
        """Append a value, in one write, so that the lines of runs in other processes stay whole."""
        shown = value if math.isfinite(value) else None
        line = json.dumps({"run": run, "evaluation": number, "value": shown}) + "\n"
        with naming_path(self._file), open_to_write(self._file, "ab", buffering=0) as opened:
            opened.write(line.encode())
            fsync(opened.fileno())

    def read(self) -> Reports:
        """All values, infinite if they were not finite; the last counts if one was reported again after a resume.

        RunError if a line is damaged, except for one that a killed process did not finish.
        """
        if not self._file.exists():
            return self._reports
        with naming_path(self._file, "read"), open_to_read(self._file) as opened:
            opened.seek(self._num_read)
            new = opened.read()
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._num_lines += 1
            try:
                row = json.loads(line)
                value = math.inf if row["value"] is None else float(row["value"])
                self._reports.setdefault(str(row["run"]), {})[int(row["evaluation"])] = value
            except (ValueError, TypeError, KeyError) as error:
                raise RunError(f"{self._file}, line {self._num_lines}: damaged\n  remove the line") from error
        self._num_read += len(whole)
        return self._reports
