"""The function that Hydra calls for each job, in this process or in a launcher's."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from mlprun.cli.usage import report
from mlprun.config.checks import check
from mlprun.config.compose import Composer  # a launcher's process needs the resolvers
from mlprun.config.environment import unresolved
from mlprun.config.own_modules import find_own_modules
from mlprun.config.schema import Config
from mlprun.errors import UserError
from mlprun.formatting import printable
from mlprun.job.outcome import Outcome
from mlprun.job.run import run_job
from mlprun.process import is_guest

SAFE_PATH = "mlprun"  # the value of PYTHONSAFEPATH for the processes of a launcher
POOL = "hydra_plugins.mlprun_pool.PoolLauncher"  # the default
OURS = "hydra_plugins.mlprun_"  # launchers whose jobs the scheduler starts

__all__ = ["OURS", "POOL", "Composer", "Launched", "Task", "check_launcher", "safe_path", "standard_error"]


@dataclass
class Task:
    """The jobs of a command line.

    Attributes:
        composed, config: of a single run, which was checked before its directory was created.
        outcome: of the last job in this process.
        launched_from: of a single run that a launcher starts, the standard error of this process; the job returns a
            `Launched`.
    """

    command: str
    composed: DictConfig | None = None
    config: Config | None = None
    outcome: Outcome | None = None
    launched_from: tuple[int, int] | None = None

    def __call__(self, cfg: DictConfig) -> float | Launched:
        """Run the job; returns the value of its monitor, or NaN."""
        restore_safe_path()
        find_own_modules()
        settings = HydraConfig.get()
        path = Path(settings.runtime.output_dir)
        path = path.relative_to(Path.cwd()) if Path.cwd() in path.parents else path
        overrides = unresolved(settings.overrides.task)
        if settings.mode is RunMode.MULTIRUN:
            print(f"\nrun {settings.job.num}  {printable(' '.join(overrides), keep='')}", flush=True)
        try:
            config = self.config if self.config is not None and cfg == self.composed else check(cfg)
            self.outcome = run_job(config, path, self.command, overrides)
        except UserError as error:
            if not is_guest() and self.launched_from in (None, standard_error()):  # else who called or launched tells
                report(error)
            self.outcome = Outcome("failed", path, exit_status=error.exit_status, error=error)
        if self.launched_from is None:
            return self.outcome.objective
        return Launched(self.outcome, is_shown=self.launched_from == standard_error())


@dataclass(frozen=True)
class Launched:
    """How a single run ended that a launcher started; `is_shown`: what it printed was seen."""

    outcome: Outcome
    is_shown: bool


def standard_error() -> tuple[int, int]:
    """Which file the standard error of this process is: (-1, -1) if it is closed."""
    try:
        status = os.fstat(2)
    except OSError:
        return -1, -1
    return status.st_dev, status.st_ino


def check_launcher(settings: DictConfig) -> None:
    """Refuse settings of mlprun's own launchers that cannot work; UserError."""
    if settings._target_.startswith(OURS):
        module = importlib.import_module(settings._target_.rpartition(".")[0])
        if hasattr(module, "check_launcher"):
            module.check_launcher(settings)


@contextmanager
def safe_path() -> Iterator[None]:
    """A block in which launchers start interpreters with `-m`, which would import libraries from the current folder."""
    os.environ.setdefault("PYTHONSAFEPATH", SAFE_PATH)
    try:
        yield
    finally:
        restore_safe_path()


def restore_safe_path() -> None:
    """Undo what the launcher was given: the user's own programs find their modules as ever."""
    if os.environ.get("PYTHONSAFEPATH") == SAFE_PATH:
        del os.environ["PYTHONSAFEPATH"]
