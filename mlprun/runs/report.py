"""What a sweep found: its runs as a table, best first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlprun.metric_names import lower_is_better
from mlprun.runs.directory import RunDirectory

TABLE_ROWS = 50


def read_runs(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """(directory, record) of every run directly below `folder`, by name."""
    return [(file.parent, RunDirectory(file.parent).read()) for file in sorted(folder.glob("*/run.json"))]


def swept_keys(runs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """The keys whose typed values differ between the runs, in the order they were typed."""
    values: dict[str, set[str | None]] = {key: set() for _, record in runs for key in typed(record)}
    for _, record in runs:
        for key, seen in values.items():
            seen.add(typed(record).get(key))
    return [key for key, seen in values.items() if len(seen) > 1]


def typed(record: dict[str, Any]) -> dict[str, str]:
    """`{"optim": "adam", "optim.lr": "0.1"}` from the run's override lines."""
    lines = [line.lstrip("+~").partition("=") for line in record.get("overrides", [])]
    return {key: value for key, _, value in lines}


def table(runs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    """The runs as lines of text, the best by their `monitor` first, failed runs last.

    Args:
        runs: (directory, record).
    """
    swept = swept_keys(runs)
    monitor = runs[0][1]["config"]["monitor"] if runs else "val/loss"
    sign = 1.0 if lower_is_better(monitor) else -1.0

    def rank(run: tuple[Path, dict[str, Any]]) -> tuple[bool, float]:
        value = run[1].get("metrics", {}).get(monitor)
        return value is None, 0.0 if value is None else sign * value

    ordered = sorted(runs, key=rank)
    scores = [n for n in ("test/accuracy", "test/r2", "test/loss") if any(n in r.get("metrics", {}) for _, r in runs)]
    header = ["", *swept, monitor, *scores[:2], "sec", "run"]
    rows = [header]
    for place, (path, record) in enumerate(ordered[:TABLE_ROWS], start=1):
        metrics = record.get("metrics", {})
        values = [
            _shown(metrics.get(name)) if record["status"] == "completed" else record["status"]
            for name in (monitor, *scores[:2])
        ]
        rows.append(
            [
                str(place),
                *(typed(record).get(k, "") for k in swept),
                *values,
                _shown(record.get("elapsed_sec"), 1),
                path.name,
            ]
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if len(ordered) > TABLE_ROWS:
        lines.append(f"… {len(ordered) - TABLE_ROWS} more")
    return lines


def _shown(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
