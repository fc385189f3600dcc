"""`mlprun -m …`: a run for every point, and the leaderboard."""

from __future__ import annotations

import itertools
import shutil
import sys
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from mlprun.cli.line import Line
from mlprun.cli.sweep_summary import draw_search, summarise
from mlprun.cli.task import OURS, POOL, Task, check_launcher, safe_path
from mlprun.config.project import find_project
from mlprun.config.rows import Rows
from mlprun.config.schema import SweepConfig
from mlprun.config.space import Space
from mlprun.errors import ConfigError, UserError
from mlprun.files import check_for_hydra
from mlprun.formatting import pluralize
from mlprun.process import is_guest, num_cores, num_ranks
from mlprun.runs import sweep_record
from mlprun.runs.collect import read_runs
from mlprun.runs.directory import RunDirectory, claim, make, now_utc
from mlprun.runs.record import DONE, RunRecord
from mlprun.terminal import print_line

if TYPE_CHECKING:
    from mlprun.runs.sweep_record import SweepRecord
    from mlprun.sweep.points import Point
    from mlprun.sweep.preflight import Checked
    from mlprun.sweep.search import Search

Stage = Callable[[dict[str, Any]], None]  # a part of a sweep; takes what launchers and sweepers are built from
# Overrides that the record of a command line leaves out.
NOT_RECORDED = ("sweep.dry_run", "sweep.stale", "hydra.sweep.dir")


@dataclass(frozen=True)
class Swept:
    """How a sweep ended."""

    directory: Path | None  # None: only its points were shown
    exit_status: int = 0  # 1 if a run failed or was not started
    error: str = ""  # of the launcher or the sweeper


def sweep(line: Line, sweep_dir: Path | None = None, *, again: bool = False) -> Swept:
    """Check all points, then run those that are not completed.

    Args:
        sweep_dir: None: as the line says.
        again: the sweep's record contains the line already.
    """
    from mlprun.sweep import points as planning
    from mlprun.sweep.confirm import check_confirm, fresh_seeds
    from mlprun.sweep.search import check_sampler, describe, recorded_runs, trials_of

    if num_ranks() is not None:
        remedy = "leave torchrun out: trainer.devices=2 gives each run of a sweep two processes"
        raise ConfigError("-m", ConfigError.MISSING, "is a sweep, and torchrun starts one run", remedy)
    composer = line.composer
    cfg = composer.compose(line.words, multirun=True)
    first = composer.point(next(composer.points(line.words)))
    settings = first.sweep
    if cfg.hydra.launcher._target_.startswith(OURS) and not settings.dry_run:
        from mlprun.sweep import pool

        check_launcher(cfg.hydra.launcher)
        pool.start_server(pool.preloaded(first))  # for the check of the points, and the jobs of the pool
    is_explicit = sweep_dir is not None or line.sets("hydra.sweep.dir")
    if sweep_dir is None and is_explicit:
        sweep_dir = Path(cfg.hydra.sweep.dir)
    elif sweep_dir is None and settings.name is not None:
        sweep_dir = find_project().outputs / "sweeps" / settings.name
    if is_explicit and sweep_dir is not None and (sweep_dir / "run.json").exists():
        raise ConfigError("hydra.sweep.dir", sweep_dir, "is the directory of a run", "choose another")
    space = composer.space(line.words, cfg)
    if space is not None:
        check_sampler(space, settings)
    points, num_repeated = planning.points(composer, composer.points(line.words), sweep_dir)
    is_planned = composer.is_grid(cfg) and not _leaves_to_hydra(cfg)
    num_jobs = len(points) if is_planned else len(points) + num_repeated
    composer.loader.num_jobs = num_jobs if composer.is_grid(cfg) else None
    composer.loader.shared_keys = planning.shared_keys(points)
    planning.check_directories(composer, line.words, sweep_dir)
    if settings.confirm and not composer.is_grid(cfg):
        problem, remedy = "has no effect with another hydra/sweeper", "leave one of the two out"
        raise ConfigError("sweep.confirm", settings.confirm, problem, remedy)
    if settings.confirm:
        check_confirm(composer, line.words, settings, points if space is None else None)
    if num_repeated:
        print_line(f"{pluralize(num_repeated, 'repeated point')} skipped", sys.stderr)
    if not settings.dry_run:
        print_line(f"check   {pluralize(len(points), 'run')} before the first starts")
    builds = cfg.hydra.launcher._target_.startswith(OURS) and not settings.dry_run
    trials = [] if space is None or sweep_dir is None else recorded_runs(space, sweep_dir)
    earlier, _ = planning.points(composer, trials, sweep_dir)
    points, earlier, checked = _check(points, earlier, settings, builds=builds)
    if space is not None:  # its points were only examples
        points = earlier
    _warn_of_outdated(points, settings.stale)
    if settings.dry_run:
        for row in planning.table(points) if space is None else [*describe(space), trials_of(space, settings)]:
            print_line(row)
        if settings.confirm:
            seeds = ", ".join(map(str, fresh_seeds(settings, points)))
            print_line(f"then {pluralize(settings.confirm, 'best configuration')} again, each with seed={seeds}")
        return Swept(None)
    is_new = sweep_dir is None or not sweep_dir.exists()
    sweep_dir = sweep_dir or claim(cfg.hydra.sweep.dir)
    make(sweep_dir, ignored=not is_explicit)
    cfg.hydra.sweep.dir = str(sweep_dir)
    try:
        with RunDirectory(sweep_dir).held():
            return _run_points(line, cfg, space, points, checked, sweep_dir, settings, again=again)
    finally:
        if is_new and not (sweep_dir / sweep_record.FILE_NAME).exists():  # it would look like a sweep
            shutil.rmtree(sweep_dir)


def _run_points(
    line: Line,
    cfg: DictConfig,
    space: Space | None,
    points: list[Point],
    checked: Checked,
    sweep_dir: Path,
    settings: SweepConfig,
    *,
    again: bool,
) -> Swept:
    from mlprun.sweep import points as planning
    from mlprun.sweep.search import Search, describe

    to_do = [p for p in points if p.is_to_do(settings.stale)]
    for path in (sweep_dir, *(p.path for p in to_do if p.path)):
        check_for_hydra(path, is_named=path == sweep_dir)
    redone = [p for p in to_do if p.outdated and settings.stale == "redo"]
    record = _plan(checked, to_do, sweep_dir, settings)
    if not again:
        overrides = zip(line.words, line.overrides, strict=True)
        words = [*(word for word, o in overrides if o.key_or_group not in NOT_RECORDED), *line.flags]
        record = replace(record, lines=[*(stored for stored in record.lines if stored != words), words])
    record = replace(record, points={**record.points, **{p.fingerprint: p.overrides for p in points}})
    record.write(sweep_dir)
    is_scheduled = cfg.hydra.launcher._target_.startswith(OURS)
    at_a_time = min(record.num_workers, len(record.gpus) or num_cores())
    suffix = f", {at_a_time} at a time" if cfg.hydra.launcher._target_ == POOL and to_do else ""
    is_grid = line.composer.is_grid(cfg) and space is None
    count = f"{len(to_do)} of {len(points)} runs to do" if is_grid else "a search"
    for point in redone:  # only now: a redo that cannot work keeps the earlier run
        if point.path is not None:
            shutil.rmtree(point.path)
    line.composer.loader.point_names.update(planning.directory_names(points, line.composer.rewritten(line.words)))
    search = None
    if space is not None:
        records = {tuple(p.overrides): p.record for p in points if p not in redone}
        search = Search(space, settings, sweep_dir, lambda overrides: records.get(tuple(overrides), RunRecord()))
        line.composer.loader.num_jobs = search.num_jobs
        count = search.summary
        record = replace(record, scales={**record.scales, **space.scales})
        record.write(sweep_dir)
        for row in describe(space):
            print_line(f"search  {row}")
    print_line(f"sweep   {count}{suffix}: {sweep_dir}")
    status, error, failed = "interrupted", "", False
    confirmed: list[Point] = []
    stages: list[Stage] = []
    if to_do or not is_scheduled or not is_grid:
        stages.append(partial(_run_all, line, cfg, search, points, {p.fingerprint for p in to_do}))
    if settings.confirm:
        stages.append(partial(_confirm, line, space, search, sweep_dir, settings, confirmed))
    try:
        if stages:
            error = _run_hydra(line, cfg, stages)
        status = "completed"
    finally:  # also after Ctrl-C
        started = status == "completed"
        runs = read_runs(sweep_dir, [(p.path, p.record) for p in points if p.path])
        failed = summarise(sweep_dir, runs, [*points, *confirmed] if is_grid else [], started=started)
        if space is not None and started:
            draw_search(sweep_dir, runs, sum(point.record.status in DONE for point in points if point not in redone))
        record = sweep_record.read(sweep_dir) or record  # a stage may have added to it
        replace(record, status=status, ended_at=now_utc()).write(sweep_dir)
    return Swept(sweep_dir, 1 if failed or error else 0, error)


def _check(
    points: list[Point], earlier: list[Point], settings: SweepConfig, *, builds: bool
) -> tuple[list[Point], list[Point], Checked]:
    """Run the checks that need torch; returns the points with what has changed since, and the result.

    Args:
        earlier: runs of a search, of which only the data are compared: one that failed does not stop it.
        builds: check what is to be run; else only compare the data of what was run.
    """
    from mlprun.sweep import preflight

    to_do = [p for p in points if builds and p.is_to_do(settings.stale)]
    finished = [p.config for p in (*points, *earlier) if p.record.data]
    checked = preflight.check(to_do, finished)
    unread: list[Point] = []

    def compared(point: Point) -> Point:
        if not point.record.data:
            return point
        if (data := checked.data_of(point.config)) is None:
            unread.append(point)
            return point
        return point.compared(data)

    points, earlier = (list(map(compared, part)) for part in (points, earlier))
    known = {p.fingerprint for p in to_do}
    if builds and (more := [p for p in points if p.is_to_do(settings.stale) and p.fingerprint not in known]):
        again = preflight.check(more)
        checked.needs |= again.needs
        checked.dead += again.dead
    for key in dict.fromkeys(checked.dead):
        print_line(f"warning: the check of a point died; its run will show why: {key}", sys.stderr)
    if unread:
        runs = pluralize(len(unread), "run")
        print_line(f"warning: the data of {runs} cannot be read now, and is not compared with the record", sys.stderr)
    return points, earlier, checked


def _plan(checked: Checked, to_do: list[Point], sweep_dir: Path, settings: SweepConfig) -> SweepRecord:
    """Decide how many runs execute in parallel."""
    from mlprun.sweep import scheduler

    num_workers, gpus = scheduler.places(checked.needs.values(), [p.config for p in to_do])
    typed_in = str(Path.cwd())
    earlier = sweep_record.read(sweep_dir) or sweep_record.SweepRecord([], typed_in, {}, {})
    return replace(
        earlier,
        status="running",
        typed_in=typed_in,
        max_failures=settings.max_failures,
        num_workers=settings.num_workers or num_workers,
        gpus=gpus,
        needs={**earlier.needs, **checked.needs},
        ended_at=None,
    )


def _leaves_to_hydra(cfg: DictConfig) -> bool:
    """Whether Hydra's own sweeper runs a grid: for a launcher of others, or in batches."""
    return not cfg.hydra.launcher._target_.startswith(OURS) or cfg.hydra.sweeper.max_batch_size is not None


def _run_hydra(line: Line, cfg: DictConfig, stages: Sequence[Stage]) -> str:
    """What `hydra.main` does for a sweep, with a composed config; the error of its launcher or sweeper, if any.

    Args:
        stages: called one after another with what launchers and sweepers are built from.
    """
    cfg.hydra.mode = RunMode.MULTIRUN
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = line.composer.loader.context(cfg)
    context.callbacks.on_multirun_start(config=cfg, config_name=line.options.config_name)
    task = Task(line.command)
    how: dict[str, Any] = {"config": cfg, "hydra_context": context, "task_function": task}
    try:
        with safe_path():
            for stage in stages:
                stage(how)
    except Exception as error:  # of a launcher or a sweeper
        text = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        if not is_guest():  # else it is raised
            print_line(f"error: {text}", sys.stderr)
        return text
    context.callbacks.on_multirun_end(config=cfg, config_name=line.options.config_name)
    return ""


def _as_hydra(point: Point, rewritten: dict[str, str]) -> list[str]:
    """The overrides of a point as Hydra's sweeper writes them."""
    return [text for override in point.overrides if (text := rewritten.get(override, override))]


def _run_all(
    line: Line, cfg: DictConfig, search: Search | None, points: list[Point], to_do: Set[str], how: dict[str, Any]
) -> None:
    """Run the points of a grid, or a search.

    Args:
        to_do: fingerprints of the points to run; those that Hydra's own sweeper runs find out themselves.
        how: what launchers and sweepers are built from.
    """
    from mlprun.sweep.scheduler import Grid

    if search is not None:
        _launch(search, Plugins.instance().instantiate_launcher(**how))
    elif line.composer.is_grid(cfg) and not _leaves_to_hydra(cfg):
        # Hydra's sweeper would compose every point twice more
        OmegaConf.save(cfg, Path(cfg.hydra.sweep.dir) / "multirun.yaml")
        numbers = [i for i, point in enumerate(points) if point.fingerprint in to_do]
        done = [(str(p.path), p.record) for p in points if p.fingerprint not in to_do]
        rewritten = line.composer.rewritten(line.words)
        grid = Grid([_as_hydra(points[i], rewritten) for i in numbers])
        launcher: Any = Plugins.instance().instantiate_launcher(**how)
        launcher.run(grid, iter(numbers), done)
    elif cfg.sweep.points is not None or any(isinstance(o, Rows) for o in line.overrides):
        _launch_points(line, points, how)
    else:
        Plugins.instance().instantiate_sweeper(**how).sweep(arguments=line.words_of_task)


def _confirm(
    line: Line,
    space: Space | None,
    search: Search | None,
    sweep_dir: Path,
    settings: SweepConfig,
    confirmed: list[Point],
    how: dict[str, Any],
) -> None:
    """Run the best again, once it is known which they are.

    Args:
        confirmed: filled with the points of the added runs.
        how: what launchers and sweepers are built from.
    """
    from mlprun.sweep import points as planning
    from mlprun.sweep.confirm import confirming, swept_points

    swept = swept_points(line.composer, line.words, space, sweep_dir)
    is_over = all(point.status in (*DONE, "failed") for point in swept)
    if not is_over or (search is not None and search.num_left):
        print_line("confirm nothing: runs of the sweep have not ended, and could be the best", sys.stderr)
        return
    pairs = confirming(line.composer, swept, sweep_dir, settings)
    confirmed.extend(point for point, _ in pairs)
    left = [point for point in confirmed if point.is_to_do(settings.stale)]
    for point in left:
        if point.outdated and settings.stale == "redo" and point.path is not None:
            shutil.rmtree(point.path)
    print_line(f"confirm {len(left)} of {pluralize(len(confirmed), 'run')} to do, with fresh seeds")
    if not left:
        return
    record = sweep_record.read(sweep_dir)
    assert record is not None  # the sweep has written it
    needs = {p.fingerprint: record.needs[like.fingerprint] for p, like in pairs if like.fingerprint in record.needs}
    added = {p.fingerprint: p.overrides for p in confirmed}
    replace(record, needs={**record.needs, **needs}, points={**record.points, **added}).write(sweep_dir)
    loader = line.composer.loader
    loader.num_jobs = len(left)
    loader.point_names.update(planning.directory_names(confirmed, line.composer.rewritten(line.words)))
    _launch_points(line, left, how)


def _launch_points(line: Line, points: Sequence[Point], how: dict[str, Any]) -> None:
    """Run points that Hydra's sweeper does not read from the line."""
    rewritten = line.composer.rewritten(line.words)
    overrides = [_as_hydra(point, rewritten) for point in points]
    Plugins.instance().instantiate_launcher(**how).launch(overrides, 0)


def _launch(search: Search, launcher: Launcher) -> None:
    """Run a search: in parallel with mlprun's launcher, one run after another with one that waits for a whole batch."""
    if hasattr(launcher, "run"):
        launcher.run(search, ended_before=search.ended_before)
        return
    for number in itertools.count():
        if (proposal := search.ask()) is None:
            return
        record = RunRecord()
        if not proposal.has_ended:
            (done,) = launcher.launch([proposal.overrides], number)
            directory = RunDirectory(Path(done.hydra_cfg.hydra.runtime.output_dir)) if done.hydra_cfg else None
            record = directory.read() if directory and directory.record_file.exists() else record
        search.tell(proposal, record)


def _warn_of_outdated(points: list[Point], stale: str) -> None:
    outdated = [point for point in points if point.outdated]
    if outdated:
        names = ", ".join(dict.fromkeys(name for point in outdated for name in point.outdated))
        remedy = "they are run again" if stale == "redo" else "kept; sweep.stale=redo runs them again"
        print_line(f"warning: {names} changed since {len(outdated)} runs were made: {remedy}", sys.stderr)
