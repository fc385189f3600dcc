"""Hydra's launcher `slurm`: the jobs of a sweep on a Slurm cluster.

Hydra imports it at every start, so it imports no torch and no submitit, and the work is in mlprun.sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from hydra_plugins.mlprun_pool import PoolLauncher

if TYPE_CHECKING:
    from mlprun.sweep.scheduler import Executor

# The names are those of submitit and of its own launcher for Hydra.
NODE = {
    "_target_": "hydra_plugins.mlprun_slurm.SlurmLauncher",
    "cluster": "slurm",  # or `local`: processes of this machine, to try it out
    "partition": None,
    "account": None,
    "qos": None,
    "constraint": None,
    "timeout_min": 60,  # time limit of a job, in minutes; the run is saved before it, and goes on after a requeue
    "signal_delay_s": 120,  # seconds before the time limit at which the run saves
    "max_num_timeout": 100,  # how often a job may reach its time limit
    "cpus_per_task": None,  # null: the number of threads of the run
    "mem_gb": None,
    "gpus_per_node": None,
    "array_parallelism": 256,  # most jobs in the queue; sweep.num_workers goes first
    "setup": None,  # list of shell commands before the job
    "additional_parameters": {},  # other options of sbatch: {mail-user: me@example.org}
}
ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=NODE, provider="mlprun")


class SlurmLauncher(PoolLauncher):
    def __init__(self, **settings: Any) -> None:
        self.settings = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.config.hydra.mode is RunMode.RUN:
            from mlprun.errors import RunError

            raise RunError("is for sweeps\n  add -m, or start a single run with hydra/launcher=submitit_slurm")
        return super().launch(job_overrides, initial_job_idx)

    def executor(self) -> Executor:
        from mlprun.sweep.slurm import Cluster

        num_places = self.config.sweep.num_workers or self.settings["array_parallelism"]
        return Cluster(Path(self.config.hydra.sweep.dir), self.settings, num_places)


def check_launcher(settings: DictConfig) -> None:
    """Refuse settings that cannot work, before there is a sweep."""
    from mlprun.sweep.slurm import check

    check(OmegaConf.to_container(settings))
