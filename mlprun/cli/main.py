"""The command line: train or sweep by default, and the verbs. Imports no torch."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig

from mlprun import __version__, signals
from mlprun.analysis.show import show
from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import RESUMABLE, fingerprint
from mlprun.config.resolvers import conf_dir
from mlprun.config.schema import SweepConfig
from mlprun.config.trust import check_targets
from mlprun.errors import ConfigError, RunError, UserError, near
from mlprun.job.outcome import Outcome
from mlprun.job.run import resume_job, run_job
from mlprun.process import leave, without_collections
from mlprun.runs.directory import RunDirectory, claim, keep_out_of_git, make, now_utc
from mlprun.runs.log import say

if TYPE_CHECKING:
    from mlprun.sweep.points import Point

VERBS = {
    "inspect": "look before training: data, model, schedule, devices and speed; trains nothing",
    "eval": "test score of a finished run's best checkpoint",
    "resume": "continue a run in its own directory; only " + ", ".join(RESUMABLE) + " may change",
    "reproduce": "run again from a run's record, in a new directory, and compare bit by bit",
    "runs": "table and leaderboard of the runs in a folder",
    "show": "one run, or how the configs, code, environments and results of two differ",
    "predict": "what a finished run's best checkpoint says of images or rows of numbers, or of the test part",
    "plot": "curves of a run, or of several in one picture",
    "experiments": "the ready experiments: all, those of a topic, or one in full",
}
_MODULES = {"predict": "mlprun.cli.predict", "plot": "mlprun.cli.plot", "experiments": "mlprun.course.experiments"}


def program() -> NoReturn:
    """The command `mlprun`: `main`, and out at once."""
    try:
        main()
    except SystemExit as stop:
        # a profiler or a debugger has its own things to do at the end
        watched = sys.getprofile() is not None or sys.gettrace() is not None
        if "torch" not in sys.modules or watched or not isinstance(stop.code, int):
            raise
        leave(stop.code)


def main() -> NoReturn:
    """Run what the command line says, and exit: 0 done, 1 a run failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    _add_current_folder()
    signals.install()
    arguments = sys.argv[1:]
    try:
        status = _verb(*arguments) if arguments[:1] and arguments[0] in VERBS else _train(arguments)
    except UserError as error:
        _report(error)
        status = error.exit_status
    except KeyboardInterrupt as stop:
        status = signals.exit_status(str(stop) or "SIGINT")
    except BrokenPipeError:  # `mlprun --cfg job | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:  # a bug of ours, or a corner of Hydra's: still one message
        if os.environ.get("MLPRUN_TRACEBACK") == "1":
            raise
        print(f"error: {type(error).__name__}: {error}\n  MLPRUN_TRACEBACK=1 shows where", file=sys.stderr)
        status = 1
    signals.disarm()
    sys.exit(status)


def _report(error: UserError) -> None:
    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)


def _verb(verb: str, *arguments: str) -> int:
    """A line that is about runs that are there."""
    parser = argparse.ArgumentParser(f"mlprun {verb}", description=VERBS[verb], allow_abbrev=False)
    if verb in _MODULES:
        return int(importlib.import_module(_MODULES[verb]).command(parser, arguments))
    if verb == "inspect":
        parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="as for a training; see mlprun --help")
        parser.add_argument("--config-dir", "-cd", metavar="FOLDER", help="your folder of YAML")
        parser.add_argument("--config-name", "-cn", metavar="NAME", default="config", help="the primary config")
        parser.add_argument("--multirun", "-m", action="store_true", help=argparse.SUPPRESS)
        return _inspect(parser.parse_intermixed_args(arguments))
    if verb == "runs":
        parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("outputs"))
        return _runs(parser.parse_args(arguments).folder)
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    if verb == "show":
        parser.add_argument("other", type=Path, metavar="RUN_DIR", nargs="?")
    else:
        parser.add_argument(
            "--trust", action="store_true", help="call what the run's config names even if it is no library's own"
        )
    if verb == "resume":
        parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*")
    options = parser.parse_intermixed_args(arguments)
    typed = shlex.join(["mlprun", verb, *arguments])
    if verb == "resume" and (options.run / "sweep.json").exists():
        return _resume_sweep(options.run, options.overrides, trust=options.trust)
    if verb == "resume":
        return resume_job(options.run, options.overrides, typed, trust=options.trust).exit_status
    if verb == "show":
        runs = [(run, RunDirectory(run).read()) for run in (options.run, options.other) if run]
        for line in show(*runs):
            print(line)
        return 0
    if verb == "reproduce":
        from mlprun.job import reproduce

        return reproduce.reproduce(options.run, typed, trust=options.trust)

    from mlprun.predict.finished import evaluate

    for name, value in evaluate(options.run, trust=options.trust).items():
        print(name, value)
    return 0


def _inspect(options: argparse.Namespace) -> int:
    """Look at what the line would train, and leave pictures in a folder that is no run's."""
    _check_words(options.overrides)
    if options.multirun:
        raise ConfigError("-m", ConfigError.MISSING, "is for sweeps", "inspect looks at one config: leave it out")
    _refuse("sweep", options.overrides, "is for sweeps", "leave it out")
    composed = Composer(options.config_dir, options.config_name).compose(options.overrides)
    config = check(composed)
    chosen = _explicit(options.overrides, "hydra.run.dir")
    folder = Path(composed.hydra.run.dir)
    if chosen is not None and any((folder / name).exists() for name in ("run.json", "sweep.json")):
        raise ConfigError("hydra.run.dir", folder, "holds a run or a sweep", "choose another, or leave it out")

    with without_collections():
        from mlprun.inspection.inspect import inspect

    day, time = folder.parent.name, folder.name
    return inspect(config, folder if chosen else Path("outputs", "inspect", f"{day}_{time}"), claim=not chosen)


def _runs(folder: Path) -> int:
    """What the runs in a folder found, those of sweeps and others."""
    from mlprun.analysis.leaderboard import leaderboard
    from mlprun.runs.collect import read_runs

    if not folder.is_dir():
        raise RunError(f"there is no folder {folder}")
    for line in leaderboard(read_runs(folder)):
        print(line)
    return 0


def _resume_sweep(folder: Path, overrides: list[str], *, trust: bool) -> int:
    """Every line that was typed for this sweep once more: what is done is not done again."""
    from mlprun.sweep import points as planning

    known = ("sweep.num_workers=", "sweep.max_failures=", "sweep.stale=", "sweep.dry_run=")
    for line in overrides:
        if not line.startswith(known):
            allowed = ", ".join(name.rstrip("=") for name in known)
            raise ConfigError(
                line, ConfigError.MISSING, "cannot change when a sweep is continued", f"only {allowed} can"
            )
    record = planning.read(folder)
    if (there := Path(record["typed_in"])) != Path.cwd():
        raise RunError(f"the sweep was started in {there}, where its classes are found\n  stand there to resume it")
    changed = {line.partition("=")[0] for line in overrides}
    statuses = []
    for line in record["lines"]:
        words = [word for word in line if word.partition("=")[0] not in changed]
        command = shlex.join(["mlprun", *line])
        here = _override("hydra.sweep.dir", folder)
        statuses.append(_train([*words, here, *overrides], command, None if trust else folder))
    return max(statuses, default=0)


def _check_line(composer: Composer, options: argparse.Namespace, folder: Path) -> None:
    """Refuse a line from someone else's sweep if it names code that may not be called: as for a stored config."""
    for word in options.overrides:
        if word.lstrip("+~").startswith("hydra") and not word.startswith(("hydra.sweep.dir=", "hydra/launcher=")):
            raise RunError(f"{folder}: the stored override {word} could call anything\n  --trust allows it")
    if options.config_dir and folder.resolve() in [
        Path(options.config_dir).resolve(),
        *Path(options.config_dir).resolve().parents,
    ]:
        raise RunError(f"{folder}: its config folder came with it\n  --trust allows it")
    for overrides in composer.points(options.overrides):
        check_targets(composer.point(overrides).to_dict(), Path.cwd(), folder)


def _train(arguments: list[str], typed: str = "", trusted_in: Path | None = None) -> int:
    """Train or sweep as the line says.

    Args:
        arguments: of the line.
        typed: the line that it is again, if it comes from a sweep's record.
        trusted_in: the folder of that sweep, unless the user trusts whatever it names.
    """
    global _typed
    _typed = typed or shlex.join(["mlprun", *arguments])
    if "--version" in arguments:
        print(f"mlprun {__version__}")
        return 0
    options = get_args_parser().parse_intermixed_args(arguments)
    # Hydra's own parser wants all overrides in one place: `mlprun data=iris -m seed=0,1` would fail there.
    arguments = [*options.overrides, *(word for word in arguments if word not in options.overrides)]
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return _hydra(arguments, options.config_name)
    _check_words(options.overrides)
    if options.experimental_rerun:
        raise ConfigError(
            "--experimental-rerun", ConfigError.MISSING, "is not supported", "type the run's command again"
        )
    if options.config_path:
        raise ConfigError(
            "--config-path", options.config_path, "is not supported", "name your folder with --config-dir FOLDER"
        )
    if options.resolve and not options.cfg:
        raise ConfigError("--resolve", ConfigError.MISSING, "shows a config with its values filled in", "add --cfg job")
    if options.cfg and options.multirun:
        raise ConfigError("--cfg", ConfigError.MISSING, "shows one config", "leave out -m, or use sweep.dry_run=true")
    composer = Composer(options.config_dir, options.config_name or "config")
    if trusted_in is not None:
        _check_line(composer, options, trusted_in)
    if options.cfg:
        composer.compose(options.overrides, multirun=options.multirun)
        return _hydra(arguments, options.config_name)
    _refuse("inspect", options.overrides, "is for looking before a training", "write mlprun inspect …, or leave it out")
    swept = options.multirun or any(o.replace(" ", "") == "hydra.mode=MULTIRUN" for o in options.overrides)
    if swept:
        return _sweep(composer, arguments, options.overrides, options.config_name, again=bool(typed))
    return _run(composer, arguments, options.overrides, options.config_name)


def _check_words(words: list[str]) -> None:
    """Raise ConfigError for a word that is no override."""
    for word in words:
        if "=" not in word and not word.startswith("~"):
            close = near(word, VERBS)
            remedy = "write key=value without spaces, or quote it: 'model.hidden=[128, 64]'; see mlprun --help"
            if word in VERBS:
                remedy = f"the verb comes first: mlprun {word} …"
            elif close:
                remedy = f"did you mean 'mlprun {close[0]}'?"
            raise ConfigError(word, ConfigError.MISSING, "is neither a verb nor key=value", remedy)


def _refuse(node: str, overrides: list[str], problem: str, remedy: str) -> None:
    """Raise ConfigError for a line that sets what another verb reads."""
    for line in overrides:
        if line.lstrip("+~").startswith((f"{node}.", f"{node}=")):
            raise ConfigError(line, ConfigError.MISSING, problem, remedy)


def _run(composer: Composer, arguments: list[str], overrides: list[str], config_name: str | None) -> int:
    """One run, in a directory of its own."""
    _refuse("sweep", overrides, "is for sweeps", "add -m, or leave it out")
    composed = composer.compose(overrides)
    check(composed)
    chosen, is_new = _explicit(overrides, "hydra.run.dir"), True
    if chosen is None:
        directory = claim(composed.hydra.run.dir)
        keep_out_of_git(_first_folder(directory))
        arguments = [_override("hydra.run.dir", directory), *arguments]
    else:
        directory = Path(composed.hydra.run.dir)
        if (directory / "sweep.json").exists():
            raise ConfigError("hydra.run.dir", directory, "is the folder of a sweep", "choose another")
        arguments = [_override("hydra.run.dir", directory), *_without("hydra.run.dir", arguments)]
        if (directory / "run.json").exists():  # without Hydra, which would write its own record over the old one
            return run_job(check(composed), directory, _typed, overrides).exit_status
        is_new = not directory.exists()
        make(directory)
    _outcomes.clear()
    try:
        status = _hydra(arguments, config_name)
    finally:
        # The message says it all, and a directory would only look like a run.
        kept = any(o.began for o in _outcomes) if _outcomes else (directory / "run.json").exists()
        if not kept and is_new:
            shutil.rmtree(directory)
        elif not kept:  # a folder of the user's: only what would refuse the next try
            for name in ("run.json", ".lock"):
                (directory / name).unlink(missing_ok=True)
    if status or not _outcomes:
        return status or 1
    outcome = _outcomes[0]
    if outcome.status == "completed":
        print(f"run     {directory}\ncurves  tensorboard --logdir {shlex.quote(str(_first_folder(directory)))}")
    return outcome.exit_status


def _sweep(
    composer: Composer, arguments: list[str], overrides: list[str], config_name: str | None, *, again: bool = False
) -> int:
    """A run for every point, and what they found; 1 if any failed. Every point is checked before the first runs.

    Args:
        composer: composes.
        arguments: for Hydra.
        overrides: those among them.
        config_name: the primary config.
        again: a line that the sweep's record has already.
    """
    from mlprun.sweep import points as planning
    from mlprun.sweep.pool import start_server

    composed = composer.compose(overrides, multirun=True)
    settings = composer.point(next(composer.points(overrides))).sweep
    ours = str(composed.hydra.launcher._target_).endswith(".PoolLauncher")
    if ours and not settings.dry_run:
        start_server(["hydra_plugins.mlprun_pool", "mlprun.cli.main", "mlprun.job.figures",
                      "mlprun.writers.tensorboard", "mlprun.training.loop", "mlprun.job.resume",
                      "torch._dynamo", "PIL.ImageDraw"])  # fmt: skip
    folder = None
    if _explicit(overrides, "hydra.sweep.dir") is not None:
        folder = Path(composed.hydra.sweep.dir)
        if (folder / "run.json").exists():
            raise ConfigError("hydra.sweep.dir", folder, "is the directory of a run", "choose another")
    elif settings.name is not None:
        folder = Path("outputs", "sweeps", settings.name)
    points, num_repeated = planning.points(composer, overrides, folder)
    _announce(points, num_repeated, settings.stale)
    if settings.dry_run:
        for line in planning.table(points):
            print(line)
        return 0
    is_new = folder is None or not folder.exists()
    folder = folder or claim(composed.hydra.sweep.dir)
    make(folder)
    if _explicit(overrides, "hydra.sweep.dir") is None:
        keep_out_of_git(_first_folder(folder))
    try:
        with RunDirectory(folder).held():
            return _run_points(points, folder, settings, arguments, config_name, ours=ours, again=again)
    finally:
        if is_new and not (folder / planning.RECORD).exists():  # it would only look like a sweep
            shutil.rmtree(folder)


def _run_points(
    points: list[Point],
    folder: Path,
    settings: SweepConfig,
    arguments: list[str],
    config_name: str | None,
    *,
    ours: bool,
    again: bool,
) -> int:
    from mlprun.sweep import points as planning
    from mlprun.sweep import preflight, scheduler

    redone = [p for p in points if p.outdated and settings.stale == "redo"]
    to_do = [p for p in points if p.status != "completed" or p in redone]
    needs, dead = preflight.check([(" ".join(p.overrides), p.config) for p in to_do]) if ours else ({}, [])
    for mark in dead:
        print(f"warning: the check of a point died; its run will tell: {mark}", file=sys.stderr)
    for point in redone:
        if point.path is not None:
            shutil.rmtree(point.path)
    num_workers, gpus = scheduler.places(needs.values(), [p.config for p in to_do])
    num_workers = settings.num_workers or num_workers
    earlier = planning.read(folder) if (folder / planning.RECORD).exists() else {"lines": [], "needs": {}, "points": {}}
    # what is said of one occasion only is no part of the line
    once = ("sweep.dry_run=", "sweep.stale=", "hydra.sweep.dir=")
    line = [word for word in arguments if not word.startswith(once)]
    os.environ["MLPRUN_COMMAND"] = _typed  # for the jobs' own processes
    planning.note(
        folder,
        status="running",
        lines=earlier["lines"] if again else [*(known for known in earlier["lines"] if known != line), line],
        typed_in=str(Path.cwd()),
        max_failures=settings.max_failures,
        num_workers=num_workers,
        gpus=gpus,
        needs={**earlier["needs"], **{mark: dataclasses.asdict(need) for mark, need in needs.items()}},
        points={**earlier["points"], **{p.mark: p.overrides for p in points}},
    )
    beside = f"  {min(num_workers, len(gpus) or scheduler.num_cores())} side by side" if ours and to_do else ""
    say(f"sweep   {len(to_do)} of {len(points)} runs to do in {folder}{beside}")
    shared = set(points[0].overrides).intersection(*(p.overrides for p in points)) if len(points) > 1 else set()
    keys = ",".join(f"'{line.partition('=')[0]}'" for line in points[0].overrides if line in shared)
    swept = {line.partition("=")[0] for point in points for line in point.overrides if line not in shared}
    held = {line for line in shared if any(line.startswith(f"{key}.") for key in swept)}
    arguments = [
        _override("hydra.sweep.dir", folder),
        # directories show what is swept, and leave out what all jobs share
        f"hydra.job.config.override_dirname.exclude_keys=[{keys}]",
        *_without("hydra.sweep.dir", [_of_each_point(word) if word in held else word for word in arguments]),
    ]
    status = "interrupted"
    failed = False
    try:
        if to_do or not ours:
            failed = bool(_hydra(arguments, config_name))
        status = "completed"
    finally:  # also after Ctrl-C: what is done is done
        failed |= _summarise(folder, points, started=status == "completed")
        planning.note(folder, status=status, ended_at=now_utc())
    return 1 if failed else 0


def _of_each_point(line: str) -> str:
    """`model.width=8` as a sweep of one value, which Hydra holds against each point's own choice of a model."""
    key, _, value = line.partition("=")
    return f"{key}=choice({value})" if value and not line.startswith(("+", "~")) else line


def _announce(points: list[Point], num_repeated: int, stale: str) -> None:
    """What is known of a sweep before it runs."""
    if num_repeated:
        print(f"{num_repeated} points were named twice, and are run once", file=sys.stderr)
    outdated = [point for point in points if point.outdated]
    if outdated:
        names = ", ".join(dict.fromkeys(name for point in outdated for name in point.outdated))
        remedy = "they are run again" if stale == "redo" else "kept; sweep.stale=redo runs them again"
        print(f"warning: {names} changed since {len(outdated)} runs were made: {remedy}", file=sys.stderr)


def _summarise(folder: Path, points: list[Point], *, started: bool) -> bool:
    """Print what a sweep found, and keep it as leaderboard.csv; whether a run failed or is missing."""
    from mlprun.analysis.leaderboard import leaderboard, write_csv
    from mlprun.runs.collect import read_runs

    runs = read_runs(folder)
    for line in ["", *leaderboard(runs)]:
        say(line)
    write_csv(runs, folder / "leaderboard.csv")
    done = {fingerprint(record["config"]): record["status"] for _, record in runs if "config" in record}
    statuses = [done.get(point.mark, "missing") for point in points]
    if missing := statuses.count("missing"):
        print(f"error: {missing} of {len(points)} runs were not begun", file=sys.stderr)
    say(f"sweep   {folder}\ncurves  tensorboard --logdir {shlex.quote(str(folder))}")
    if not started:
        say(f"resume  mlprun resume {shlex.quote(str(folder))}")
    return any(status != "completed" for status in statuses)


_outcomes: list[Outcome] = []  # of the jobs that ran in this process
_typed = ""  # the line as it was typed; empty in a job's own process


def _hydra(arguments: list[str], config_name: str | None) -> int:
    """Hydra's own main on these arguments; its exit status."""
    sys.argv = [sys.argv[0], *arguments]
    main = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name=config_name or "config")(_task)
    try:
        main()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def _task(cfg: DictConfig) -> float:
    """One job, called by whichever launcher of Hydra's; returns the objective."""
    from hydra.core.hydra_config import HydraConfig

    _add_current_folder()  # a launcher's worker process has not been through main()
    settings = HydraConfig.get()
    path = Path(settings.runtime.output_dir)
    path = path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path
    if settings.mode is RunMode.MULTIRUN:
        print(f"\nrun {settings.job.num}  {' '.join(settings.overrides.task)}", flush=True)
    command = _typed or os.environ.get("MLPRUN_COMMAND") or shlex.join(["mlprun", *settings.overrides.task])
    try:
        outcome = run_job(check(cfg), path, command, list(settings.overrides.task))
    except UserError as error:
        _report(error)
        outcome = Outcome("failed", path, exit_status=error.exit_status)
    _outcomes.append(outcome)
    return outcome.objective


def _explicit(overrides: list[str], key: str) -> str | None:
    """The value that the user gave `key`, or None."""
    return next((o.partition("=")[2] for o in overrides if o.lstrip("+").startswith(f"{key}=")), None)


def _without(key: str, arguments: list[str]) -> list[str]:
    """The words that do not set `key`: a value with ${now:} would come out another a second later."""
    return [word for word in arguments if not word.lstrip("+").startswith(f"{key}=")]


def _override(key: str, path: Path) -> str:
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{quoted}'"


def _first_folder(path: Path) -> Path:
    return path if path.is_absolute() or not path.parts else Path(path.parts[0])


def _add_current_folder() -> None:
    """Let a user's own modules be found in the current folder; last, so that no file there hides a library."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
