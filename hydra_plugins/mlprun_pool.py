"""Hydra's launcher `pool`: the jobs of a sweep side by side, a fresh process each. Imports no torch.

Hydra finds launchers in this namespace package only, and imports them at every start: the work is in mlprun.sweep.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

if TYPE_CHECKING:
    from mlprun.sweep.scheduler import Scheduler

# What there is to set stands in `sweep`. (No dataclass: Hydra runs plugins as modules without a name.)
NODE = {"_target_": "hydra_plugins.mlprun_pool.PoolLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="pool", node=NODE, provider="mlprun")


class PoolLauncher(Launcher):
    """Runs the jobs that Hydra's sweeper asks for; those that are done already return their results."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`, and before its sweeper composes every point to see that it can."""
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self._scheduler: Scheduler | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the objective, NaN for a run without one."""
        from mlprun.sweep.forkserver import Job
        from mlprun.sweep.scheduler import Scheduler

        setup_globals()
        folder = Path(str(self.config.hydra.sweep.dir))

        def jobs() -> Iterator[Job]:
            for index, overrides in enumerate(job_overrides, start=initial_job_idx):
                config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
                with open_dict(config):
                    config.hydra.job.id, config.hydra.job.num = str(index), index
                path = folder / config.hydra.sweep.subdir
                yield Job(_run, (self.task_function, config), path)

        if self._scheduler is None:  # one for all batches of the sweep
            num_jobs = getattr(self.hydra_context.config_loader, "num_jobs", None)
            self._scheduler = Scheduler(folder, num_jobs)
        objectives = self._scheduler.launch(jobs())
        return [_returned(list(o), value) for o, value in zip(job_overrides, objectives, strict=True)]


def _returned(overrides: list[str], objective: float) -> JobReturn:
    done = JobReturn()
    done.overrides, done.status, done.return_value = overrides, JobStatus.COMPLETED, objective
    return done


def _run(task: TaskFunction, config: DictConfig) -> None:
    """In the job's own process, where nothing of Hydra is set up yet."""
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
