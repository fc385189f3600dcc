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
from mlprun.formatting import as_typed, truncate
from mlprun.runs.metrics import DamagedRowError, Row, read_rows
from mlprun.runs.record import section

WIDTH = 40  # of a value on the terminal; longer ones are cut
LISTED = 5  # values of a row that are shown
NAMES = ("first", "second")
_DIGEST = re.compile(r"^(sha256:[0-9a-f]{12}(?=[0-9a-f]{52}$)|[0-9a-f]{12}(?=[0-9a-f]{28}$)).*")  # of it, twelve digits


class _Missing:
    def __repr__(self) -> str:
        return "(not there)"


MISSING = _Missing()
"""Stands in a `Difference` for what one side does not have."""


@dataclass(frozen=True)
class Difference:
    """One value that two runs do not share.

    Attributes:
        key: dotted (`optim.lr`).
        first: `MISSING` where the first run has no such key.
        second: the same of the second run.
    """

    key: str
    first: Any
    second: Any

    def __str__(self) -> str:
        first, second = self.texts()
        return f"{self.key}: {first} | {second}"

    def texts(self) -> tuple[str, str]:
        """Both values for the terminal: on a line, cut to `WIDTH`, and never looking alike."""
        first, second = as_typed(self.first), as_typed(self.second)
        if first == second:  # the number 1 and the text "1"
            first, second = (str(v) if v is MISSING else json.dumps(v) for v in (self.first, self.second))
        short = _DIGEST.sub(r"\1", first), _DIGEST.sub(r"\1", second)
        if short[0] != short[1]:
            first, second = short
        # Where both begin alike for longer than there is room, the beginning says nothing: show where they part.
        common = _shared(first, second)
        start = max(0, common - WIDTH // 4) if common > WIDTH * 3 // 4 else 0
        first, second = (f"…{text[start + 1 :]}" if start else text for text in (first, second))
        return truncate(first, WIDTH), truncate(second, WIDTH)


@dataclass(frozen=True)
class RowDifference:
    """The first step at which two runs' metrics.jsonl part.

    Attributes:
        step: the optimizer step.
        differences: the most telling first; one of key `step` where only one run has a row for it.
        same: rows before it, which are the same in both.
    """

    step: int
    differences: list[Difference]
    same: int = 0

    def headline(self, names: tuple[str, str]) -> str:
        """Where the runs of these names part, in a line."""
        only = ""
        if self.differences[0].key == "step":
            only = f", which only {names[self.differences[0].first is MISSING]} has"
        compare_rows = "1 row before it is" if self.same == 1 else f"{self.same} rows before it are"
        before = f" ({compare_rows} the same)" if self.same else ""
        return f"they part at step {self.step}{only}{before}"

    def table(self, names: tuple[str, str]) -> list[tuple[str, str, str]]:
        """What each has there, under a heading."""
        if self.differences[0].key == "step":
            return []
        listed = [(d.key, *d.texts()) for d in self.differences[:LISTED]]
        more = len(self.differences) - LISTED
        return [(f"step {self.step}", *names), *listed, *([(f"… {more} more", "", "")] if more > 0 else [])]


def compare_records(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, list[Difference]]:
    """What may make two runs come out differently, by section: `config`, `code`, `environment`, `data`.

    What merely names a place (the host's name, the paths of Python and of the data) is left out. Keys that a record
    lacks, because it is of an older version or because its run never began, count as `MISSING`.

    Args:
        first: what one run.json holds.
        second: what the other holds.
    """
    sections = (_config, _code, _environment, _data)
    return {values_of.__name__[1:]: differences(values_of(first), values_of(second)) for values_of in sections}


def _config(record: Mapping[str, Any]) -> dict[str, Any]:
    # An empty group says nothing, and older records lack the groups that came later. Writers change no result.
    values = {key: value for key, value in section(record, "config").items() if key != "writers"}
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


def _data(record: Mapping[str, Any]) -> dict[str, Any]:
    fingerprints = section(section(record, "data"), "fingerprints")
    folders = {file: Path(file).parts for file in fingerprints}
    # The same data may lie elsewhere: below the folder that holds all of it, names are compared.
    num_shared = _shared(*(folder[:-1] for folder in folders.values()))
    files = {"/".join(folders[file][num_shared:]): digest for file, digest in fingerprints.items()}
    digests = {
        "tokens": section(record, "data").get("tokens"),
        "weights": section(record, "weights").get("sha256"),
    }
    return files | {name: digest for name, digest in digests.items() if digest is not None}


def _chosen(prefix: str, values: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    return {f"{prefix}.{key}": values[key] for key in keys if values.get(key) is not None}


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"optim": {"lr": 0.1}}` -> `{"optim.lr": 0.1}`; an empty dict is a value."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """What two flat dicts do not share, in the order of their keys."""
    keys = dict.fromkeys([*first, *second])
    pairs = (Difference(key, first.get(key, MISSING), second.get(key, MISSING)) for key in keys)
    return [pair for pair in pairs if not same_json(pair.first, pair.second)]


def same_json(first: Any, second: Any) -> bool:
    """As JSON has it: NaN is NaN, while 1, 1.0 and true are three things."""
    if first is MISSING or second is MISSING:
        return first is second
    return json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)


def compare_rows(first: Path, second: Path) -> RowDifference | None:
    """The first step at which two metrics.jsonl differ in more than speed; None if there is none.

    Values must be equal to the last bit; one that was not finite is stored as null, and equals another such.

    Raises:
        RunError: a file is missing or holds a damaged line.
    """
    ours, theirs = _computed(first), _computed(second)
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
    """Step -> what was computed at it, without what was measured by the clock or of the machine."""
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


def compare_tensors(first: Any, second: Any, path: str = "") -> list[str]:
    """Dotted paths at which two checkpoints are not bit-identical, such as `model.0.weight`.

    Tensors differ by dtype, shape or bits, so that a NaN equals a NaN of the same bits, and 0 is not -0; on which
    device they lie does not matter. Plain values differ by type or value. A dict's order does not matter.

    Args:
        first: dicts, lists and tuples, nested, of tensors and plain values.
        second: the same.
        path: of the two; what the returned ones begin with.
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
    # Not contiguous(), which lets a single element keep a stride that view refuses.
    return dense.clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8)


def _shared(*sequences: Sequence[str]) -> int:
    """How many items all of them begin with."""
    return sum(1 for _ in takewhile(lambda items: len(set(items)) == 1, zip(*sequences, strict=False)))
