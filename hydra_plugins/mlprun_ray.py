"""Hydra's launcher `ray`: the jobs of a sweep on the nodes of a Ray cluster.

Hydra imports it at every start, so it imports no Ray, and the work is in mlprun.sweep.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.config_store import ConfigStore
from hydra.core.utils import JobReturn
from hydra.types import RunMode
from omegaconf import DictConfig

from hydra_plugins.mlprun_pool import PoolLauncher

if TYPE_CHECKING:
    from mlprun.sweep.scheduler import Executor

# address: host:port of the cluster; null: RAY_ADDRESS, or a cluster of this machine's own for the time of the sweep.
NODE = {"_target_": "hydra_plugins.mlprun_ray.RayLauncher", "address": None}
ConfigStore.instance().store(group="hydra/launcher", name="ray", node=NODE, provider="mlprun")


class RayLauncher(PoolLauncher):
    def __init__(self, address: str | None = None) -> None:
        self.address = address

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        if self.config.hydra.mode is RunMode.RUN:
            from mlprun.errors import RunError

            raise RunError("is for sweeps\n  add -m, or leave it out")
        return super().launch(job_overrides, initial_job_idx)

    def executor(self) -> Executor:
        from mlprun.sweep.ray_cluster import RayCluster

        return RayCluster(self.address, self.config.sweep.num_workers)


def check_launcher(settings: DictConfig) -> None:
    """Refuse a cluster that does not answer, before there is a sweep."""
    from mlprun.sweep.ray_cluster import check_cluster

    check_cluster(settings.address)
