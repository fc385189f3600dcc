"""`mlprun [key=value …]`: a run, a sweep, or the output of one of Hydra's options."""

from __future__ import annotations

import copy
import re
import shlex
from pathlib import Path

from hydra.core.utils import configure_log
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from mlprun import __version__
from mlprun.cli.line import Line, first_folder, typed_line
from mlprun.cli.task import Task
from mlprun.config.checks import check
from mlprun.config.suggest import raise_explained
from mlprun.errors import ConfigError
from mlprun.files import check_for_hydra
from mlprun.formatting import printable
from mlprun.job.outcome import Outcome
from mlprun.job.run import run_job
from mlprun.runs.directory import claim, make, remove


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
    is_new, absent = True, [folder for folder in Path(named).parents if not folder.exists()]
    if not line.sets("hydra.run.dir"):
        directory = claim(named)
    else:
        directory = Path(named)
        if (directory / "sweep.json").exists():
            raise ConfigError("hydra.run.dir", directory, "is the folder of a sweep", "choose another")
        if (directory / "run.json").exists():  # without Hydra, which would overwrite its record
            return run_job(config, directory, line.command, line.words)
        is_new = not directory.exists()
        make(directory)
        check_for_hydra(directory)
    cfg.hydra.run.dir = str(directory)  # resolve ${now:} once
    composed: DictConfig = copy.deepcopy(cfg)  # the part that Hydra passes to the job
    with open_dict(composed):
        del composed["hydra"]
    task = Task(line.command, composed, config)
    try:
        _run_hydra(line, cfg, task)
    finally:
        # Remove a directory that would only look like a run.
        keep = task.outcome.began if task.outcome else (directory / "run.json").exists()
        if not keep and is_new:
            remove(directory, absent)
        elif not keep:  # a folder of the user's: remove only the files that would block the next attempt
            for name in ("run.json", ".lock"):
                (directory / name).unlink(missing_ok=True)
    outcome = task.outcome or Outcome("failed", directory, exit_status=1)
    if outcome.status == "completed":
        print(f"run     {printable(str(directory), keep='')}")
        if "tensorboard" in config.writers:
            print(f"curves  tensorboard --logdir {shlex.quote(str(first_folder(directory)))}")
    return outcome


def _run_hydra(line: Line, cfg: DictConfig, task: Task) -> None:
    """What `hydra.main` does for a run, with a composed config."""
    cfg.hydra.mode = RunMode.RUN
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = line.composer.loader.context(cfg)
    context.callbacks.on_run_start(config=cfg, config_name=line.options.config_name)
    done = run_hydra_job(
        hydra_context=context, task_function=task, config=cfg, job_dir_key="hydra.run.dir", job_subdir_key=None
    )
    context.callbacks.on_run_end(config=cfg, config_name=line.options.config_name, job_return=done)
    _ = done.return_value  # raises the job's exception
