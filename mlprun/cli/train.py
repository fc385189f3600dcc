"""`mlprun [key=value …]`: a run, a sweep, or the output of one of Hydra's options."""

from __future__ import annotations

import copy
import re
import shlex
import sys
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, configure_log
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from mlprun import __version__
from mlprun.cli.line import Line, first_folder, typed_line
from mlprun.cli.task import POOL, Launched, Task, safe_path, standard_error
from mlprun.cli.usage import report
from mlprun.config.checks import check
from mlprun.config.suggest import raise_explained
from mlprun.errors import ConfigError, RunError
from mlprun.files import check_for_hydra
from mlprun.formatting import printable
from mlprun.job.outcome import Outcome, resume_line
from mlprun.job.run import run_job
from mlprun.process import is_guest
from mlprun.runs.directory import RunDirectory, claim, make, remove
from mlprun.terminal import print_line


def train(arguments: list[str]) -> int:
    """Execute the command line; the exit status."""
    if "--version" in arguments:
        print(f"mlprun {__version__}")
        return 0
    line = typed_line(arguments)
    options = line.options
    if options.shell_completion and not re.fullmatch(r"(un)?install=(bash|zsh|fish)", " ".join(line.words)):
        problem = "is for Hydra's scripts, and to install them"
        raise ConfigError("--shell-completion", ConfigError.MISSING, problem, "write -sc install=bash; or zsh, fish")
    if options.help or options.hydra_help or options.shell_completion or options.info:
        line.composer.loader.show(options)
        return 0
    _check_options(line)
    if options.cfg:
        line.composer.compose(line.words)
        line.composer.loader.show(options)
        return 0
    line.refuse_inspect()
    if options.multirun or line.composer.is_multirun(line.words):
        from mlprun.cli.sweep import sweep

        return sweep(line).exit_status
    return run_line(line).exit_status


def _check_options(line: Line) -> None:
    """Refuse the options and combinations of Hydra's that mlprun does not support."""
    options, missing = line.options, ConfigError.MISSING
    if options.experimental_rerun:
        raise ConfigError("--experimental-rerun", missing, "is not supported", "type the run's command again")
    if options.config_path:
        remedy = "name your folder with --config-dir FOLDER"
        raise ConfigError("--config-path", options.config_path, "is not supported", remedy)
    if options.resolve and not options.cfg:
        raise ConfigError("--resolve", missing, "applies to --cfg only", "add --cfg job")
    if options.cfg and options.multirun:
        raise ConfigError("--cfg", missing, "shows one config", "leave out -m, or use sweep.dry_run=true")


def run_line(line: Line) -> Outcome:
    """Train as the line says, in the directory of the run.

    Raises:
        UserError: before there was a run; what fails later is in the outcome.
    """
    line.refuse("sweep", "is for sweeps", "add -m, or leave it out")
    cfg = line.composer.compose(line.words)
    config = check(cfg)
    try:
        named = cfg.hydra.run.dir
    except OmegaConfBaseException as error:
        raise_explained(error)
    is_launched = cfg.hydra.launcher._target_ != POOL  # which is the default, and for sweeps
    is_new, absent = True, [folder for folder in Path(named).parents if not folder.exists()]
    if not line.sets("hydra.run.dir"):
        directory = claim(named)
    else:
        directory = Path(named)
        if (directory / "sweep.json").exists():
            raise ConfigError("hydra.run.dir", directory, "is the folder of a sweep", "choose another")
        if (directory / "run.json").exists():  # Hydra would overwrite its record
            if not is_launched:
                return run_job(config, directory, line.command, line.words)
            cfg.hydra.output_subdir = None
            cfg.hydra.run.dir = str(directory)
            return _run_hydra(line, cfg, Task(line.command, launched_from=standard_error()))
        is_new = not directory.exists()
        make(directory)
        check_for_hydra(directory)
    cfg.hydra.run.dir = str(directory)  # resolve ${now:} once
    composed: DictConfig = copy.deepcopy(cfg)  # the part that Hydra passes to the job
    with open_dict(composed):
        del composed["hydra"]
    task = Task(line.command, composed, config, launched_from=standard_error() if is_launched else None)
    outcome = None
    try:
        outcome = _run_hydra(line, cfg, task)
    finally:
        # Remove a directory that would only look like a run.
        ended = outcome or task.outcome
        keep = ended.began if ended else (directory / "run.json").exists()
        if not keep and is_new:
            remove(directory, absent)
        elif not keep:  # a folder of the user's: remove only the files that would block the next attempt
            for name in ("run.json", ".lock"):
                (directory / name).unlink(missing_ok=True)
    if outcome.status == "completed":
        print(f"run     {printable(str(directory), keep='')}")
        if "tensorboard" in config.writers:
            print(f"curves  tensorboard --logdir {shlex.quote(str(first_folder(directory)))}")
    return outcome


def _run_hydra(line: Line, cfg: DictConfig, task: Task) -> Outcome:
    """What `hydra.main` does for a run, with a composed config; a launcher that the user selects starts the job."""
    cfg.hydra.mode = RunMode.RUN
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = line.composer.loader.context(cfg)
    context.callbacks.on_run_start(config=cfg, config_name=line.options.config_name)
    if task.launched_from is not None:
        done = _launch(line, cfg, task, context)
    else:
        done = run_hydra_job(
            hydra_context=context, task_function=task, config=cfg, job_dir_key="hydra.run.dir", job_subdir_key=None
        )
    context.callbacks.on_run_end(config=cfg, config_name=line.options.config_name, job_return=done)
    value = done.return_value  # raises the job's exception
    if not isinstance(value, Launched):
        return task.outcome or Outcome("failed", Path(cfg.hydra.run.dir), exit_status=1)
    outcome = value.outcome
    if value.is_shown or is_guest():
        return outcome
    if outcome.error is not None:
        report(outcome.error)
        for note in getattr(outcome.error, "__notes__", ()):
            print_line(note, sys.stderr)
    elif outcome.status == "interrupted":
        print_line(f"interrupted\nresume  {resume_line(outcome.directory)}", sys.stderr)
    return outcome


def _launch(line: Line, cfg: DictConfig, task: Task, context: HydraContext) -> JobReturn:
    """Let the launcher run the job, as the only one of a sweep in the run's directory."""
    cfg.hydra.sweep.dir, cfg.hydra.sweep.subdir = cfg.hydra.run.dir, "."
    name = cfg.hydra.runtime.choices["hydra/launcher"]
    print_line(f"launch  {name}: {cfg.hydra.run.dir}")
    launcher = Plugins.instance().instantiate_launcher(hydra_context=context, task_function=task, config=cfg)
    try:
        with safe_path():
            (done,) = launcher.launch([line.words_of_task], 0)
    except KeyboardInterrupt:  # whether the job stops, too, is up to the launcher
        run = RunDirectory(Path(cfg.hydra.run.dir))
        if run.record_file.exists() and run.read().status == "running" and not is_guest():
            print_line(f"resume  {resume_line(run.path)}", sys.stderr)
        raise
    except Exception as error:
        raise RunError(f"hydra/launcher={name}: {str(error) or type(error).__name__}") from error
    return done
