"""What a folder of runs found: configurations ranked over their seeds, what chance may explain, and what failed."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import os
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from mlprun.errors import RunError
from mlprun.metric_names import lower_is_better
from mlprun.runs.compare import MISSING, Run
from mlprun.runs.directory import RunDirectory

TABLE_ROWS = 50
WIDTH = 120  # of a line of the leaderboard; paths and lines to paste may be longer
NARROWEST = 8  # a column that is cut keeps so many characters
LISTED = 10  # runs that failed, or have not ended, that are listed
LEVEL = 0.95  # of intervals and tests
UNFINISHED = ("running", "interrupted")
SCORES = ("test/perplexity", "test/accuracy", "test/r2", "test/loss")  # the first that a data set has is shown


# ---------------------------------------------------------------------------------------------------- reading


def read_runs(folder: Path) -> list[Run]:
    """(directory, record) of `folder` itself, if it is a run, and of every run at any depth below it, by name.

    A run.json that is damaged hides no other: its record is `{"status": "failed", "error": …}`, without a config.
    All others have a status and a config with what ranking needs.

    Args:
        folder: hidden folders and those of checkpoints are not looked into, symbolic links not followed.

    Raises:
        RunError: there is no such folder.
    """
    if not folder.is_dir():
        raise RunError(f"{folder}: there is no such folder\n  name one that holds runs, such as outputs")
    found: list[Path] = []
    for path, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "checkpoints"]
        if "run.json" in files:
            found.append(Path(path))
    return _by_name((path, _read(path)) for path in found)


def _read(path: Path) -> dict[str, Any]:
    try:
        record = RunDirectory(path).read()
    except RunError as error:
        return {"status": "failed", "error": str(error).replace(f"{path}{os.sep}", "")}
    config = record.get("config")
    if not isinstance(config, dict) or not isinstance(config.get("monitor"), str):
        return {"status": "failed", "error": "run.json is damaged: it holds no config with a monitor"}
    if not all(isinstance(config.get(group, {}), dict) for group in ("data", "trainer")):
        return {"status": "failed", "error": "run.json is damaged: its config's groups are none"}
    if not isinstance(record.get("status"), str):
        return {"status": "failed", "error": "run.json is damaged: it does not say how the run ended"}
    return record


def _by_name(runs: Iterable[Run]) -> list[Run]:
    """`2_…` before `10_…`."""
    return sorted(runs, key=lambda run: re.sub(r"\d+", lambda digits: digits[0].zfill(12), str(run[0])))


# ----------------------------------------------------------------------------------------------- configurations


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
    def data(self) -> str:
        """The name of the data set."""
        return str(self.config.get("data", {}).get("name", ""))

    @property
    def values(self) -> list[float]:
        """The monitored value of each of `runs`."""
        return self.metric(self.monitor)

    def metric(self, name: str) -> list[float]:
        """The metric of those of `runs` that have it."""
        return [value for _, record in self.runs if (value := _metric(record, name)) is not None]

    @property
    def num_runs(self) -> int:
        """With those that have no result."""
        return len(self.runs) + len(self.failed) + len(self.unfinished)

    @property
    def elapsed_sec(self) -> float | None:
        """Mean of `runs`."""
        return _mean([sec for _, record in self.runs if (sec := _number(record.get("elapsed_sec"))) is not None])

    @property
    def status(self) -> str:
        """`completed` if a run is, else how its runs ended."""
        if self.runs:
            return "completed"
        return "failed" if self.failed else str(self.unfinished[0][1]["status"])


def configurations(runs: Iterable[Run]) -> list[Configuration]:
    """The runs, those that differ in their seed alone together; runs without a config are left out.

    What decides is the resolved config, not what was typed. Runs whose code, device or packages differ are one
    configuration all the same.

    Args:
        runs: as `read_runs` returns them.
    """
    from mlprun.config import identity  # late: it brings Hydra

    groups: dict[str, tuple[dict[str, Any], list[Run]]] = {}
    for path, record in runs:
        if "config" in record:
            shared = identity(record["config"])
            shared.pop("seed", None)
            key = json.dumps(_as_floats(shared), sort_keys=True, default=str)
            groups.setdefault(key, (shared, []))[1].append((path, record))
    return [_configuration(shared, group) for shared, group in groups.values()]


def _configuration(config: dict[str, Any], runs: list[Run]) -> Configuration:
    first = runs[0][1]
    typed = {
        key: value
        for key, value in _typed(first).items()
        if _find(config, key) is not MISSING or _find(first["config"], key) is MISSING
    }
    made = Configuration(config, typed)
    of_seed: dict[str, Run] = {}
    for path, record in sorted(runs, key=lambda run: ("reproduces" not in run[1], str(run[1].get("started_at", "")))):
        if record["status"] in UNFINISHED:
            made.unfinished.append((path, record))
        elif record["status"] != "completed" or _metric(record, made.monitor) is None:
            made.failed.append((path, record))
        else:
            seed = str(record["config"].get("seed", path))
            made.repeats += [of_seed[seed]] if seed in of_seed else []
            of_seed[seed] = (path, record)
    made.runs = _by_name(of_seed.values())
    return made


def _as_floats(value: Any) -> Any:
    """With 1 as 1.0, for which it may be typed."""
    if isinstance(value, dict):
        return {key: _as_floats(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_as_floats(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _typed(record: dict[str, Any]) -> dict[str, str]:
    lines = [line.lstrip("+~").partition("=") for line in _lines(record)]
    return {key.partition("@")[0]: value for key, _, value in lines}


def _lines(record: dict[str, Any]) -> list[str]:
    """The override lines that make the run's config, with what was changed when it was continued."""
    lines = record.get("overrides")
    found = [str(line) for line in lines] if isinstance(lines, list) else []
    resumed = record.get("resumed")
    entries = [entry for entry in resumed if isinstance(entry, dict)] if isinstance(resumed, list) else []
    changed = {str(line).partition(": ")[0] for entry in entries for line in entry.get("changed", [])}
    for key in sorted(changed & {"epochs", "steps"}):
        found = [line for line in found if line.partition("=")[0] != key]
        found.append(f"{key}={_text(record['config'].get(key))}")
    return found


def _metric(record: dict[str, Any], name: str) -> float | None:
    metrics = record.get("metrics")
    return _number(metrics.get(name)) if isinstance(metrics, dict) else None


def _number(value: Any) -> float | None:
    """`value` if it is a finite number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _mean(values: Sequence[float]) -> float | None:
    return mean(values) if values else None


def _sd(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


# --------------------------------------------------------------------------------------------------- statistics


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95% confidence interval of the mean, None for fewer than two values.

    mean ± t(0.975, n - 1) · s / √n, with s the sample standard deviation (its sum of squares divided by n - 1) and
    t(p, df) the quantile of Student's t distribution: NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.5.2,
    "Confidence Limits for the Mean". It takes the values for independent and about normal.

    Args:
        values: finite numbers, one a seed.
    """
    if len(values) < 2:
        return None
    half = _quantile(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


def separable(first: Sequence[float], second: Sequence[float]) -> bool | None:
    """Whether two means differ by more than chance explains, by Welch's t-test: two-sided, at 95%.

    They do if |mean1 - mean2| / √(v1 + v2) > t(0.975, df), where v = s² / n of each and
    df = (v1 + v2)² / (v1² / (n1 - 1) + v2² / (n2 - 1)):
    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34 (1947) 28-35; NIST/SEMATECH e-Handbook, 1.3.5.3, "Two-Sample t-Test for Equal Means".

    Where neither varies, any difference counts. Nothing is corrected for the number of comparisons, nor for the best
    being chosen by the same values: of many equal configurations, some are called different.

    Args:
        first: finite numbers, one a seed.
        second: likewise; as many or not.

    Returns:
        None where a single value says nothing of its variation, so that there is no test.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    difference = abs(mean(first) - mean(second))
    errors = stdev(first) / math.sqrt(len(first)), stdev(second) / math.sqrt(len(second))
    error = math.hypot(*errors)
    if error == 0:
        return difference > 0
    # df as above, divided through by (v1 + v2)²: the squares of tiny numbers would be 0
    shares = [(e / error) ** 2 for e in errors]
    df = 1 / (shares[0] ** 2 / (len(first) - 1) + shares[1] ** 2 / (len(second) - 1))
    return difference / error > _quantile(df)


def _quantile(df: float) -> float:
    """t(0.975, df)."""
    from scipy.special import stdtrit

    return float(stdtrit(df, (1 + LEVEL) / 2))


# ------------------------------------------------------------------------------------------------------ ranking


@dataclass
class _Block:
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


def _blocks(found: list[Configuration]) -> list[_Block]:
    blocks = []
    for key in dict.fromkeys((c.data, c.monitor) for c in found):
        inside = [c for c in found if (c.data, c.monitor) == key]
        sign = 1 if lower_is_better(key[1]) else -1
        ranked = sorted((c for c in inside if c.runs), key=lambda c: sign * mean(c.values))
        tests = [separable(ranked[0].values, c.values) for c in ranked[1:]]
        blocks.append(_Block(ranked, [c for c in inside if not c.runs], [None, *tests] if ranked else []))
    return blocks


def _columns(found: list[Configuration]) -> dict[str, list[str]]:
    """Key -> its value in each configuration: the keys that were typed and whose values differ.

    Values are those of the resolved config, so a default that was not typed is seen too; a choice of a group is the
    word that was typed.
    """
    columns: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for c in found for key in c.typed):
        cells = _cells(found, key)
        if len(set(cells)) > 1:
            columns[key] = cells
    # What nobody typed may differ too (a YAML file that was edited): as many keys as tell all apart.
    flats = [_flat(c.config) for c in found]
    for key in dict.fromkeys(key for flat in flats for key in flat):
        known = list(zip([(c.data, c.monitor) for c in found], *columns.values(), strict=True))
        if len(set(known)) == len(found):
            break
        cells = ["" if key not in flat else _text(flat[key]) for flat in flats]
        if key not in columns and len(set(zip(known, cells, strict=True))) > len(set(known)):
            columns[key] = cells
    return columns


def labels(found: list[Configuration]) -> list[str]:
    """What tells each configuration from the others, as one would type it: `optim=adam optim.lr=0.1`."""
    columns = _columns(found)
    return [" ".join(f"{key}={cells[i]}" for key, cells in columns.items() if cells[i]) for i in range(len(found))]


def _cells(found: list[Configuration], key: str) -> list[str]:
    values = [_find(c.config, key) for c in found]
    if not any(isinstance(value, dict) and value for value in values):
        return [
            c.typed.get(key, "") if value is MISSING else _text(value) for c, value in zip(found, values, strict=True)
        ]
    # A group: who did not type its choice made the same as who did, if but for other typed keys all of it is alike.
    typed = {name for c in found for name in c.typed}
    alike = [
        json.dumps({k: v for k, v in _flat({key: value}).items() if k not in typed}, sort_keys=True, default=str)
        for value in values
    ]
    words = {like: c.typed[key] for c, like in zip(found, alike, strict=True) if key in c.typed}
    return [
        c.typed.get(key) or words.get(like) or _name(value) for c, like, value in zip(found, alike, values, strict=True)
    ]


def _name(group: Any) -> str:
    """The class of what a group builds, or the data set's name."""
    if not isinstance(group, dict):
        return "" if group is MISSING else _text(group)
    return str(group.get("name") or str(group.get("_target_", "")).rpartition(".")[2])


def _find(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for part in re.split(r"[./]", key):
        node = node.get(part, MISSING) if isinstance(node, dict) else MISSING
    return node


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _text(value: Any) -> str:
    """`value` as one would type it, on one line; 1.0 as 1."""
    if isinstance(value, float) and float(f"{value:g}") == value:
        return f"{value:g}"
    if not isinstance(value, str):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    return " ".join(value.splitlines())


# -------------------------------------------------------------------------------------------------- leaderboard


def leaderboard(runs: Sequence[Run], rows: int = TABLE_ROWS) -> list[str]:
    """Lines for the terminal: a table for each data set and metric, best first, then the runs without a result.

    Args:
        runs: as `read_runs` returns them.
        rows: of a table, at most.
    """
    found = configurations(runs)
    parts = [_block_lines(block, rows) for block in _blocks(found)]
    damaged = [run for run in runs if "config" not in run[1]]
    parts.append(_unfinished_lines(_by_name(run for c in found for run in c.unfinished)))
    parts.append(_failed_lines(_by_name([*damaged, *(run for c in found for run in c.failed)])))
    lines = [line for part in parts if part for line in ("", *part)]
    return lines[1:] or ["no runs"]


def _block_lines(block: _Block, rows: int) -> list[str]:
    best = block.all[0]
    better = "lower" if lower_is_better(best.monitor) else "higher"
    counted = f"{_count(len(block.all), 'configuration')}, {_count(sum(c.num_runs for c in block.all), 'run')}"
    counted += f", {failed} failed" if (failed := sum(len(c.failed) for c in block.all)) else ""
    lines = [f"{best.data}  {best.monitor} ({better} is better)  {counted}", *_table(block, rows)]
    if len(block.all) > rows:
        lines.append(f"… {len(block.all) - rows} more (leaderboard.csv has all)")
    lines += _notes(block)
    if block.ranked:
        sign = 1 if better == "lower" else -1
        run = min(best.runs, key=lambda run: sign * (_metric(run[1], best.monitor) or 0.0))
        its = f"  the best of its {len(best.runs)} seeds" if len(best.runs) > 1 else ""
        equal = len(_equal_to_best(block))
        lines += [f"{'best ' if equal == 1 else 'equal'}   {_line_to_paste(best)}", f"run     {run[0]}{its}"]
    return lines


def _equal_to_best(block: _Block) -> list[Configuration]:
    """The first, and those whose mean is the same but for the last bits: what differs does not show in `monitor`."""
    means = [math.fsum(c.values) / len(c.values) for c in block.ranked]
    return [c for c, mean in zip(block.ranked, means, strict=True) if math.isclose(mean, means[0], rel_tol=1e-6)]


def _notes(block: _Block) -> list[str]:
    """What a reader of the table should know."""
    best, tests = block.all[0], block.separable[1:]
    notes = []
    if block.ranked and (equal := len(_equal_to_best(block))) > 1:
        notes.append(f"the first {equal} are equal in {best.monitor}: it does not choose between them")
    if tests and max(len(c.runs) for c in block.ranked) == 1:
        notes.append("one seed each: differences may be chance; add seed=0,1,2,3,4")
    elif tests:
        tested = [c for c, test in zip(block.ranked[1:], tests, strict=True) if test is not None]
        counts = sorted({len(c.runs) for c in (best, *tested)})
        how = f"at {'-'.join(str(n) for n in dict.fromkeys((counts[0], counts[-1])))} seeds (Welch's t-test, 95%)"
        if same := tests.count(False):
            notes.append(f"= not separable from the best {how}: {_count(same, 'configuration')}")
        elif tested:
            notes.append(f"the best is separable from {'all others' if None not in tests else 'the others'} {how}")
        if unknown := tests.count(None):
            notes.append(f"? not tested, for it or the best has a single seed: {_count(unknown, 'configuration')}")
    if block.ranked and best.failed:
        notes.append(
            f"of the best's {_count(best.num_runs, 'run')}, {len(best.failed)} failed: its mean leaves them out"
        )
    if (
        best.monitor.endswith("/loss")
        and len({json.dumps(c.config.get("loss"), sort_keys=True) for c in block.all}) > 1
    ):
        notes.append(f"the losses differ, so {best.monitor} does not compare them: choose another monitor")
    if repeats := sum(len(c.repeats) for c in block.all):
        notes.append(f"{_count(repeats, 'run')} more of a seed that is there already: the newest counts")
    return notes


def _line_to_paste(best: Configuration) -> str:
    """The command that trains the configuration again."""
    path, record = min(best.runs, key=lambda run: "reproduces" in run[1])
    if not isinstance(record.get("overrides"), list):
        return shlex.join(["mlprun", "reproduce", str(path)])
    kept = [line for line in _lines(record) if not re.match(r"[+~]*(seed=|(hydra|sweep)[=./@])", line)]
    return shlex.join(["mlprun", *_config_options(str(record.get("command", ""))), *kept])


def _config_options(command: str) -> list[str]:
    """Where the command takes its config from, if not from mlprun's own."""
    kept = []
    try:
        words = iter(shlex.split(command))
    except ValueError:  # an open quote
        return []
    for word in words:
        option, equals, _ = word.partition("=")
        if option in ("--config-dir", "-cd", "--config-name", "-cn"):
            kept += [word] if equals else [word, next(words, "")]
    return kept


def _unfinished_lines(runs: list[Run]) -> list[str]:
    width = max((len(record["status"]) for _, record in runs), default=0)
    lines = []
    for path, record in runs[:LISTED]:
        known = record.get("steps") is not None and record.get("num_steps") is not None
        steps = f"  step {record['steps']} of {record['num_steps']}" if known else ""
        lines.append(f"{record['status']:{width}}  {path}{steps}")
    return [*lines, *_more(len(runs) - LISTED, "unfinished")]


def _failed_lines(runs: list[Run]) -> list[str]:
    lines = []
    for path, record in runs[:LISTED]:
        reason = str(record.get("error") or "").strip().partition("\n")[0]
        if not reason:
            reason = "no finite value to rank it by" if record["status"] == "completed" else str(record["status"])
        file = path / "train.log"
        lines += [f"failed  {file if file.exists() else path}", f"  {_cut(reason, WIDTH - 2)}"]
    return [*lines, *_more(len(runs) - LISTED, "failed")]


def _more(num_left: int, what: str) -> list[str]:
    return [f"… {num_left} more {what}"] if num_left > 0 else []


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# -------------------------------------------------------------------------------------------------- the table


@dataclass
class _Column:
    title: str
    cells: list[str]
    right: bool = True
    flexible: bool = False  # may be cut


def _table(block: _Block, rows: int) -> list[str]:
    shown = block.all[:rows]
    num_ranked = min(len(block.ranked), rows)
    columns = [_Column("", [str(place) for place in range(1, num_ranked + 1)])]
    marks = [{None: "?", False: "=", True: ""}[test] for test in block.separable[1:]]
    if max((len(c.runs) for c in block.ranked), default=0) > 1 and any(marks):
        columns.append(_Column("", ["", *marks]))
    for key, cells in _columns(block.all).items():
        is_number = all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|null|", cell) for cell in cells)
        for digits in (4, 6, 9):  # of numbers of many, such as a random search has, unless two would look alike
            short = [f"{float(cell):.{digits}g}" if is_number and len(cell) > digits + 4 else cell for cell in cells]
            if len(set(short)) == len(set(cells)):
                break
        else:
            short = cells
        columns.append(_Column(key, short, is_number, flexible=True))
    if any(c.num_runs > 1 for c in shown):
        counts = [str(c.num_runs) if len(c.runs) == c.num_runs else f"{len(c.runs)} of {c.num_runs}" for c in shown]
        columns.append(_Column("n", counts))

    means = [_mean(c.values) for c in shown]
    places = _places(means)
    statuses = [c.status for c in shown[num_ranked:]]
    columns.append(_Column(block.all[0].monitor, [*_numbers(means[:num_ranked], places), *statuses]))
    spread = [_sd(c.values) for c in shown]
    if any(sd is not None for sd in spread):
        places = max(places, min(8, 1 - _exponent(spread)))
        limits = [interval(c.values) for c in shown]
        halves = [None if limit is None else (limit[1] - limit[0]) / 2 for limit in limits]
        columns += [_Column("sd", _numbers(spread, places)), _Column("±95%", _numbers(halves, places))]
    if score := _score(block.all):
        scores = [_mean(c.metric(score)) for c in shown]
        columns.append(_Column(score, _numbers(scores, _places(scores))))
    columns.append(_Column("sec", _numbers([c.elapsed_sec for c in shown], 1)))
    if all(c.num_runs == 1 for c in block.all):
        paths = [(c.runs or c.failed or c.unfinished)[0][0] for c in block.all]
        above = os.path.commonpath([path.absolute().parent for path in paths])
        names = [os.path.relpath(path, above) for path in paths]
        columns.append(_Column("run", names, right=False, flexible=True))
    return _rendered(columns, len(shown))


def _score(found: Iterable[Configuration]) -> str | None:
    """The test metric to show."""
    there = {name for c in found for name in SCORES if c.metric(name)}
    return next((name for name in SCORES if name in there), None)


def _exponent(values: Iterable[float | None]) -> int:
    """Of the power of ten of the first of the values that is not 0."""
    return math.floor(math.log10(next((abs(value) for value in values if value), 1.0)))


def _places(values: Sequence[float | None]) -> int:
    """Decimals that show four digits of the first value, and four decimals at least of one below 10."""
    exponent = _exponent(values)
    return min(8, max(3 - exponent, 4 if exponent < 1 else 0))


def _numbers(values: Sequence[float | None], places: int) -> list[str]:
    """With so many decimals, but no other number than 0 as 0, nor in more than a dozen characters."""
    return [
        ""
        if value is None
        else f"{value:.3g}"
        if abs(value) >= 1e7 or 0 < abs(value) < 0.5 * 10**-places
        else f"{value:.{places}f}"
        for value in values
    ]


def _rendered(columns: list[_Column], num_rows: int) -> list[str]:
    """The columns below their titles, cut until they fit, or left out where that does not help."""
    widths = [max(len(text) for text in (column.title, *column.cells[:num_rows])) for column in columns]
    hidden: list[str] = []
    while sum(widths) + 2 * (len(widths) - 1) > WIDTH and any(column.flexible for column in columns):
        flexible = [i for i, column in enumerate(columns) if column.flexible]
        widest = max(flexible, key=lambda i: widths[i])
        if widths[widest] > NARROWEST:
            widths[widest] -= 1
        else:
            hidden.insert(0, columns.pop(flexible[-1]).title)
            widths.pop(flexible[-1])
    lines = []
    for row in range(-1, num_rows):
        cells = []
        for column, width in zip(columns, widths, strict=True):
            text = column.title if row < 0 else column.cells[row] if row < len(column.cells) else ""
            text = _cut(text, width)
            cells.append(text.rjust(width) if column.right else text.ljust(width))
        lines.append("  ".join(cells).rstrip())
    return [*lines, *([_cut(f"no room for {', '.join(hidden)}", WIDTH)] if hidden else [])]


def _cut(text: str, width: int) -> str:
    """`text` without its middle, where it is too long."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


# -------------------------------------------------------------------------------------------------------- CSV


def write_csv(runs: Sequence[Run], path: Path) -> None:
    """Every configuration as a row of a table, in the leaderboard's order, with all digits.

    Columns: `rank` (from 1 for each data set and metric; empty without a result), the keys that differ, `n`, `data`,
    `monitor`, `mean`, `sd`, `ci95_low`, `ci95_high`, the mean of the test metrics (`test/accuracy_mean`),
    `elapsed_sec_mean`, `separable_from_best` (true, false, or empty where there is no test), and the directories of
    the `n` runs, of those that failed and of those that have not ended, from where the file lies, joined by `;`.

    Args:
        runs: as `read_runs` returns them.
        path: of the file; it is written whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    blocks = _blocks(configurations(runs))
    swept = _columns([c for block in blocks for c in block.all])
    swept = {key: cells for key, cells in swept.items() if key not in ("data", "monitor")}
    scores = [name for name in SCORES if any(_score(block.all) == name for block in blocks)]
    header = ["rank", *swept, "n", "data", "monitor", "mean", "sd", "ci95_low", "ci95_high",
              *(f"{name}_mean" for name in scores), "elapsed_sec_mean", "separable_from_best",
              "runs", "failed_runs", "unfinished_runs"]  # fmt: skip
    rows: list[list[Any]] = []
    for block in blocks:
        for place, (c, test) in enumerate(zip_longest(block.all, block.separable), start=1):
            values, tested = c.values, "" if test is None else str(test).lower()
            folders = [
                [os.path.relpath(run, path.parent) for run, _ in some] for some in (c.runs, c.failed, c.unfinished)
            ]
            rows.append([
                place if values else None, *(cells[len(rows)] for cells in swept.values()),
                len(values), c.data, c.monitor, _mean(values), _sd(values), *(interval(values) or (None, None)),
                *(_mean(c.metric(name)) for name in scores), c.elapsed_sec, tested, *map(";".join, folders),
            ])  # fmt: skip
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
