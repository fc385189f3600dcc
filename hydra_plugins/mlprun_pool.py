"""Hydra's launcher `pool`: the jobs of a sweep in parallel, each in a new process.

Hydra imports it at every start, so it imports no torch, and the work is in mlprun.sweep.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from mlprun.runs.record import RunRecord
    from mlprun.sweep.scheduler import Executor, Scheduler, Strategy

# Its settings are in `sweep`. (No dataclass: Hydra runs plugins as modules without a name.)
NODE = {"_target_": "hydra_plugins.mlprun_pool.PoolLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="pool", node=NODE, provider="mlprun")


class PoolLauncher(Launcher):
    """Base class of mlprun's launchers, which differ in their executor."""

    def executor(self) -> Executor:
        from mlprun.sweep.scheduler import this_machine

        return this_machine

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self._scheduler: Scheduler | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each returns its objective, or NaN. Completed jobs return theirs at once."""
        from mlprun.sweep.scheduler import Grid

        grid = Grid(job_overrides)
        self.run(grid, itertools.count(initial_job_idx))
        results = []
        for overrides, objective in zip(job_overrides, grid.objectives, strict=True):
            results.append(JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED))
            results[-1].return_value = objective
        return results

    def run(
        self,
        strategy: Strategy,
        numbers: Iterator[int] | None = None,
        ended_before: Iterable[tuple[str, RunRecord]] = (),
    ) -> None:
        """Run the jobs of a strategy.

        Args:
            numbers: of the jobs, as Hydra counts them.
            ended_before: as for `Scheduler.run`.
        """
        from mlprun.config.hydra_private import POINT_NAME, find_node
        from mlprun.config.point_directories import PointDirectories
        from mlprun.config.resolvers import point_name
        from mlprun.config.suggest import raise_explained
        from mlprun.sweep.forkserver import Job
        from mlprun.sweep.scheduler import Scheduler

        setup_globals()
        folder = Path(str(self.config.hydra.sweep.dir))
        directories = PointDirectories(folder)
        numbers = itertools.count() if numbers is None else numbers

        def build_job(overrides: list[str]) -> Job:
            try:
                config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
            except HydraException as error:  # of a trial: the points of a grid are checked before
                raise_explained(error)
            with open_dict(config):
                config.hydra.job.num = next(numbers)
                config.hydra.job.id = str(config.hydra.job.num)
            if find_node(config, "hydra.sweep.subdir")._value() == POINT_NAME:  # it was not planned
                config.hydra.sweep.subdir = point_name(config, directories)
            directories.add(path := folder / config.hydra.sweep.subdir)
            return Job(_run, (self.task_function, config), path)

        if self._scheduler is None:  # one for all batches of the sweep
            num_jobs = getattr(self.hydra_context.config_loader, "num_jobs", None)
            self._scheduler = Scheduler(folder, num_jobs)
        self._scheduler.run(strategy, build_job, self.executor(), ended_before)


def _run(task: TaskFunction, config: DictConfig) -> None:
    """Run a job in its own process, where Hydra is not set up yet."""
    from mlprun.config.hydra_private import job_context, set_up

    set_up()
    run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=job_context(config),
        configure_logging=False,
    )
