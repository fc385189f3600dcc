"""Repeat a run from its record, and compare bit by bit."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mlprun.analysis.diff import compare_records, compare_rows, compare_tensors, differences, num_other_windows
from mlprun.config.project import find_project
from mlprun.config.schema import Config
from mlprun.config.stored import from_record, with_found_root, with_own_writers
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, RunError
from mlprun.formatting import first_few, pluralize
from mlprun.job.changes import identity_without_root
from mlprun.job.outcome import resume_line
from mlprun.job.place import where_run_began
from mlprun.job.run import run_job
from mlprun.runs.directory import RunDirectory, claim
from mlprun.runs.metrics import read_rows
from mlprun.runs.record import RunRecord
from mlprun.terminal import print_line
from mlprun.text_table import render

CHECKPOINTS = ("best.pt", "last.pt")
NAMES = ("original", "again")


def reproduce(path: Path, command: str, *, trust: bool = False) -> int:
    """Repeat the completed run in `path` in a new directory, and print the differences; 0 without any, else 1.

    Writes nothing in `path`, and calls no writer of the user's.

    Args:
        command: the whole command line, for the new run's record.
        trust: also call stored targets from outside known libraries and the current folder.

    Raises:
        UserError: no run, one that is not completed, or one whose config cannot be built here.
        KeyboardInterrupt: asked to stop.
    """
    record = _completed(RunDirectory(path))
    if path.resolve() in (Path.cwd(), *Path.cwd().parents):
        raise RunError(
            f"{path} contains the current folder, and the new run would be written into it"
            f"\n  go back to the folder where it was started: cd {shlex.quote(str(record.folder))}"
        )
    here, outputs = Path.cwd(), find_project().outputs
    with where_run_began(path, trust=trust) as there:
        return _reproduce(there, outputs if there == path else here / outputs, command, trust=trust)


def _reproduce(path: Path, outputs: Path, command: str, *, trust: bool) -> int:
    """Repeat the run in `path` in a new directory in `outputs`."""
    original = RunDirectory(path)
    record = _completed(original)
    stored = with_found_root(with_own_writers(record.config), None)
    if not trust:
        check_targets(stored, Path.cwd(), path, record.signed_config and with_found_root(record.signed_config, None))
    config = from_record(stored)
    config = replace(config, trainer=replace(config.trainer, max_time=None), device=_device(config, record))
    for problem in _unreadable(original):  # known now, not after hours of training
        print_line(f"warning: {problem}\n  it cannot be compared", sys.stderr)
    again = RunDirectory(claim(str(outputs / f"{datetime.now():%Y-%m-%d/%H-%M-%S}_{_name(path)}_again")))
    outcome = run_job(
        config, again.path, command, record.overrides or [], num_threads=record.num_threads, reproduces=path
    )
    if outcome.status != "completed":
        if not outcome.began:
            shutil.rmtree(again.path)
        if record.folder not in (None, str(Path.cwd())):
            print(
                f"the run was started in {record.folder}: its own classes and relative paths are found there",
                file=sys.stderr,
            )
        return outcome.exit_status
    is_identical, lines = _compare(original, record, again)
    print_line("\n".join([f"again   {again.path}", *lines]))
    return 0 if is_identical else 1


def _completed(run: RunDirectory) -> RunRecord:
    record = run.read()
    if record.status != "completed":
        error = record.error.partition("\n")[0]
        remedy = "wait until it ends; if it was killed, finish it" if record.status == "running" else "finish it first"
        raise RunError(
            f"{run.path} is '{record.status}'{f' ({error})' if error else ''}, and only a completed run can be compared"
            f"\n  {remedy}: {resume_line(run.path)}"
        )
    if missing := record.missing("config", "metrics", "num_threads"):
        raise RunError(f"{run.record_file} is damaged: it has no {' and no '.join(missing)}")
    return record


def _name(path: Path) -> str:
    """The run's name without its time, and without the suffix of an earlier reproduction."""
    name = re.sub(r"^\d\d-\d\d-\d\d_", "", path.resolve().name)
    return re.sub(r"_again_[0-9a-f]{4}$", "", name)


def _device(config: Config, record: RunRecord) -> str:
    """The run's device if it exists here and the config would choose another; else the config's."""
    from mlprun.job.build_data import find_device

    wanted = record.device.get("type")
    try:
        if str(find_device(config)) != wanted:
            find_device(replace(config, device=str(wanted)))
            return str(wanted)
        return config.device
    except ConfigError as error:
        print_line(
            f"warning: the run was on {wanted} ({record.device.get('name')}), which is not available ({error.remedy})"
            "\n  on another device its results differ slightly",
            sys.stderr,
        )
        return "auto"


# ---------------------------------------------------------------------------------------------- comparison


def _unreadable(run: RunDirectory) -> Iterator[str]:
    """The files of a run that cannot be compared, and why."""
    from mlprun.runs import checkpoint

    readers: list[Callable[[], object]] = [partial(compare_rows, run.metrics_file, run.metrics_file)]
    readers += [partial(checkpoint.load, run.checkpoints / name) for name in CHECKPOINTS]
    for read in readers:
        try:
            read()
        except RunError as error:
            yield str(error).splitlines()[0]


def _compare(original: RunDirectory, record: RunRecord, again: RunDirectory) -> tuple[bool, list[str]]:
    """Whether two completed runs are identical, and a report in lines."""
    from mlprun.runs import checkpoint

    table: list[tuple[str, str, str]] = []
    unusable, headline, stored = list[str](), "", None
    try:
        if (row := compare_rows(original.metrics_file, again.metrics_file)) is not None:
            headline, table = row.headline(NAMES), row.table(NAMES)
    except RunError as error:
        unusable.append(str(error))
    now = again.read()
    if metrics := differences(record.metrics, now.metrics):
        table += [("result", *NAMES), *((d.key, *d.texts()) for d in metrics)]
    lines = render(table, "<<<", indent="  ")
    for name in CHECKPOINTS:
        try:
            states = [checkpoint.load(run.checkpoints / name) for run in (original, again)]
        except RunError as error:
            unusable.append(str(error))
            continue
        stored = stored or states[0].config
        # A resume may have changed what comes after this step, but not the identity.
        ours, theirs = ({**state, "config": identity_without_root(state.config)} for state in states)
        for progress in (state.progress for state in states):
            progress.pop("next_best", None)  # `checkpoint.keep_best` may have changed on the way
        if tensors := compare_tensors(ours, theirs):
            lines.append(f"  {name}: {first_few(tensors, 3)}")
    problems = [f"  not compared: {line}" for text in unusable for line in text.splitlines()[:1]]
    sections = compare_records(record, now)
    changed = [f"  {section}: {d}" for section in ("code", "environment", "data") for d in sections[section]]
    patches = [run.path / "code.patch" for run in (original, again)]
    if any(d.key == "git.changes" for d in sections["code"]) and all(patch.is_file() for patch in patches):
        changed.append(f"    diff {shlex.quote(str(patches[0]))} {shlex.quote(str(patches[1]))}")
    if headline or lines:
        causes = [f"  {cause}" for cause in _history(record, stored)] + changed
        report = ["different" + f": {headline}" * bool(headline), *lines, *problems, "possible causes:"]
        return False, report + (causes or [f"  {line}" for line in _unrecorded(record.config)])
    rows = len(read_rows(again.metrics_file))
    left_out = 0 if problems else num_other_windows(original.metrics_file, again.metrics_file)
    report = [f"identical: {rows} rows of metrics.jsonl, the test scores, and every bit of best.pt and last.pt"]
    if left_out:
        report.append(f"  without the training means of {pluralize(left_out, 'row')}, which an older version cut")
    if problems:
        report = ["no difference, but not all could be compared:", *problems]
    return not problems, report + (["although these differ:", *changed] if changed else [])


def _history(record: RunRecord, stored: Any) -> Iterator[str]:
    """Events of the original that a repetition from its record does not repeat; `stored`: a checkpoint's config."""
    if stored:
        ours, theirs = ({"config": identity_without_root(c)} for c in (stored, record.config))
        for difference in compare_records(ours, theirs)["config"]:
            yield f"run.json is not the config of the run: {difference}"
    for entry in record.resumed:
        for line in entry.get("changed", []):
            if line.startswith(("epochs:", "steps:")):
                yield f"made longer at step {entry.get('step')}: {line}; until then it ran with its old length"
            elif not line.startswith(("checkpoint.", "trainer.max_time")):  # these change no result
                yield f"resumed at step {entry.get('step')}: {line}"


def _unrecorded(config: dict[str, Any]) -> Iterator[str]:
    """Why results may differ although the records do not."""
    yield "the recorded code, environment and data are the same, so the run is not deterministic"
    if not config.get("trainer", {}).get("deterministic", True):
        yield "trainer.deterministic=false: some kernels add in another order each time"
    if own := sorted(_own_targets(config)):
        yield f"{', '.join(own)}: does it use randomness without a seed (os.urandom, the clock, the order of a set),"
        yield "or read files that have changed? Of your own data sets these are compared only if an argument names them"


def _own_targets(node: Any) -> set[str]:
    """The user's `_target_`s."""
    if isinstance(node, dict):
        target = str(node.get("_target_", "mlprun"))
        own = set() if target.partition(".")[0] in ("mlprun", "torch", "torchvision") else {target}
        return own.union(*(_own_targets(value) for value in node.values()))
    return set().union(*(_own_targets(value) for value in node)) if isinstance(node, list) else set()
