"""trackio, MLflow and Weights & Biases: the real libraries, offline, read with their own readers."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from mlprun.errors import ConfigError
from mlprun.runs.metrics import format_row
from mlprun.writers.base import RunInfo
from mlprun.writers.trackers import MLflow, Tracker, Trackio, WandB
from tests.helpers.lines import wait_until

ROWS = [(2, {"train/loss": 2.0}), (4, {"train/loss": 1.0, "val/loss": 1.5}), (6, {"train/loss": 0.5})]
TEST = {"test/loss": 1.25}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A new run in a sweep, and a home of the test's own for the libraries."""
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)  # where MLflow keeps pictures
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (tmp_path / "lr=0.1").mkdir()
    config = {"optim": {"lr": 0.1}}
    return RunInfo(tmp_path / "lr=0.1", config, {"optim.lr": 0.1}, 6, command="mlprun", id="0" * 15 + "a", group="s")


def project(run: RunInfo) -> str:
    """In trackio's database, whose folder is read once a process."""
    return run.directory.parent.name.replace("_", "-")


def trackio_points(run: RunInfo) -> list[tuple[int, str, float]]:
    from trackio.sqlite_storage import SQLiteStorage

    rows = SQLiteStorage.get_logs(project(run), "lr=0.1_000000")
    return [(r["step"], tag, r[tag]) for r in rows for tag in r if "/" in tag and not isinstance(r[tag], dict)]


def mlflow_client(run: RunInfo):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(uri(run))
    (found,) = client.search_runs([client.get_experiment_by_name("mlprun").experiment_id])
    return client, found


def mlflow_points(run: RunInfo) -> list[tuple[int, str, float]]:
    client, found = mlflow_client(run)
    return [(p.step, k, p.value) for k in found.data.metrics for p in client.get_metric_history(found.info.run_id, k)]


def uri(run: RunInfo) -> str:
    return f"sqlite:///{run.directory.parent / 'mlflow.db'}"


@pytest.mark.parametrize(
    ("make", "points"),
    [(lambda run: Trackio(project(run)), trackio_points), (lambda run: MLflow(uri(run)), mlflow_points)],
    ids=["trackio", "mlflow"],
)
def test_a_resumed_run_continues_its_record_without_gap_or_double(run, make, points):
    killed = make(run)
    killed.start(run)
    killed.write(2, 1.0, ROWS[0][1])
    killed.write(6, 3.0, ROWS[2][1])
    killed.finish("interrupted")
    # The tracker lost step 4, and has step 6, which comes after the checkpoint and is repeated.
    (run.directory / "metrics.jsonl").write_text("".join(format_row(step, 1.0, values) for step, values in ROWS))
    resumed = make(run)
    resumed.start(replace(run, step=4, keep_until=4))
    resumed.write(6, 3.0, ROWS[2][1])
    resumed.images(6, {"pictures/filters": np.zeros((4, 5, 3), np.uint8)})
    resumed.write(6, None, TEST)
    resumed.finish("completed")
    expected = [(step, tag, value) for step, values in [*ROWS, (6, TEST)] for tag, value in values.items()]
    assert sorted(points(run)) == sorted(expected)


def test_mlflow_has_parameters_sweep_status_and_pictures(run):
    writer = MLflow(uri(run))
    writer.start(run)
    writer.images(2, {"pictures/filters": np.zeros((4, 5, 3), np.uint8)})
    writer.finish("failed")
    client, found = mlflow_client(run)
    assert found.data.params == {"optim.lr": "0.1"}
    assert {k: v for k, v in found.data.tags.items() if k.startswith("mlprun.")} == {
        "mlprun.id": run.id, "mlprun.command": "mlprun", "mlprun.sweep": "s"
    }  # fmt: skip
    assert (found.info.run_name, found.info.status) == ("lr=0.1", "FAILED")
    assert client.list_artifacts(found.info.run_id)


def test_trackio_has_parameters_and_the_sweep(run):
    from trackio.sqlite_storage import SQLiteStorage

    writer = Trackio(project(run))
    writer.start(run)
    writer.write(2, 1.0, {"train/loss": 1.0})
    writer.finish("completed")
    config = SQLiteStorage.get_run_config(project(run), "lr=0.1_000000")
    assert (config["optim.lr"], config["command"], config["_Group"]) == (0.1, "mlprun", "s")


def test_wandb_is_written_offline(run):
    writer = WandB()
    writer.start(run)
    writer.write(2, 1.0, {"train/loss": 1.0})
    writer.images(2, {"pictures/filters": np.zeros((4, 5, 3), np.uint8)})
    writer.histograms(2, {"weights/0": np.array([[0.0, 1.0, 3.0], [1.0, 2.0, 4.0]])})
    writer.finish("completed")
    (file,) = run.directory.parent.glob("wandb/offline-run-*/*.wandb")
    wait_until(lambda: b"weights/0" in file.read_bytes())  # a process of its own writes it
    content = file.read_bytes()
    assert file.name == f"run-{run.id}.wandb"
    for text in (b"train/loss", b"optim", b"lr=0.1", b"weights/0", b"pictures/filters"):
        assert text in content, text


@pytest.mark.parametrize("tracker", [Trackio, MLflow, WandB])
def test_a_library_that_is_not_installed_is_named(monkeypatch, tracker: type[Tracker]):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=rf"needs {tracker.package}\n  pip install 'mlprun\[{tracker.package}\]'"):
        tracker()
