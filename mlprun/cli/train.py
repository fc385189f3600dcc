"""`mlprun [key=value …]`: one run, a sweep, or what Hydra's own options show."""

from __future__ import annotations

import copy
import shlex
import shutil
from pathlib import Path

from hydra.core.utils import configure_log
from hydra.core.utils import run_job as run_hydra_job
from hydra.types import RunMode
from omegaconf import DictConfig, open_dict

from mlprun import __version__
from mlprun.cli.line import Line, first_folder, parse_line
from mlprun.cli.task import Task
from mlprun.config.checks import check
from mlprun.errors import ConfigError
from mlprun.job.run import run_job
from mlprun.runs.directory import claim, keep_out_of_git, make


def train(arguments: list[str]) -> int:
    """Train, sweep or show as the line says; the exit status."""
    if "--version" in arguments:
        print(f"mlprun {__version__}")
        return 0
    line = parse_line(arguments)
    options = line.options
    if options.help or options.hydra_help or options.shell_completion or options.info:
        line.composer.loader.show(options)
        return 0
    _check_options(line)
    if options.cfg:
        line.composer.compose(line.words)
        line.composer.loader.show(options)
        return 0
    line.refuse("inspect", "is for looking before a training", "write mlprun inspect …, or leave it out")
    if options.multirun or line.composer.is_multirun(line.words):
        from mlprun.cli.sweep import sweep

        return sweep(line)
    return _run(line)


def _check_options(line: Line) -> None:
    """Refuse those of Hydra's options that mlprun has no use for."""
    options = line.options
    for name, value, problem, remedy in (
        ("--experimental-rerun", options.experimental_rerun, "is not supported", "type the run's command again"),
        ("--config-path", options.config_path, "is not supported", "name your folder with --config-dir FOLDER"),
    ):
        if value:
            shown = value if name == "--config-path" else ConfigError.MISSING
            raise ConfigError(name, shown, problem, remedy)
    if options.resolve and not options.cfg:
        raise ConfigError("--resolve", ConfigError.MISSING, "shows a config with its values filled in", "add --cfg job")
    if options.cfg and options.multirun:
        raise ConfigError("--cfg", ConfigError.MISSING, "shows one config", "leave out -m, or use sweep.dry_run=true")


def _run(line: Line) -> int:
    """One run, in a directory of its own."""
    line.refuse("sweep", "is for sweeps", "add -m, or leave it out")
    cfg = line.composer.compose(line.words)
    config = check(cfg)
    is_new = True
    if not line.sets("hydra.run.dir"):
        directory = claim(cfg.hydra.run.dir)
        keep_out_of_git(first_folder(directory))
    else:
        directory = Path(cfg.hydra.run.dir)
        if (directory / "sweep.json").exists():
            raise ConfigError("hydra.run.dir", directory, "is the folder of a sweep", "choose another")
        if (directory / "run.json").exists():  # without Hydra, which would write its own record over the old one
            return run_job(config, directory, line.command, line.words).exit_status
        is_new = not directory.exists()
        make(directory)
    cfg.hydra.run.dir = str(directory)  # a value with ${now:} would come out another a second later
    task = Task(line.command, _without_hydra(cfg), config)
    try:
        _run_hydra(line, cfg, task)
    finally:
        # The message says it all, and a directory would only look like a run.
        kept = task.outcome.began if task.outcome else (directory / "run.json").exists()
        if not kept and is_new:
            shutil.rmtree(directory)
        elif not kept:  # a folder of the user's: only what would refuse the next try
            for name in ("run.json", ".lock"):
                (directory / name).unlink(missing_ok=True)
    if task.outcome is None:
        return 1
    if task.outcome.status == "completed":
        print(f"run     {directory}")
        if "tensorboard" in config.writers:
            print(f"curves  tensorboard --logdir {shlex.quote(str(first_folder(directory)))}")
    return task.outcome.exit_status


def _run_hydra(line: Line, cfg: DictConfig, task: Task) -> None:
    """What `hydra.main` does for a run, with a config that is composed already."""
    cfg.hydra.mode = RunMode.RUN
    configure_log(cfg.hydra.hydra_logging, cfg.hydra.verbose)
    context = line.composer.loader.context(cfg)
    context.callbacks.on_run_start(config=cfg, config_name=line.options.config_name)
    done = run_hydra_job(
        hydra_context=context, task_function=task, config=cfg, job_dir_key="hydra.run.dir", job_subdir_key=None
    )
    context.callbacks.on_run_end(config=cfg, config_name=line.options.config_name, job_return=done)
    _ = done.return_value  # raises what ended the job, if something did


def _without_hydra(cfg: DictConfig) -> DictConfig:
    """The part of a composed config that Hydra hands to the job."""
    part: DictConfig = copy.deepcopy(cfg)
    with open_dict(part):
        del part["hydra"]
    return part
