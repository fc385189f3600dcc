"""`mlprun resume`: go on with a run or a sweep."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser

from mlprun.cli.line import Line, parse_line
from mlprun.config.identity import RESUMABLE
from mlprun.config.overrides import parse_override
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, RunError
from mlprun.job.run import resume_job
from mlprun.runs import sweep_record
from mlprun.runs.sweep_record import SweepRecord

HELP = "continue a run in its own directory; only " + ", ".join(RESUMABLE) + " may change"
CHANGEABLE = ("sweep.num_workers", "sweep.max_failures", "sweep.stale", "sweep.dry_run")  # of a sweep


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*")


def run(options: argparse.Namespace, command: str) -> int:
    """Continue what is in the directory; the exit status."""
    if (record := sweep_record.read(options.run)) is not None:
        return _resume_sweep(options.run, record, options.overrides, trust=options.trust)
    return resume_job(options.run, options.overrides, command, trust=options.trust).exit_status


def _resume_sweep(sweep_dir: Path, record: SweepRecord, overrides: list[str], *, trust: bool) -> int:
    """Every line that was typed for this sweep once more: what is done is not done again."""
    from mlprun.cli.sweep import sweep

    parser = OverridesParser.create()
    changed = {parse_override(parser, override).key_or_group: override for override in overrides}
    for key, override in changed.items():
        if key not in CHANGEABLE:
            allowed = ", ".join(CHANGEABLE)
            raise ConfigError(
                override, ConfigError.MISSING, "cannot change when a sweep is continued", f"only {allowed} can"
            )
    if Path(record.typed_in) != Path.cwd():
        raise RunError(
            f"the sweep was started in {record.typed_in}, where its classes are found\n  stand there to resume it"
        )
    exit_statuses = []
    for words in record.lines:
        line = parse_line(words, shlex.join(["mlprun", *words]))
        kept = [w for w, o in zip(line.words, line.overrides, strict=True) if o.key_or_group not in changed]
        line = line.with_words([*kept, *overrides])
        if not trust:
            _check_line(line, sweep_dir)
        exit_statuses.append(sweep(line, sweep_dir, again=True))
    return max(exit_statuses, default=0)


def _check_line(line: Line, sweep_dir: Path) -> None:
    """Refuse a line from someone else's sweep if it names code that may not be called: as for a stored config."""
    for override in line.overrides:
        if override.is_hydra_override() and override.key_or_group not in ("hydra.sweep.dir", "hydra/launcher"):
            raise RunError(
                f"{sweep_dir}: the stored override {override.input_line} could call anything\n  --trust allows it"
            )
    if line.options.config_dir:
        config_dir = Path(line.options.config_dir).resolve()
        if sweep_dir.resolve() in [config_dir, *config_dir.parents]:
            raise RunError(f"{sweep_dir}: its config folder came with it\n  --trust allows it")
    for overrides in line.composer.points(line.words):
        check_targets(line.composer.point(overrides).to_dict(), Path.cwd(), sweep_dir)
