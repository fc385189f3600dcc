"""Hydra's launcher `pool`: the jobs of a sweep side by side, a fresh process each. Imports no torch.

Hydra finds launchers in this namespace package only, and imports them at every start: the work is in mlprun.sweep.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.utils import JobReturn, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

if TYPE_CHECKING:
    from mlprun.sweep.scheduler import Scheduler

# What there is to set stands in `sweep`. (No dataclass: Hydra runs plugins as modules without a name.)
NODE = {"_target_": "hydra_plugins.mlprun_pool.PoolLauncher"}
ConfigStore.instance().store(group="hydra/launcher", name="pool", node=NODE, provider="mlprun")


class PoolLauncher(Launcher):
    """Runs the jobs that Hydra's sweeper asks for; those that are done already return their results."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra before `launch`, and before its sweeper composes every point to see that it can."""
        loader = hydra_context.config_loader
        if isinstance(loader, ConfigLoaderImpl):
            loader.load_sweep_config = Points(loader).load  # type: ignore[method-assign]
        self.config, self.hydra_context, self.task_function = config, hydra_context, task_function
        self._scheduler: Scheduler | None = None

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; each result is the objective, NaN for a run without one."""
        from mlprun.sweep import scheduler

        setup_globals()
        folder = Path(str(self.config.hydra.sweep.dir))

        def jobs() -> Iterator[scheduler.Job]:
            for index, overrides in enumerate(job_overrides, start=initial_job_idx):
                config = self.hydra_context.config_loader.load_sweep_config(self.config, list(overrides))
                with open_dict(config):
                    config.hydra.job.id, config.hydra.job.num = str(index), index
                path = folder / config.hydra.sweep.subdir
                yield scheduler.Job(path, list(overrides), _run, (self.task_function, config))

        if self._scheduler is None:  # one for all batches of the sweep
            self._scheduler = scheduler.Scheduler(folder, self._num_jobs())
        objectives = self._scheduler.launch(jobs())
        return [_returned(list(o), value) for o, value in zip(job_overrides, objectives, strict=True)]

    def _num_jobs(self) -> int | None:
        """How many the sweep has in all, None where its sweeper decides that on the way."""
        hydra = self.config.hydra
        if hydra.sweeper._target_ != "hydra._internal.core_plugins.basic_sweeper.BasicSweeper":
            return None
        lines = [*(f"{key}={value}" for key, value in (hydra.sweeper.params or {}).items()), *hydra.overrides.task]
        overrides = OverridesParser.create(self.hydra_context.config_loader).parse_overrides(lines)
        return len(BasicSweeper.split_arguments(overrides, None)[0])


class Points:
    """Composes the points of one sweep as Hydra does, in a fifth of the time.

    What the choices of groups give is composed once for all points that share them. Hydra would read all YAML again for
    each point, twice: a tenth of a second each time, before the first run and beside the others.
    """

    def __init__(self, loader: ConfigLoaderImpl) -> None:
        self._loader, self._load_whole = loader, loader.load_sweep_config
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._bases: dict[tuple[str, ...], DictConfig] = {}

    def load(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """In the place of `ConfigLoader.load_sweep_config`; the same config."""
        for line in sweep_overrides:
            if line not in self._parsed:
                self._parsed[line] = self._parser.parse_override(line)
        overrides = [self._parsed[line] for line in sweep_overrides]
        if any(override.is_hydra_override() for override in overrides):
            return self._load_whole(master_config, sweep_overrides)
        is_choice = [bool(self._loader.get_group_options(override.key_or_group)) for override in overrides]
        choices = tuple(line for line, chosen in zip(sweep_overrides, is_choice, strict=True) if chosen)
        if choices not in self._bases:
            self._bases[choices] = self._load_whole(master_config, list(choices))
        config = copy.deepcopy(self._bases[choices])
        values = [override for override, chosen in zip(overrides, is_choice, strict=True) if not chosen]
        self._loader._apply_overrides_to_config(values, config)
        config.hydra.overrides.task = [override.input_line for override in overrides]
        names = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=overrides, kv_sep=names.kv_sep, item_sep=names.item_sep, exclude_keys=names.exclude_keys
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config


def _returned(overrides: list[str], objective: float) -> JobReturn:
    done = JobReturn()
    done.overrides, done.status, done.return_value = overrides, JobStatus.COMPLETED, objective
    return done


def _run(task: TaskFunction, config: DictConfig) -> None:
    """In the job's own process, where nothing of Hydra is set up yet."""
    setup_globals()
    version.setbase("1.3")  # as cli does it; else Hydra would change to the run's directory
    run_job(
        task_function=task,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
        hydra_context=HydraContext(config_loader=None, callbacks=Callbacks(config)),  # type: ignore[arg-type]
        configure_logging=False,
    )
