"""Which results compare: those of the same examples and splits and, if the monitor is the loss, of the same loss."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from mlprun.analysis.diff import MISSING, PART_KEYS, Difference, compared_data, differences, flatten
from mlprun.runs.record import RunRecord, section

Facts = dict[str, Any]  # key -> value; of two results that compare, no key that both have differs
T = TypeVar("T")

_SPLIT = (
    "split_seed",
    "val_fraction",
    "test_fraction",
    "limit_eval",
    "num_folds",
    "groups",
)  # of `data`: what chooses val and test
_EXACT = "examples.val"


def facts(config: dict[str, Any], record: RunRecord) -> Facts:
    """What results must share to compare, as far as a run recorded it.

    Args:
        config: the run's `identity`, without what runs of a configuration differ in.
    """
    data, dataset = section(config, "data"), section(section(config, "data"), "dataset")
    known: Facts = {f"data.{key}": data[key] for key in _SPLIT if key in data}
    root = section(record.config, "data").get("root")
    where = [value for name, value in dataset.items() if name == "root" or (root is not None and value == root)]
    known |= {"data.root": where[0]} if where else {}
    if str(config.get("monitor")).endswith("/loss"):
        known |= {"data.normalize_targets": data.get("normalize_targets")}
        known |= {key: config.get(key) for key in ("loss", "task")}
    # Examples and their number depend on how data is split and encoded: they compare where all of this is equal.
    fold = section(record.config, "data").get("fold")
    plain = {**data, "fold": fold, "dataset": {name: value for name, value in dataset.items() if value not in where}}
    encoding = hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()[:10]
    files = {key: value for key, value in compared_data(record).items() if key not in ("tokens", "weights")}
    return known | {f"{key} {encoding}" if key in PART_KEYS else key: value for key, value in files.items()}


def partition(members: Iterable[tuple[Facts, T]]) -> list[tuple[Facts, list[T]]]:
    """Groups of members that compare, each with the facts that its members know."""
    groups: list[tuple[Facts, list[T]]] = []
    for known, member in members:
        for shared, group in groups:
            if not _conflicts(shared, known):
                group.append(member)
                shared |= {key: value for key, value in known.items() if key not in shared}
                break
        else:
            groups.append((dict(known), [member]))
    return groups


def _conflicts(first: Facts, second: Facts) -> set[str]:
    shared = first.keys() & second.keys()
    found = {key for key in shared if first[key] != second[key]}
    moved = any(key.startswith(_EXACT) and key not in found for key in shared)
    return found - {"data.root"} if moved else found


def differing(own: Facts, groups: Sequence[Facts]) -> list[Difference]:
    """How a group differs from the others; of the data, by files rather than by examples."""
    others = {key: other[key] for other in groups for key in _conflicts(own, other)}
    parts = {key for key in others if key.partition(" ")[0] in PART_KEYS}
    keys = others.keys() - parts or parts
    pairs = ((key.partition(" ")[0], key) for key in own if key in keys)
    found = (d for name, key in pairs for d in differences(flatten({name: own[key]}), flatten({name: others[key]})))
    return [difference for difference in found if difference.first is not MISSING]
