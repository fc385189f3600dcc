"""Runs that differ only in their seed or fold form a configuration; how configurations differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from mlprun.analysis.comparability import Facts, differing, facts, partition
from mlprun.analysis.diff import MISSING, Difference, flatten
from mlprun.analysis.statistics import mean_or_none, separable
from mlprun.formatting import as_typed
from mlprun.runs.collect import Run, sort_by_name
from mlprun.runs.record import RunRecord, section

UNFINISHED = ("running", "interrupted", "pruned")
SCORES = ("test/perplexity", "test/accuracy", "test/r2", "test/loss")  # the first of a data set is shown


@dataclass
class Configuration:
    """A config and its runs with one or several seeds, or of the folds of a cross-validation."""

    config: dict[str, Any]  # shared by its runs: without seed, fold and the keys that no result depends on
    typed: dict[str, str]  # `{"optim": "adam", "optim.lr": "0.1"}`, of one of them, less keys not in `config`
    runs: list[Run] = field(default_factory=list)  # completed, the newest per repeat, originals before reproductions
    failed: list[Run] = field(default_factory=list)  # ended without a result
    unfinished: list[Run] = field(default_factory=list)  # running or interrupted
    repeats: list[Run] = field(default_factory=list)  # older completed runs of the same seed and fold
    confirming: list[Run] = field(default_factory=list)  # of `sweep.confirm`, however they ended: not ranked by
    facts: Facts = field(default_factory=dict)  # see `comparability.facts`

    @property
    def monitor(self) -> str:
        return str(self.config["monitor"])

    @property
    def higher_is_better(self) -> bool:
        runs = [*self.runs, *self.unfinished, *self.failed]
        return bool(runs) and runs[0][1].higher_is_better(self.monitor)

    @property
    def data(self) -> str:
        return str(self.config.get("data", {}).get("name", ""))

    @property
    def varied(self) -> str:
        return varied(self.runs)

    @property
    def values(self) -> list[float]:
        return self.metric(self.monitor)

    @property
    def confirmed(self) -> dict[str, float]:
        """The monitor on each fresh seed of `sweep.confirm`."""
        completed = [record for _, record in self.confirming if record.status == "completed"]
        return {str(repeat_of(r)): value for r in completed if (value := r.metric(self.monitor)) is not None}

    def metric(self, name: str) -> list[float]:
        return [value for _, record in self.runs if (value := record.metric(name)) is not None]

    @property
    def tested(self) -> list[str]:
        """The test metrics to show: the monitored one, and the usual one of such data."""
        usual = next((name for name in SCORES if self.metric(name)), None)
        names = (f"test/{self.monitor.removeprefix('val/')}", usual)
        return [name for name in dict.fromkeys(names) if name and self.metric(name)]

    @property
    def num_runs(self) -> int:
        return len(self.runs) + len(self.failed) + len(self.unfinished)

    @property
    def elapsed_sec(self) -> float | None:
        return mean_or_none([sec for _, record in self.runs if (sec := record.elapsed_sec) is not None])

    @property
    def status(self) -> str:
        if self.runs:
            return "completed"
        return "failed" if self.failed else self.unfinished[0][1].status


def repeat_of(record: RunRecord) -> tuple[Any, Any]:
    """The seed and the fold of a run, in which the runs of a configuration differ."""
    return record.config.get("seed"), section(record.config, "data").get("fold")


def is_confirming(record: RunRecord) -> bool:
    """Whether `sweep.confirm` added the run: its seed did not choose its configuration."""
    return section(record.config, "sweep").get("confirms") is True


def varied(runs: Iterable[Run]) -> str:
    """What the runs of a configuration differ in: `seed`, `fold`, or `run` if in both."""
    seeds, folds = ({str(repeat_of(record)[i]) for _, record in runs} for i in (0, 1))  # anything, if damaged
    return "seed" if folds <= {"None"} else "run" if len(seeds) > 1 else "fold"


def configurations(runs: Iterable[Run]) -> list[Configuration]:
    """Group the runs by resolved config without seed and fold, and by their data; runs without a config are left out.

    Runs whose code, device or packages differ are in the same configuration.
    """
    from mlprun.config.identity import digest, identity  # late: imports Hydra

    # What depends on the config alone is computed once for runs that differ in their seed.
    identities: dict[str, tuple[str, dict[str, Any]]] = {}
    known_facts: dict[tuple[str, str], Facts] = {}
    groups: dict[str, tuple[dict[str, Any], list[tuple[Facts, Run]]]] = {}
    for path, record in runs:
        if record.has_config:
            text = json.dumps({**record.config, "seed": None})
            if text not in identities:
                shared = identity(record.config)
                shared.pop("seed", None)
                section(shared, "data").pop("fold", None)
                identities[text] = digest(shared), shared
            key, shared = identities[text]
            of_data = (text, json.dumps(record.data))
            if of_data not in known_facts:
                known_facts[of_data] = facts(shared, record)
            groups.setdefault(key, (shared, []))[1].append((known_facts[of_data], (path, record)))
    return [
        _configuration(shared, same_data, group)
        for shared, members in groups.values()
        for same_data, group in partition(members)
    ]


def _configuration(config: dict[str, Any], known: Facts, runs: list[Run]) -> Configuration:
    first = runs[0][1]
    typed = {
        key: value
        for key, value in typed_values(first).items()
        if find_value(config, key) is not MISSING or find_value(first.config, key) is MISSING
    }
    result = Configuration(config, typed, facts=known)
    by_repeat: dict[str, Run] = {}
    if not all(is_confirming(record) for _, record in runs):  # else there is nothing to keep them apart from
        result.confirming = sort_by_name(run for run in runs if is_confirming(run[1]))
        runs = [run for run in runs if not is_confirming(run[1])]
    for path, record in sorted(runs, key=lambda run: (not run[1].is_reproduction, run[1].started_at)):
        if record.status in UNFINISHED:
            result.unfinished.append((path, record))
        elif record.status != "completed" or record.metric(result.monitor) is None:
            result.failed.append((path, record))
        else:
            repeat = str(repeat_of(record) if "seed" in record.config else path)
            result.repeats += [by_repeat[repeat]] if repeat in by_repeat else []
            by_repeat[repeat] = (path, record)
    result.runs = sort_by_name(by_repeat.values())
    return result


def override_lines(record: RunRecord) -> list[str]:
    """The overrides that make the run's config, including changes by a resume."""
    overrides = record.overrides or []
    changed = {str(line).partition(": ")[0] for entry in record.resumed for line in entry.get("changed", [])}
    for key in sorted(changed & {"epochs", "steps"}):
        overrides = [line for line in overrides if line.partition("=")[0] != key]
        overrides.append(f"{key}={_cell(record.config.get(key))}")
    return overrides


def typed_values(record: RunRecord) -> dict[str, str]:
    """Key or group -> its value in the overrides; that of `optim@optim.groups.a` is of the second."""
    parts = [line.lstrip("+~").partition("=") for line in override_lines(record)]
    split = [(name.partition("@"), value) for name, _, value in parts]
    return {group if place[:1] in ("", "_") else place: value for (group, _, place), value in split}


@dataclass
class Block:
    """Configurations that can be compared: of the same data and splits, by one metric."""

    ranked: list[Configuration]  # best first
    others: list[Configuration]  # without a result
    separable: list[bool | None]  # whether each of `ranked` differs from the first; None: the first, or no test
    apart: list[Difference] = field(
        default_factory=list
    )  # why it does not compare with other blocks of this data set and metric

    @property
    def all(self) -> list[Configuration]:
        return [*self.ranked, *self.others]


def comparable_blocks(entries: list[Configuration]) -> list[Block]:
    blocks = []
    for key in dict.fromkeys((c.data, c.monitor) for c in entries):
        groups = partition([(c.facts, c) for c in entries if (c.data, c.monitor) == key])
        for known, inside in groups:
            sign = -1 if inside[0].higher_is_better else 1
            ranked = sorted((c for c in inside if c.runs), key=lambda c: sign * mean(c.values))
            tests = [separable(ranked[0].values, c.values) for c in ranked[1:]]
            others = [c for c in inside if not c.runs]
            apart = differing(known, [other for other, _ in groups])
            blocks.append(Block(ranked, others, [None, *tests] if ranked else [], apart))
    return blocks


def differing_columns(entries: list[Configuration]) -> dict[str, list[str]]:
    """Key -> its value in each configuration, for keys that were typed and whose values differ.

    Values come from the resolved config, so defaults appear too; the option of a group is shown as typed.
    """
    typed = {key: group_cells(entries, key) for key in dict.fromkeys(key for c in entries for key in c.typed)}
    columns = {key: cells for key, cells in typed.items() if len(set(cells)) > 1}
    # Keys that nobody typed may differ too (an edited YAML file): add as many as tell all apart.
    signatures = list(zip([(c.data, c.monitor) for c in entries], *columns.values(), strict=True))
    if len(set(signatures)) == len(entries):
        return columns
    flats = [flatten(c.config) for c in entries]
    for key in dict.fromkeys(key for flat in flats for key in flat):
        cells = ["" if key not in flat else _cell(flat[key]) for flat in flats]
        if key not in columns and len(set(zip(signatures, cells, strict=True))) > len(set(signatures)):
            columns[key] = cells
            signatures = list(zip(signatures, cells, strict=True))
            if len(set(signatures)) == len(entries):
                break
    return columns


def label_each(entries: list[Configuration]) -> list[str]:
    """The overrides that tell each configuration from the others: `optim=adam optim.lr=0.1`."""
    columns = differing_columns(entries)
    return [" ".join(f"{key}={cells[i]}" for key, cells in columns.items() if cells[i]) for i in range(len(entries))]


def group_cells(entries: list[Configuration], key: str) -> list[str]:
    """The value of a key in each configuration, or of a group the choice, as typed."""
    values = [find_value(c.config, key) for c in entries]
    pairs = list(zip(entries, values, strict=True))
    if key.endswith("._target_"):  # who did not type the class has a choice
        group = key.removesuffix("._target_")
        return [c.typed.get(key) or choice_name(group, find_value(c.config, group)) for c in entries]
    if not any(isinstance(value, dict) and value for value in values):
        return [c.typed.get(key, "") if value is MISSING else _cell(value) for c, value in pairs]
    # A group: two configurations have the same option if all keys of the group that nobody typed are equal.
    typed = {name for c in entries for name in c.typed}
    untyped = [
        json.dumps({k: v for k, v in flatten({key: value}).items() if k not in typed}, sort_keys=True, default=str)
        for value in values
    ]
    options = {rest: c.typed[key] for c, rest in zip(entries, untyped, strict=True) if key in c.typed}
    names = [options.get(rest) or choice_name(key, value) for rest, value in zip(untyped, values, strict=True)]
    return [c.typed.get(key) or name for c, name in zip(entries, names, strict=True)]


def choice_name(group: str, node: Any) -> str:
    """The choice of a group, from its part of the config."""
    from mlprun.config.choices import choice_of  # late: imports Hydra

    if not isinstance(node, dict):
        return "" if node is MISSING else _cell(node)
    return str(node.get("name") or choice_of(group, node) or str(node.get("_target_", "")).rpartition(".")[2])


def find_value(config: dict[str, Any], key: str) -> Any:
    """The value of a dotted key, MISSING if there is none."""
    node: Any = config
    for name in re.split(r"[./]", key):
        node = node.get(name, MISSING) if isinstance(node, dict) else MISSING
    return node


def _cell(value: Any) -> str:
    """As typed, but 1 for 1.0, because either may have been typed."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else as_typed(value)
