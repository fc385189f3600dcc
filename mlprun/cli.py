"""The command line: train or sweep by default, and the verbs. Imports no torch."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.types import RunMode
from omegaconf import DictConfig

from mlprun import __version__, stopping
from mlprun.config import RESUMABLE, Composer, check, conf_dir
from mlprun.errors import ConfigError, UserError, near
from mlprun.job import Outcome
from mlprun.job import resume as resume_job
from mlprun.job import run as run_job
from mlprun.runs import compare
from mlprun.runs.directory import RunDirectory, claim, keep_out_of_git, make

VERBS = {
    "eval": "test score of a finished run's best checkpoint",
    "resume": "continue a run in its own directory; only " + ", ".join(RESUMABLE) + " may change",
    "reproduce": "run again from a run's record, in a new directory, and compare bit by bit",
    "show": "one run, or how the configs, code, environments and results of two differ",
}


def main() -> NoReturn:
    """Run what the command line says, and exit: 0 done, 1 a run failed, 2 wrong usage, 130 Ctrl-C, 143 SIGTERM."""
    _add_current_folder()
    stopping.install()
    arguments = sys.argv[1:]
    try:
        status = _verb(*arguments) if arguments[:1] and arguments[0] in VERBS else _train(arguments)
    except UserError as error:
        _report(error)
        status = error.exit_status
    except KeyboardInterrupt as stop:
        status = stopping.exit_status(str(stop) or "SIGINT")
    except BrokenPipeError:  # `mlprun --cfg job | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    except Exception as error:  # a bug of ours, or a corner of Hydra's: still one message
        if os.environ.get("MLPRUN_TRACEBACK") == "1":
            raise
        print(f"error: {type(error).__name__}: {error}\n  MLPRUN_TRACEBACK=1 shows where", file=sys.stderr)
        status = 1
    sys.exit(status)


def _report(error: UserError) -> None:
    if os.environ.get("MLPRUN_TRACEBACK") == "1":
        import traceback

        traceback.print_exception(error)
    print(f"error: {error}", file=sys.stderr)


def _verb(verb: str, *arguments: str) -> int:
    """A line that is about runs that are there."""
    parser = argparse.ArgumentParser(f"mlprun {verb}", description=VERBS[verb], allow_abbrev=False)
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
    if verb == "resume":
        return resume_job(options.run, options.overrides, typed, trust=options.trust).exit_status
    if verb == "show":
        runs = [(run, RunDirectory(run).read()) for run in (options.run, options.other) if run]
        for line in compare.show(*runs):
            print(line)
        return 0
    if verb == "reproduce":
        from mlprun import reproduction

        return reproduction.reproduce(options.run, typed, trust=options.trust)

    from mlprun import inference

    for name, value in inference.evaluate(options.run, trust=options.trust).items():
        print(name, value)
    return 0


def _train(arguments: list[str]) -> int:
    global _typed
    _typed = shlex.join(["mlprun", *arguments])
    if "--version" in arguments:
        print(f"mlprun {__version__}")
        return 0
    options = get_args_parser().parse_intermixed_args(arguments)
    # Hydra's own parser wants all overrides in one place: `mlprun data=iris -m seed=0,1` would fail there.
    arguments = [*options.overrides, *(word for word in arguments if word not in options.overrides)]
    if options.help or options.hydra_help or options.shell_completion or options.info:
        return _hydra(arguments, options.config_name)
    for word in options.overrides:
        if "=" not in word and not word.startswith("~"):
            close = near(word, VERBS)
            remedy = "write key=value without spaces, or quote it: 'model.hidden=[128, 64]'; see mlprun --help"
            if word in VERBS:
                remedy = f"the verb comes first: mlprun {word} …"
            elif close:
                remedy = f"did you mean 'mlprun {close[0]}'?"
            raise ConfigError(word, ConfigError.MISSING, "is neither a verb nor key=value", remedy)
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
    composer = Composer(options.config_dir, options.config_name or "config")
    if options.cfg:
        composer.compose(options.overrides, multirun=options.multirun)
        return _hydra(arguments, options.config_name)
    swept = options.multirun or any(o.replace(" ", "") == "hydra.mode=MULTIRUN" for o in options.overrides)
    return (_sweep if swept else _run)(composer, arguments, options.overrides, options.config_name)


def _run(composer: Composer, arguments: list[str], overrides: list[str], config_name: str | None) -> int:
    """One run, in a directory of its own."""
    composed = composer.compose(overrides)
    check(composed)
    chosen = _explicit(overrides, "hydra.run.dir")
    if chosen is None:
        directory = claim(composed.hydra.run.dir)
        keep_out_of_git(_first_folder(directory))
        arguments = [_override("hydra.run.dir", directory), *arguments]
    else:
        directory = Path(composed.hydra.run.dir)
        if (directory / "run.json").exists():  # without Hydra, which would write its own record over the old one
            return run_job(check(composed), directory, _typed, overrides).exit_status
        make(directory)
    _outcomes.clear()
    try:
        status = _hydra(arguments, config_name)
    finally:
        # The message says it all, and a directory would only look like a run.
        kept = any(o.began for o in _outcomes) if _outcomes else (directory / "run.json").exists()
        if not kept and chosen is None:
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


def _sweep(composer: Composer, arguments: list[str], overrides: list[str], config_name: str | None) -> int:
    """A run for every point, a table of them, and 1 if any failed. Every point is checked before the first runs."""
    points = list(composer.points(overrides))
    for point in points:
        check(composer.compose(point))
    composed = composer.compose(overrides, multirun=True)
    if _explicit(overrides, "hydra.sweep.dir") is None:
        folder = claim(composed.hydra.sweep.dir)
        keep_out_of_git(_first_folder(folder))
        arguments = [_override("hydra.sweep.dir", folder), *arguments]
    else:
        folder = Path(composed.hydra.sweep.dir)
        if any(folder.glob("*/run.json")):
            raise ConfigError("hydra.sweep.dir", folder, "holds runs already", "choose another, or remove it")
        make(folder)
    shared = set(points[0]).intersection(*points) if len(points) > 1 else set()
    keys = ",".join(f"'{line.partition('=')[0]}'" for line in points[0] if line in shared)
    # directories show what is swept, and leave out what all jobs share
    arguments = [f"hydra.job.config.override_dirname.exclude_keys=[{keys}]", *arguments]
    print(f"sweep   {len(points)} runs in {folder}", flush=True)
    try:
        status = _hydra(arguments, config_name)
    finally:  # also after Ctrl-C: what is done is done
        failed = _summarise(folder, len(points))
    return 1 if status or failed else 0


def _summarise(folder: Path, num_points: int) -> bool:
    """Print the table of a sweep; whether a run failed or is missing."""
    from mlprun.runs import report

    runs = report.read_runs(folder)
    failed = [(path, record) for path, record in runs if record["status"] != "completed"]
    print()
    for line in report.table(runs):
        print(line)
    for path, record in failed:
        reason = (record.get("error") or record["status"]).splitlines()[0]
        print(f"{record['status']}  {path}\n  {reason}\n  {path / 'train.log'}", file=sys.stderr)
    missing = max(0, num_points - len(runs))  # a search that is no grid makes as many as it likes
    if missing:
        print(f"error: {missing} of {num_points} runs left no record", file=sys.stderr)
    print(f"sweep   {folder}\ncurves  tensorboard --logdir {shlex.quote(str(folder))}")
    return bool(failed or missing)


_outcomes: list[Outcome] = []  # of the jobs that ran in this process
_typed = ""  # the line as it was typed; empty in a launcher's worker process


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
    command = _typed or shlex.join(["mlprun", *settings.overrides.task])
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


def _override(key: str, path: Path) -> str:
    quoted = str(path).replace("\\", "\\\\").replace("'", "\\'")
    return f"{key}='{quoted}'"


def _first_folder(path: Path) -> Path:
    return path if path.is_absolute() else Path(path.parts[0])


def _add_current_folder() -> None:
    """Let a user's own modules be found in the current folder; last, so that no file there hides a library."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
