"""`mlprun resume`: resume a stopped run or sweep, or extend a finished run."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from mlprun.cli.last import add_run_dir
from mlprun.cli.line import Line, parse_line
from mlprun.cli.verbs import VERBS
from mlprun.config.identity import RESUMABLE
from mlprun.config.overrides import parse_override
from mlprun.config.stored import take_root
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, RunError
from mlprun.job.place import where_it_began
from mlprun.job.run import resume_job
from mlprun.runs import sweep_record
from mlprun.runs.sweep_record import SweepRecord

HELP = f"{VERBS['resume']}; only {', '.join(RESUMABLE)} may change"
# Of a sweep.
CHANGEABLE = (
    "sweep.num_workers", "sweep.max_failures", "sweep.num_trials", "sweep.confirm", "sweep.confirm_seeds",
    "sweep.stale", "sweep.dry_run",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_run_dir(parser, sweeps=True, help="a run or a sweep")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*")


def run(options: argparse.Namespace, command: str) -> int:
    if (record := sweep_record.read(options.run)) is not None:
        return _resume_sweep(options.run, record, options.overrides, trust=options.trust)
    root, overrides = take_root(options.overrides)
    return resume_job(options.run, overrides, command, trust=options.trust, root=root).exit_status


def _resume_sweep(sweep_dir: Path, record: SweepRecord, overrides: list[str], *, trust: bool) -> int:
    """Run every command line of this sweep again; completed runs are kept."""
    parser = OverridesParser.create()
    changed = {parse_override(parser, override).key_or_group: override for override in overrides}
    for key, override in changed.items():
        if key not in CHANGEABLE:
            problem = "cannot change when a sweep is resumed"
            remedy = f"only {', '.join(CHANGEABLE)} can"
            if key == "data.root":  # the points are named after it
                remedy += "; if the data have moved, put a link where they were, or begin another sweep"
            raise ConfigError(override, ConfigError.MISSING, problem, remedy)
    with where_it_began(sweep_dir, record.typed_in, None, is_own=record.is_own, trust=trust) as there:
        return max((_repeat(stored, there, record, changed, trust=trust) for stored in record.lines), default=0)


def _repeat(stored: list[str], sweep_dir: Path, record: SweepRecord, changed: dict[str, str], *, trust: bool) -> int:
    """Run a stored line again; `changed`: the new overrides by their keys."""
    from mlprun.cli.sweep import sweep

    is_open = trust or record.is_own
    if not is_open:
        _check_flags(stored, sweep_dir)
    line = parse_line(stored, shlex.join(["mlprun", *stored]))
    words = [w for w, o in zip(line.words, line.overrides, strict=True) if o.key_or_group not in changed]
    line = replace(line, words=[*words, *changed.values()])
    if not is_open:
        _check_line(line, sweep_dir)
    return sweep(line, sweep_dir, again=True).exit_status


def _check_flags(stored: list[str], sweep_dir: Path) -> None:
    """Refuse a stored line that reads other YAML, before it is read: its callbacks are called for every job."""
    for word in stored:
        if word.startswith("-") and word not in ("-m", "--multirun"):
            raise _refused(sweep_dir, f"the stored option {word} reads YAML that could call anything")


def _refused(sweep_dir: Path, problem: str) -> RunError:
    return RunError(f"{sweep_dir}: {problem}, and the sweep is not signed by you\n  --trust allows it")


def _check_line(line: Line, sweep_dir: Path) -> None:
    """Refuse a stored line that names code that may not be called, as for a stored config."""
    for override in line.overrides:
        is_hydra = override.is_hydra_override() and override.key_or_group not in ("hydra.sweep.dir", "hydra/launcher")
        if is_hydra or override.package is not None:  # a group may be composed into hydra's node
            raise _refused(sweep_dir, f"the stored override {override.input_line} could call anything")
    for overrides in line.composer.points(line.words):
        check_targets(line.composer.point(overrides).to_dict(), Path.cwd(), sweep_dir)
