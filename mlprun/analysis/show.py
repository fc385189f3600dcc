"""`mlprun show`: one run in words, or how two differ."""

from __future__ import annotations

import filecmp
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlprun.analysis.configurations import override_lines
from mlprun.analysis.diff import MISSING, NAMES, Difference, compare_records, compare_rows, same_json
from mlprun.errors import RunError
from mlprun.formatting import as_typed, pluralize
from mlprun.runs.collect import Run
from mlprun.runs.record import RunRecord, section
from mlprun.text_table import render


def show(first: Run, second: Run | None = None) -> list[str]:
    """Lines for the terminal: one run, or the differences of two."""
    return _one(*first) if second is None else _two(first, second)


def as_json(first: Run, second: Run | None = None) -> dict[str, Any]:
    """The same for `--json`: the facts of a run, or the differences of two; a run lacks the key that it lacks."""
    if second is None:
        return _facts(*first)
    sections = compare_records(first[1], second[1])
    differing = {name: [_pair(each) for each in found] for name, found in sections.items()}
    result = dict(zip(NAMES, (_facts(*run) for run in (first, second)), strict=True))
    files = [path / "metrics.jsonl" for path, _ in (first, second)]
    rows: dict[str, Any] | None = None
    if not sections["config"] and all(file.is_file() for file in files):
        try:
            row = compare_rows(*files)
            found = [] if row is None else [_pair(each) for each in row.differences]
            rows = {"step": None if row is None else row.step, "differences": found}
        except RunError as error:
            rows = {"error": str(error)}
    return {**result, "differences": differing, "first_differing_row": rows}


def _facts(path: Path, record: RunRecord) -> dict[str, Any]:
    names = ("command", "folder", "started_at", "elapsed_sec", "steps", "num_steps", "best_step", "ended_by", "error")
    return {
        "run": path,
        "status": record.status,
        **{name: getattr(record, name) for name in names},
        "overrides": override_lines(record),
        "config": record.get("config"),
        "next_best": [{"step": step, "value": value} for step, value in record.next_best],
        **{name: getattr(record, name) for name in ("metrics", "device", "git", "mlprun", "resumed")},
        "reproduces": record.get("reproduces"),
    }


def _pair(difference: Difference) -> dict[str, Any]:
    values = zip(NAMES, (difference.first, difference.second), strict=True)
    return {"key": difference.key, **{name: value for name, value in values if value is not MISSING}}


def _one(path: Path, record: RunRecord) -> list[str]:
    monitor = section(record, "config").get("monitor")
    lines = [
        ("run", str(path)),
        ("status", record.status),
        ("error", record.error.partition("\n")[0]),
        ("command", record.command),
        *(("set", line) for line in override_lines(record)),
        ("folder", record.folder),
        ("git", _commit(record.git, path)),
        ("mlprun", _version(record.get("mlprun"))),
        ("device", _device(record.device)),
        ("started", record.started_at),
        ("elapsed", None if record.elapsed_sec is None else f"{record.elapsed_sec:.1f} sec"),
        ("steps", record.steps),
        ("skipped", record.get("skipped_steps") or None),
        ("best step", record.best_step),
        *(("next best", f"step {step}, {monitor} {_number(value)}") for step, value in record.next_best),
        *((name, _number(value)) for name, value in record.metrics.items()),
        *(("resumed", _resumed(again)) for again in record.resumed),
        ("reproduces", record.get("reproduces")),
    ]
    return render([(name, as_typed(value)) for name, value in lines if value not in (None, "")], "<<")


def _commit(git: Mapping[str, Any], path: Path) -> str:
    if not git.get("dirty"):
        return str(git.get("commit", ""))
    patch = str(path / "code.patch") if (path / "code.patch").is_file() else git.get("patch", "not kept")
    secret = git.get("secret")
    without = f", without {', '.join(map(str, secret))} (secrets)" if isinstance(secret, list) else ""
    if isinstance(left_out := git.get("left_out"), list) and left_out:
        without += (
            f", without {', '.join(map(str, left_out[:3]))}{', …' * (len(left_out) > 3)} (data, runs or too much)"
        )
    return f"{git.get('commit')}, with uncommitted changes: {patch}{without}"


def _version(ours: Any) -> str:
    if not isinstance(ours, dict):
        return str(ours or "")
    commit = f", commit {ours['commit']}{', changed' * bool(ours.get('dirty'))}" if "commit" in ours else ""
    return f"{ours.get('version')}{commit}"


def _device(device: Mapping[str, Any]) -> str:
    count = device.get("num_threads")
    threads = pluralize(count, "thread") if isinstance(count, int) else ""
    names = [as_typed(device[name]) for name in ("type", "name") if device.get(name)]
    return ", ".join(text for text in dict.fromkeys([*names, threads]) if text)


def _resumed(again: Mapping[str, Any]) -> str:
    step = f"step {again['step']}" if "step" in again else None
    keys = again.get("changed")
    changed = f"changed: {', '.join(map(str, keys))}" if isinstance(keys, list) and keys else None
    return ", ".join(str(text) for text in (again.get("at"), step, again.get("command"), changed) if text)


def _two(first: Run, second: Run) -> list[str]:
    lines = render([(name, str(path)) for name, (path, _) in zip(NAMES, (first, second), strict=True)], "<<")
    sections = compare_records(first[1], second[1])
    for name, differing in sections.items():
        lines += ["", name]
        lines += render([(d.key, *d.texts()) for d in differing], "<<<", indent="  ") or ["  no difference"]
    patches = [path / "code.patch" for path, _ in (first, second)]
    if all(patch.is_file() for patch in patches) and not filecmp.cmp(patches[0], patches[1], shallow=False):
        lines += ["", "the uncommitted changes differ:", f"  diff {patches[0]} {patches[1]}"]
    lines += ["", "results", *render(_results(first[1], second[1]), "<<<", indent="  ")]
    files = [path / "metrics.jsonl" for path, _ in (first, second)]
    if not sections["config"] and all(file.is_file() for file in files):  # with another config they differ anyway
        lines += ["", "metrics.jsonl"]
        try:
            row = compare_rows(*files)
            table = [] if row is None else render(row.table(NAMES), "<<<", indent="  ")
            lines += ["  no difference"] if row is None else [f"  {row.headline(NAMES)}", *table]
        except RunError as error:
            lines += [f"  {line}" for line in str(error).splitlines()]
    return lines


def _results(first: RunRecord, second: RunRecord) -> list[tuple[str, str, str]]:
    rows = [("", *NAMES)]
    for name, key in (("status", "status"), ("steps", "steps"), ("best step", "best_step")):
        rows.append((name, as_typed(first.get(key, MISSING)), as_typed(second.get(key, MISSING))))
    ours, theirs = first.metrics, second.metrics
    for name in dict.fromkeys([*ours, *theirs]):
        pair = ours.get(name, MISSING), theirs.get(name, MISSING)
        short = _number(pair[0]), _number(pair[1])
        # different numbers that look alike get all their digits
        rows.append((name, *(short if short[0] != short[1] or same_json(*pair) else Difference(name, *pair).texts())))
    return rows


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else "not finite" if value is None else as_typed(value)
