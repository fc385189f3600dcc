"""`mlprun -m …`: a run for every point, and what they found."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import RunMode
from omegaconf import DictConfig

from mlprun.cli.line import Line, first_folder
from mlprun.cli.task import Task
from mlprun.config.identity import fingerprint
from mlprun.config.schema import SweepConfig
from mlprun.errors import ConfigError
from mlprun.process import num_cores
from mlprun.runs import sweep_record
from mlprun.runs.directory import RunDirectory, claim, keep_out_of_git, make, now_utc
from mlprun.runs.log import print_line

if TYPE_CHECKING:
    from mlprun.runs.sweep_record import SweepRecord
    from mlprun.sweep.points import Point

POOL = "hydra_plugins.mlprun_pool.PoolLauncher"
# What a job imports, imported once by the process that starts them all.
PRELOADED = ["hydra_plugins.mlprun_pool", "mlprun.cli.task", "mlprun.job.train", "PIL.ImageDraw"]
# What is said of one occasion only is no part of the line that the record keeps.
ONE_OCCASION = ("sweep.dry_run", "sweep.stale", "hydra.sweep.dir")


def sweep(line: Line, sweep_dir: Path | None = None, *, again: bool = False) -> int:
    """Run every point that is not done, after all were checked; 1 if any failed.

    Args:
        line: of the sweep.
        sweep_dir: where it is; None: where the line says.
        again: the sweep's record has the line already.
    """
    from mlprun.sweep import points as planning

    composer = line.composer
    cfg = composer.compose(line.words, multirun=True)
    settings = composer.point(next(composer.points(line.words))).sweep
    on_pool = cfg.hydra.launcher._target_ == POOL
    if on_pool and not settings.dry_run:
        from mlprun.sweep import pool

        pool.start_server(PRELOADED)
    is_explicit = sweep_dir is not None or line.sets("hydra.sweep.dir")
    if sweep_dir is None and is_explicit:
        sweep_dir = Path(cfg.hydra.sweep.dir)
    elif sweep_dir is None and settings.name is not None:
        sweep_dir = Path("outputs", "sweeps", settings.name)
    if is_explicit and sweep_dir is not None and (sweep_dir / "run.json").exists():
        raise ConfigError("hydra.sweep.dir", sweep_dir, "is the directory of a run", "choose another")
    points, num_repeated = planning.points(composer, line.words, sweep_dir)
    composer.loader.num_jobs = len(points) + num_repeated if composer.is_grid(cfg) else None
    _announce(points, num_repeated, settings.stale)
    if settings.dry_run:
        for row in planning.table(points):
            print(row)
        return 0
    is_new = sweep_dir is None or not sweep_dir.exists()
    sweep_dir = sweep_dir or claim(cfg.hydra.sweep.dir)
    make(sweep_dir)
    if not is_explicit:
        keep_out_of_git(first_folder(sweep_dir))
    cfg.hydra.sweep.dir = str(sweep_dir)
    try:
        with RunDirectory(sweep_dir).held():
            return _run_points(line, cfg, points, sweep_dir, settings, again=again)
    finally:
        if is_new and not (sweep_dir / sweep_record.FILE_NAME).exists():  # it would only look like a sweep
            shutil.rmtree(sweep_dir)


def _run_points(
    line: Line, cfg: DictConfig, points: list[Point], sweep_dir: Path, settings: SweepConfig, *, again: bool
) -> int:
    from mlprun.sweep import points as planning

    redone = [p for p in points if p.outdated and settings.stale == "redo"]
    to_do = [p for p in points if p.status != "completed" or p in redone]
    record = _record_plan(line, cfg, points, to_do, sweep_dir, settings, again=again)
    for point in redone:  # only now: a redo that cannot work leaves what there was
        if point.path is not None:
            shutil.rmtree(point.path)
    line.composer.loader.shared_keys = planning.shared_keys(points)
    line.composer.loader.point_names.update(planning.directory_names(points, line.composer.rewritten(line.words)))
    status, failed = "interrupted", False
    try:
        if to_do or cfg.hydra.launcher._target_ != POOL:
            failed = not _run_hydra(line, cfg)
        status = "completed"
    finally:  # also after Ctrl-C: what is done is done
        failed |= _summarise(sweep_dir, points, started=status == "completed")
        replace(record, status=status, ended_at=now_utc()).write(sweep_dir)
    return 1 if failed else 0


def _record_plan(
    line: Line,
    cfg: DictConfig,
    points: list[Point],
    to_do: list[Point],
    sweep_dir: Path,
    settings: SweepConfig,
    *,
    again: bool,
) -> SweepRecord:
    """Check the points as far as that needs torch, decide how many run at a time, and write it into sweep.json."""
    from mlprun.sweep import preflight, scheduler

    on_pool = cfg.hydra.launcher._target_ == POOL
    needs, dead = preflight.check([(" ".join(p.overrides), p.config) for p in to_do]) if on_pool else ({}, [])
    for key in dead:
        print(f"warning: the check of a point died; its run will tell: {key}", file=sys.stderr)
    num_workers, gpus = scheduler.places(needs.values(), [p.config for p in to_do])
    num_workers = settings.num_workers or num_workers
    typed_in = str(Path.cwd())
    earlier = sweep_record.read(sweep_dir) or sweep_record.SweepRecord([], typed_in, {}, {})
    kept = [w for w, o in zip(line.words, line.overrides, strict=True) if o.key_or_group not in ONE_OCCASION]
    words = [*kept, *line.flags]
    record = replace(
        earlier,
        status="running",
        lines=earlier.lines if again else [*(stored for stored in earlier.lines if stored != words), words],
        typed_in=typed_in,
        max_failures=settings.max_failures,
        num_workers=num_workers,
        gpus=gpus,
        needs={**earlier.needs, **needs},
        points={**earlier.points, **{p.fingerprint: p.overrides for p in points}},
        ended_at=None,
    )
    record.write(sweep_dir)
    at_a_time = min(num_workers, len(gpus) or num_cores())
    print_line(
        f"sweep   {len(to_do)} of {len(points)} runs to do in {sweep_dir}"
        + (f"  {at_a_time} side by side" if on_pool and to_do else "")
    )
    return record


def _run_hydra(line: Line, cfg: DictConfig) -> bool:
    """What `hydra.main` does for a sweep, with a config that is composed already; whether its launcher succeeded."""
    cfg.hydra.mode = RunMode.MULTIRUN
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = line.composer.loader.context(cfg)
    context.callbacks.on_multirun_start(config=cfg, config_name=line.options.config_name)
    task = Task(line.command)
    sweeper = Plugins.instance().instantiate_sweeper(config=cfg, hydra_context=context, task_function=task)
    try:
        sweeper.sweep(arguments=[str(o.input_line) for o in line.overrides if not o.is_hydra_override()])
    except Exception as error:  # a launcher's or a sweeper's own
        print(f"error: {type(error).__name__}: {error}", file=sys.stderr)
        return False
    context.callbacks.on_multirun_end(config=cfg, config_name=line.options.config_name)
    return True


def _announce(points: list[Point], num_repeated: int, stale: str) -> None:
    """What is known of a sweep before it runs."""
    if num_repeated:
        print(f"{num_repeated} points were named twice, and are run once", file=sys.stderr)
    outdated = [point for point in points if point.outdated]
    if outdated:
        names = ", ".join(dict.fromkeys(name for point in outdated for name in point.outdated))
        remedy = "they are run again" if stale == "redo" else "kept; sweep.stale=redo runs them again"
        print(f"warning: {names} changed since {len(outdated)} runs were made: {remedy}", file=sys.stderr)


def _summarise(sweep_dir: Path, points: list[Point], *, started: bool) -> bool:
    """Print what a sweep found, and keep it as leaderboard.csv; whether a run failed or is missing."""
    from mlprun.analysis.leaderboard import leaderboard, write_csv
    from mlprun.runs.collect import read_runs

    runs = read_runs(sweep_dir)
    for row in ["", *leaderboard(runs)]:
        print_line(row)
    write_csv(runs, sweep_dir / "leaderboard.csv")
    by_fingerprint = {fingerprint(record.config): record.status for _, record in runs if record.has_config}
    statuses = [by_fingerprint.get(point.fingerprint, "missing") for point in points]
    if missing := statuses.count("missing"):
        print(f"error: {missing} of {len(points)} runs were not begun", file=sys.stderr)
    print_line(f"sweep   {sweep_dir}\ncurves  tensorboard --logdir {shlex.quote(str(sweep_dir))}")
    if not started:
        print_line(f"resume  mlprun resume {shlex.quote(str(sweep_dir))}")
    return any(status != "completed" for status in statuses)
