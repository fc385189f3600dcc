"""Runs that differ in nothing but their seed, together, and how their configurations differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import mean
from typing import Any

from mlprun.analysis.diff import MISSING, flatten
from mlprun.analysis.statistics import mean_or_none, separable
from mlprun.formatting import as_typed
from mlprun.runs.collect import Run, sort_by_name
from mlprun.runs.record import RunRecord

UNFINISHED = ("running", "interrupted")
SCORES = ("test/perplexity", "test/accuracy", "test/r2", "test/loss")  # the first that a data set has is shown


@dataclass
class Configuration:
    """What was run with one or several seeds.

    Attributes:
        config: what its runs share: without the seed, and without what no result depends on.
        typed: `{"optim": "adam", "optim.lr": "0.1"}`, from the override lines of one of them, less what is not in
            `config`.
        runs: completed, one a seed: of repeats the newest, and a reproduction only where the original is missing.
        failed: those that ended without a result.
        unfinished: running or interrupted.
        repeats: completed, but of a seed that is there already, so they say nothing new.
    """

    config: dict[str, Any]
    typed: dict[str, str]
    runs: list[Run] = field(default_factory=list)
    failed: list[Run] = field(default_factory=list)
    unfinished: list[Run] = field(default_factory=list)
    repeats: list[Run] = field(default_factory=list)

    @property
    def monitor(self) -> str:
        """The metric that its runs were selected by."""
        return str(self.config["monitor"])

    @property
    def higher_is_better(self) -> bool:
        """Whether that metric is better when higher."""
        runs = [*self.runs, *self.unfinished, *self.failed]
        return bool(runs) and runs[0][1].higher_is_better(self.monitor)

    @property
    def data(self) -> str:
        """The name of the data set."""
        return str(self.config.get("data", {}).get("name", ""))

    @property
    def values(self) -> list[float]:
        """The monitored value of each of `runs`."""
        return self.metric(self.monitor)

    def metric(self, name: str) -> list[float]:
        """The metric of those of `runs` that have it."""
        return [value for _, record in self.runs if (value := record.metric(name)) is not None]

    @property
    def num_runs(self) -> int:
        """With those that have no result."""
        return len(self.runs) + len(self.failed) + len(self.unfinished)

    @property
    def elapsed_sec(self) -> float | None:
        """Mean of `runs`."""
        return mean_or_none([sec for _, record in self.runs if (sec := record.elapsed_sec) is not None])

    @property
    def status(self) -> str:
        """`completed` if a run is, else how its runs ended."""
        if self.runs:
            return "completed"
        return "failed" if self.failed else self.unfinished[0][1].status


def configurations(runs: Iterable[Run]) -> list[Configuration]:
    """The runs, those that differ in their seed alone together; runs without a config are left out.

    What decides is the resolved config, not what was typed. Runs whose code, device or packages differ are one
    configuration all the same.

    Args:
        runs: as `read_runs` returns them.
    """
    from mlprun.config.identity import digest, identity  # late: it brings Hydra

    groups: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for path, record in runs:
        if record.has_config:
            shared = identity(record.config)
            shared.pop("seed", None)
            groups.setdefault(digest(shared), (shared, []))[1].append((path, record))
    return [_configuration(shared, group) for shared, group in groups.values()]


def _configuration(config: dict[str, Any], runs: list[Run]) -> Configuration:
    first = runs[0][1]
    typed = {
        key: value
        for key, value in typed_overrides(first).items()
        if find_key(config, key) is not MISSING or find_key(first.config, key) is MISSING
    }
    made = Configuration(config, typed)
    of_seed: dict[str, Run] = {}
    for path, record in sorted(runs, key=lambda run: (not run[1].is_reproduction, run[1].started_at)):
        if record.status in UNFINISHED:
            made.unfinished.append((path, record))
        elif record.status != "completed" or record.metric(made.monitor) is None:
            made.failed.append((path, record))
        else:
            seed = str(record.config.get("seed", path))
            made.repeats += [of_seed[seed]] if seed in of_seed else []
            of_seed[seed] = (path, record)
    made.runs = sort_by_name(of_seed.values())
    return made


def typed_overrides(record: RunRecord) -> dict[str, str]:
    lines = [line.lstrip("+~").partition("=") for line in override_lines(record)]
    return {key.partition("@")[0]: value for key, _, value in lines}


def override_lines(record: RunRecord) -> list[str]:
    """The override lines that make the run's config, with what was changed when it was continued."""
    overrides = record.overrides or []
    changed = {str(line).partition(": ")[0] for entry in record.resumed for line in entry.get("changed", [])}
    for key in sorted(changed & {"epochs", "steps"}):
        overrides = [line for line in overrides if line.partition("=")[0] != key]
        overrides.append(f"{key}={_cell(record.config.get(key))}")
    return overrides


@dataclass
class Block:
    """Configurations that can be compared: of one data set, by one metric.

    Attributes:
        ranked: best first.
        others: without a result.
        separable: of each that is ranked, from the first; None for the first itself, and where there is no test.
    """

    ranked: list[Configuration]
    others: list[Configuration]
    separable: list[bool | None]

    @property
    def all(self) -> list[Configuration]:
        return [*self.ranked, *self.others]


def comparable_blocks(entries: list[Configuration]) -> list[Block]:
    blocks = []
    for key in dict.fromkeys((c.data, c.monitor) for c in entries):
        inside = [c for c in entries if (c.data, c.monitor) == key]
        sign = -1 if inside[0].higher_is_better else 1
        ranked = sorted((c for c in inside if c.runs), key=lambda c: sign * mean(c.values))
        tests = [separable(ranked[0].values, c.values) for c in ranked[1:]]
        blocks.append(Block(ranked, [c for c in inside if not c.runs], [None, *tests] if ranked else []))
    return blocks


def differing_columns(entries: list[Configuration]) -> dict[str, list[str]]:
    """Key -> its value in each configuration: the keys that were typed and whose values differ.

    Values are those of the resolved config, so a default that was not typed is seen too; a choice of a group is the
    word that was typed.
    """
    columns: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for c in entries for key in c.typed):
        cells = _cells(entries, key)
        if len(set(cells)) > 1:
            columns[key] = cells
    # What nobody typed may differ too (a YAML file that was edited): as many keys as tell all apart.
    flats = [flatten(c.config) for c in entries]
    for key in dict.fromkeys(key for flat in flats for key in flat):
        signatures = list(zip([(c.data, c.monitor) for c in entries], *columns.values(), strict=True))
        if len(set(signatures)) == len(entries):
            break
        cells = ["" if key not in flat else _cell(flat[key]) for flat in flats]
        if key not in columns and len(set(zip(signatures, cells, strict=True))) > len(set(signatures)):
            columns[key] = cells
    return columns


def labels(entries: list[Configuration]) -> list[str]:
    """What tells each configuration from the others, as one would type it: `optim=adam optim.lr=0.1`."""
    columns = differing_columns(entries)
    return [" ".join(f"{key}={cells[i]}" for key, cells in columns.items() if cells[i]) for i in range(len(entries))]


def _cells(entries: list[Configuration], key: str) -> list[str]:
    values = [find_key(c.config, key) for c in entries]
    if not any(isinstance(value, dict) and value for value in values):
        return [
            c.typed.get(key, "") if value is MISSING else _cell(value) for c, value in zip(entries, values, strict=True)
        ]
    # A group: who did not type its choice made the same as who did, if but for other typed keys all of it is alike.
    typed = {name for c in entries for name in c.typed}
    untyped = [
        json.dumps({k: v for k, v in flatten({key: value}).items() if k not in typed}, sort_keys=True, default=str)
        for value in values
    ]
    choices = {rest: c.typed[key] for c, rest in zip(entries, untyped, strict=True) if key in c.typed}
    return [
        c.typed.get(key) or choices.get(rest) or _name(value)
        for c, rest, value in zip(entries, untyped, values, strict=True)
    ]


def _name(group: Any) -> str:
    """The class of what a group builds, or the data set's name."""
    if not isinstance(group, dict):
        return "" if group is MISSING else _cell(group)
    return str(group.get("name") or str(group.get("_target_", "")).rpartition(".")[2])


def find_key(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for name in re.split(r"[./]", key):
        node = node.get(name, MISSING) if isinstance(node, dict) else MISSING
    return node


def _cell(value: Any) -> str:
    """As one would type it, but 1 for 1.0, which it may have been."""
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else as_typed(value)
