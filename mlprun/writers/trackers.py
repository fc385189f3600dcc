"""Experiment trackers: trackio, MLflow and Weights & Biases. Each is an extra, imported when its run starts.

A resumed run continues its record: what the tracker has not got of metrics.jsonl is written first, because a kill may
have lost it, or the run began without the tracker. None of them deletes a point, so one that it has already is not
written again: an exact resume repeats the steps after its checkpoint with the same values.
"""

from __future__ import annotations

import contextlib
import importlib.util
import time
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from mlprun.errors import ConfigError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.metrics import read_rows
from mlprun.writers.base import Bins, Pixels, RunInfo, Values, Writer


class Tracker(Writer):
    """A writer that needs an installed library, its `package`, which the extra of the same name brings.

    A subclass opens its record in `open`, and writes values in `add`.
    """

    package: ClassVar[str]

    def __init__(self) -> None:
        if importlib.util.find_spec(self.package) is None:
            target = f"{__name__}.{type(self).__name__}"
            raise ConfigError("_target_", target, f"needs {self.package}", f"pip install 'mlprun[{self.package}]'")

    def start(self, run: RunInfo) -> None:
        with contextlib.redirect_stdout(None):  # greetings; warnings go to stderr
            self._known = {(tag, step): value for tag, step, value in self.open(run)}
            file = RunDirectory(run.directory).metrics_file
            for row in read_rows(file) if run.keep_until is not None and file.exists() else []:
                step, epoch, values = row.pop("step"), row.pop("epoch", None), row
                if step <= run.keep_until:
                    self.write(step, epoch, {tag: value for tag, value in values.items() if value is not None})

    def open(self, run: RunInfo) -> Iterable[tuple[str, int, float]]:
        """Begin the record, or continue it: the points that it has, by tag, step and value."""
        raise NotImplementedError

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        new = {tag: value for tag, value in values.items() if self._known.get((tag, step)) != value}
        if new:
            self.add(step, new)

    def add(self, step: int, values: Values) -> None:
        """Record `values`, which are not there yet."""
        raise NotImplementedError


class Trackio(Tracker):
    """A run in trackio's local database (`TRACKIO_DIR`), which `trackio show` displays.

    Args:
        project: its name there.
    """

    package = "trackio"

    def __init__(self, project: str = "mlprun") -> None:
        super().__init__()
        self.project = project

    def open(self, run: RunInfo) -> Iterable[tuple[str, int, float]]:
        import trackio
        from trackio.sqlite_storage import SQLiteStorage

        name = f"{run.directory.name}_{run.id[:6]}"
        self._run = trackio.init(
            self.project,
            name,
            run.group or None,
            config={**run.hparams, "command": run.command},
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )
        rows = SQLiteStorage.get_logs(self.project, name)
        return [(tag, row["step"], value) for row in rows for tag, value in row.items()]

    def add(self, step: int, values: Values) -> None:
        self._run.log(values, step=step)

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        import trackio

        self._run.log({tag: trackio.Image(pixels) for tag, pixels in images.items()}, step=step)

    def finish(self, status: str) -> None:
        import trackio

        with contextlib.redirect_stdout(None):
            trackio.finish()  # type: ignore[no-untyped-call]  # trackio annotates no return


class MLflow(Tracker):
    """A run on an MLflow server, or in a local database.

    Args:
        tracking_uri: such as `sqlite:///mlflow.db` or `http://host:5000`; None: the variable MLFLOW_TRACKING_URI, or
            MLflow's default.
        experiment: its name there.
    """

    package = "mlflow"
    _ENDS: ClassVar = {"completed": "FINISHED", "failed": "FAILED", "interrupted": "KILLED", "pruned": "KILLED"}

    def __init__(self, tracking_uri: str | None = None, experiment: str = "mlprun") -> None:
        super().__init__()
        self.tracking_uri, self.experiment = tracking_uri, experiment

    def open(self, run: RunInfo) -> Iterable[tuple[str, int, float]]:
        from mlflow.entities import Param, RunTag
        from mlflow.tracking import MlflowClient

        self._client = client = MlflowClient(self.tracking_uri)
        experiment = self._experiment_id()
        found = client.search_runs([experiment], f"tags.`mlprun.id` = '{run.id}'", max_results=1)
        if found:
            self._id = found[0].info.run_id
            client.update_run(self._id, status="RUNNING")
            points = [p for name in found[0].data.metrics for p in client.get_metric_history(self._id, name)]
            return [(point.key, point.step, point.value) for point in points]
        tags = {"mlprun.id": run.id, "mlprun.command": run.command, "mlprun.sweep": run.group}
        self._id = client.create_run(experiment, run_name=run.directory.name).info.run_id
        params = [Param(name, str(value)) for name, value in run.hparams.items()]
        client.log_batch(self._id, params=params, tags=[RunTag(*item) for item in tags.items() if item[1]])
        return []

    def _experiment_id(self) -> str:
        """Of the experiment, which another run of a sweep may create at the same moment."""
        from mlflow.exceptions import MlflowException

        if (found := self._client.get_experiment_by_name(self.experiment)) is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self.experiment))
        except MlflowException:
            if (found := self._client.get_experiment_by_name(self.experiment)) is None:
                raise
            return str(found.experiment_id)

    def add(self, step: int, values: Values) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        self._client.log_batch(self._id, metrics=[Metric(tag, value, now, step) for tag, value in values.items()])

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        for tag, pixels in images.items():
            self._client.log_image(self._id, pixels, key=tag, step=step)

    def finish(self, status: str) -> None:
        self._client.set_terminated(self._id, self._ENDS[status])


class WandB(Tracker):
    """A run of Weights & Biases; with WANDB_MODE=offline it is written to `wandb/`, for `wandb sync`.

    Args:
        project: its name there.
        entity: the user or team; None: your default.
    """

    package = "wandb"

    def __init__(self, project: str = "mlprun", entity: str | None = None) -> None:
        super().__init__()
        self.project, self.entity = project, entity

    def open(self, run: RunInfo) -> Iterable[tuple[str, int, float]]:
        import wandb

        self._run = wandb.init(
            project=self.project,
            entity=self.entity,
            id=run.id,
            name=run.directory.name,
            group=run.group or None,
            config={**run.config, "command": run.command},
            resume="allow",
            settings=wandb.Settings(console="off", silent=True),
        )
        return []  # offline it cannot know; the server takes no step twice

    def add(self, step: int, values: Values) -> None:
        self._run.log(values, step=step)

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        import wandb

        self._run.log({tag: wandb.Image(pixels) for tag, pixels in images.items()}, step=step)

    def histograms(self, step: int, histograms: dict[str, Bins]) -> None:
        import wandb

        def histogram(bins: Bins) -> Any:
            return wandb.Histogram(np_histogram=(bins[:, 2], np.append(bins[:, 0], bins[-1, 1])))

        self._run.log({tag: histogram(bins) for tag, bins in histograms.items()}, step=step)

    def finish(self, status: str) -> None:
        self._run.finish(exit_code=0 if status == "completed" else 1)
