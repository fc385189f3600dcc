"""How two runs differ: config, code, environment, data, rows and tensors."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from mlprun.errors import RunError
from mlprun.formatting import as_typed, pluralize, truncate
from mlprun.runs.metrics import DamagedRowError, Row, read_rows
from mlprun.runs.record import section

WIDTH = 40  # of a value on the terminal
LISTED = 5  # values of a row that are shown
NAMES = ("first", "second")
PARTS = {"sizes": "sizes", "examples": "digests"}  # of the splits: how a difference calls it -> its key in `data`
PART_KEYS = {f"{kind}.{part}" for kind in PARTS for part in ("train", "val", "test")}
_DIGEST = re.compile(r"^(sha256:[0-9a-f]{12}(?=[0-9a-f]{52}$)|[0-9a-f]{12}(?=[0-9a-f]{28}$)).*")  # cut to twelve digits


class _Missing:
    def __repr__(self) -> str:
        return "(not there)"


MISSING = _Missing()  # of a `Difference`: the value of a run without the key


@dataclass(frozen=True)
class Difference:
    """One value that differs between two runs."""

    key: str  # dotted: `optim.lr`
    first: Any  # `MISSING` if that run has no such key
    second: Any

    def __str__(self) -> str:
        first, second = self.texts()
        return f"{self.key}: {first} | {second}"

    def texts(self) -> tuple[str, str]:
        """Both values for the terminal: one line each, at most `WIDTH` wide, and never alike."""
        first, second = as_typed(self.first), as_typed(self.second)
        if first == second:  # the number 1 and the text "1"
            first, second = (str(v) if v is MISSING else json.dumps(v) for v in (self.first, self.second))
        short = _DIGEST.sub(r"\1", first), _DIGEST.sub(r"\1", second)
        if short[0] != short[1]:
            first, second = short
        # If they share a long beginning, show them from where they differ.
        common = _shared(first, second)
        start = max(0, common - WIDTH // 4) if common > WIDTH * 3 // 4 else 0
        first, second = (f"…{text[start + 1 :]}" if start else text for text in (first, second))
        return truncate(first, WIDTH), truncate(second, WIDTH)


@dataclass(frozen=True)
class RowDifference:
    """The first step at which the metrics.jsonl of two runs differ."""

    step: int
    differences: list[Difference]  # the most important first; one of key `step` if only one run has a row
    same: int = 0  # number of equal rows before it

    def headline(self, names: tuple[str, str]) -> str:
        only = ""
        if self.differences[0].key == "step":
            only = f", which only {names[self.differences[0].first is MISSING]} has"
        before = f" ({pluralize(self.same, 'equal row')} before it)" if self.same else ""
        return f"they differ from step {self.step}{only}{before}"

    def table(self, names: tuple[str, str]) -> list[tuple[str, str, str]]:
        if self.differences[0].key == "step":
            return []
        listed = [(d.key, *d.texts()) for d in self.differences[:LISTED]]
        more = len(self.differences) - LISTED
        return [(f"step {self.step}", *names), *listed, *([(f"… {more} more", "", "")] if more > 0 else [])]


def compare_records(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Difference]]:
    """Differences that may change a result, by section: `config`, `code`, `environment`, `data`.

    Names of places (the host, the paths of Python and of the data) are ignored. Keys that a record lacks, because it
    is older or its run never began, count as `MISSING`.
    """
    found = {name: differences(values(first), values(second)) for name, values in SECTIONS.items()}
    return found | {"data": _without_moves(found["data"])}


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
    from mlprun.config.identity import with_defaults

    stored = section(record, "config")
    # Writers change no result.
    values = {key: value for key, value in with_defaults(stored).items() if key != "writers"} if stored else {}
    return {key: value for key, value in flatten(values).items() if value != {}}


def _code(record: Mapping[str, Any]) -> dict[str, Any]:
    git, ours = section(record, "git"), record.get("mlprun")
    code = _chosen("git", git, ("commit", "changes"))
    if git.get("dirty") and "changes" not in git:
        code["git.changes"] = "not recorded"
    code |= _chosen("mlprun", ours if isinstance(ours, dict) else {"version": ours}, ("version", "source", "commit"))
    return code | {f"sources.{file}": digest for file, digest in section(record, "sources").items()}


def _environment(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{f"packages.{name}": version for name, version in section(record, "packages").items()},
        **_chosen("host", section(record, "host"), ("platform", "cpu", "num_cpus")),
        **_chosen("device", section(record, "device"), ("type", "name", "num_threads")),
    }


def compared_data(record: Mapping[str, Any]) -> dict[str, Any]:
    """The files, splits, tokens and start weights of a run."""
    data = section(record, "data")
    fingerprints = section(data, "fingerprints")
    folders = {file: Path(file).parts for file in fingerprints}
    # The same data may be in another folder: compare names below the common parent.
    num_shared = _shared(*(folder[:-1] for folder in folders.values()))
    files = {"/".join(folders[file][num_shared:]): digest for file, digest in fingerprints.items()}
    digests = {"tokens": data.get("tokens"), "weights": section(record, "weights").get("sha256")}
    parts = {f"{kind}.{part}": value for kind in PARTS for part, value in section(data, PARTS[kind]).items()}
    return files | {name: value for name, value in {**digests, **parts}.items() if value is not None}


SECTIONS = {"config": _config, "code": _code, "environment": _environment, "data": compared_data}


def _without_moves(found: list[Difference]) -> list[Difference]:
    """Leave out files that have another name and the same content, and what only one run has of its splits.

    Older records have no digests, and lazy data has its digest only at the end of a run.
    """
    gone = [d for d in found if d.second is MISSING]
    new = [d for d in found if d.first is MISSING]
    moved = [pair for a in gone for b in new if same_json(a.first, b.second) for pair in (a, b)]
    unknown = [d for d in (*gone, *new) if d.key in PART_KEYS]
    return [d for d in found if d not in moved and d not in unknown]


def _chosen(prefix: str, values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {f"{prefix}.{key}": values[key] for key in keys if values.get(key) is not None}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optim": {"lr": 0.1}}` -> `{"optim.lr": 0.1}`; an empty dict is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """The values that differ between two flat dicts."""
    keys = dict.fromkeys([*first, *second])
    pairs = (Difference(key, first.get(key, MISSING), second.get(key, MISSING)) for key in keys)
    return [pair for pair in pairs if not same_json(pair.first, pair.second)]


def same_json(first: Any, second: Any) -> bool:
    """Equality of JSON values: NaN equals NaN; 1, 1.0 and true all differ."""
    if first is MISSING or second is MISSING:
        return first is second
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def compare_rows(first: Path, second: Path) -> RowDifference | None:
    """The first step at which two metrics.jsonl differ bit for bit, apart from timings; None if there is none.

    If an older version wrote one of them, training means over other steps are left out (`num_other_windows`). Null (a
    value that was not finite) equals null. RunError if a file is missing or damaged.
    """
    ours, theirs = _computed(first), _computed(second)
    for step in _other_windows(ours, theirs):
        for rows in (ours, theirs):
            rows[step] = {k: v for k, v in rows[step].items() if not k.startswith("train/") and k != "optim/grad_norm"}
    for same, step in enumerate(sorted({*ours, *theirs})):
        if step not in ours:
            return RowDifference(step, [Difference("step", MISSING, step)], same)
        if step not in theirs:
            return RowDifference(step, [Difference("step", step, MISSING)], same)
        if differing := differences(ours[step], theirs[step]):
            differing.sort(key=lambda d: (d.key != "train/loss", not d.key.startswith("val/")))
            return RowDifference(step, differing, same)
    return None


def _computed(file: Path) -> dict[int, Row]:
    """Step -> its values, without timings."""
    by_step: dict[int, Row] = {}
    try:
        for row in read_rows(file, keep_torn=True):
            computed = {key: row[key] for key in row if not key.startswith("perf/") and not key.endswith("_sec")}
            by_step.setdefault(row["step"], {}).update(computed)
    except DamagedRowError as error:
        raise RunError(
            f"{file} is damaged: line {error.number} {error.reason}\n  without that line, the rest can be compared"
        ) from error
    return by_step


def num_other_windows(first: Path, second: Path) -> int:
    """How many steps' training means `compare_rows` leaves out."""
    return len(_other_windows(_computed(first), _computed(second)))


def _other_windows(ours: dict[int, Row], theirs: dict[int, Row]) -> set[int]:
    """Steps whose training means are of other steps in the other run, if only because one logged every evaluation.

    Versions before 27 November 2026 did: an evaluation cut the window of `logging.every` steps in two.
    """
    logged = [[step for step in sorted(rows) if "train/loss" in rows[step]] for rows in (ours, theirs)]
    if any("val/loss" not in rows.get(step, {}) for step in {*logged[0]} ^ {*logged[1]} for rows in (ours, theirs)):
        return set()
    windows = [set(zip([0, *ends], ends, strict=False)) for ends in logged]
    return {end for _, end in windows[0] ^ windows[1]}


def compare_tensors(first: Any, second: Any, path: str = "") -> list[str]:
    """Dotted paths, below `path`, at which two checkpoints are not bit-identical, such as `model.0.weight`.

    Tensors differ by dtype, shape or bits: NaN equals NaN of the same bits, 0 is not -0; the device is ignored. Plain
    values differ by type or value. The order of a dict is ignored.
    """
    import torch

    if isinstance(first, dict) and isinstance(second, dict):
        paths = []
        for key in dict.fromkeys([*first, *second]):
            below = f"{path}.{key}" if path else str(key)
            paths += compare_tensors(first.get(key, MISSING), second.get(key, MISSING), below)
        return paths
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return compare_tensors(dict(enumerate(first)), dict(enumerate(second)), path)
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        same = first.dtype == second.dtype and first.shape == second.shape and torch.equal(_bits(first), _bits(second))
    elif isinstance(first, float) and isinstance(second, float):
        same = struct.pack("d", first) == struct.pack("d", second)
    else:
        same = type(first) is type(second) and first == second
    return [] if same else [path]


def _bits(tensor: Any) -> Any:
    import torch

    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    dense = plain if plain.layout == torch.strided else plain.to_dense()
    # Not contiguous(): it lets a single element keep a stride that view() rejects.
    return dense.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def _shared(*sequences: Sequence[str]) -> int:
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences, strict=False)))
