"""`mlprun.run`, `run_sweep` and `list_runs`, and the errors that they raise."""

from __future__ import annotations

import csv
import math
import shutil

import pytest

import mlprun as api
from tests.helpers.runs import record_of, rows_of

FAST = ("debug=fast", "data.limit=64")


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_run_gives_what_is_on_disk(tmp_path, monkeypatch):
    run = api.run(*FAST, "logging.every=1 steps", "hydra.run.dir=run")
    record = record_of(tmp_path / "run")
    assert (run.status, run.error, run.directory) == ("completed", "", tmp_path / "run")
    assert run.metrics == record["metrics"]
    assert {"val/loss", "test/accuracy"} <= {*run.metrics}
    assert run.config == record["config"]
    assert record["command"] == "mlprun debug=fast data.limit=64 'logging.every=1 steps' hydra.run.dir=run"
    rows = [{name: value for name, value in row.items() if not name.startswith("perf/")} for row in run.history]
    assert rows == rows_of(tmp_path / "run")
    assert "test/accuracy" in repr(run)
    monkeypatch.chdir("/")
    assert api.Run(run).metrics == run.metrics  # wherever the program goes


def test_what_is_not_finite_is_nan(tmp_path):
    run = api.run(*FAST, "hydra.run.dir=run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "epoch": 1.0, "val/loss": null}\n')
    assert math.isnan(run.history[0]["val/loss"])


def test_a_completed_run_is_returned_and_a_folder_of_yaml_is_named(tmp_path, capsys):
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    lines = (*FAST, "experiment=mine", "hydra.run.dir=run")
    run = api.run(*lines, config_dir=tmp_path / "conf")
    assert run.config["seed"] == 7
    capsys.readouterr()
    assert api.run(*lines, config_dir="conf").metrics == run.metrics
    assert "already completed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (["lr=0.1"], api.ConfigError),
        (["optim.lr=-1"], api.ConfigError),
        (["seed=1,2"], api.ConfigError),
        (["sweep.name=a"], api.ConfigError),
        (["inspect.num_batches=2"], api.ConfigError),
        (["data=custom", "data.dataset._target_=nowhere.Data", "data.input_shape=[2]", "data.num_outputs=2"], None),
        (["data=iris", "model=cnn"], None),
        (["optim=sgd", "optim.lr=1e9", "epochs=1"], api.DivergedError),
    ],
)
def test_an_error_is_raised_with_the_text_of_the_command(mlprun, capsys, line, kind):
    told = [row for row in mlprun(*line).err.splitlines() if not row.startswith("resume")]
    with pytest.raises(api.UserError) as caught:
        api.run(*line)
    assert f"error: {caught.value}".splitlines() == told
    assert kind is None or type(caught.value) is kind
    assert "error" not in capsys.readouterr().err  # it is told once


def test_what_fails_by_the_users_own_code_names_the_cause(tmp_path):
    (tmp_path / "fails_late.py").write_text(
        "from torch import nn\n\nclass Net(nn.Linear):\n    def __init__(self):\n        super().__init__(64, 10)\n"
        "        self.calls = 0\n    def forward(self, x):\n        self.calls += 1\n"
        "        if self.calls > 3:\n            raise KeyError('lost')\n        return super().forward(x.flatten(1))\n"
    )
    with pytest.raises(api.RunError, match="lost") as caught:
        api.run("model=custom", "model._target_=fails_late.Net", "epochs=1", "hydra.run.dir=run")
    assert isinstance(caught.value.__cause__, KeyError)
    assert caught.value.__notes__ == ["resume  mlprun resume run"]
    assert api.Run("run").error == str(caught.value)
    assert api.Run("run").metrics == {}


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["-m", "seed=1,2"], "use mlprun.run_sweep"),
        (["hydra.mode=MULTIRUN", "seed=1,2"], "use mlprun.run_sweep"),
        (["--config-dir", "conf"], "config_dir="),
        ([3], "write each override as 'key=value'"),
        (["epochs 3"], "write key=value without spaces"),
        (["resume"], "the verb comes first"),
    ],
)
def test_words_that_are_no_overrides(words, remedy):
    with pytest.raises(api.ConfigError, match=remedy):
        api.run(*words)


def test_a_time_limit_returns_an_interrupted_run():
    run = api.run("epochs=4000", "trainer.max_time=1 s", "hydra.run.dir=run")
    assert run.status == "interrupted"
    assert run.metrics == {}


def test_a_sweep_is_the_commands(tmp_path):
    swept = api.run_sweep(*FAST, "optim.lr=1e-3,1e-2", "seed=0,1", "sweep.name=s")
    assert swept.directory == tmp_path / "outputs" / "sweeps" / "s"
    assert [run.status for run in swept.runs] == ["completed"] * 4
    with (swept.directory / "leaderboard.csv").open() as file:
        written = list(csv.DictReader(file))
    rows = swept.leaderboard
    assert rows.columns == list(written[0])
    assert [row["rank"] for row in rows] == [1, 2]
    assert {*rows["optim.lr"]} == {0.001, 0.01}
    assert [str(row["mean"]) for row in rows] == [row["mean"] for row in written]
    assert {api.Run(path).config["seed"] for path in rows[0]["runs"]} == {0, 1}
    assert api.list_runs() == rows  # outputs, here
    shutil.rmtree(swept.directory / swept.runs[0].directory.name)
    assert len(api.run_sweep(*FAST, "optim.lr=1e-3,1e-2", "seed=0,1", "sweep.name=s").runs) == 4
    with pytest.raises(api.UserError, match=r"optim\.lr=-1"):
        api.run_sweep("optim.lr=0.1,-1")
    with pytest.raises(api.ConfigError, match="mlprun -m"):
        api.run_sweep("seed=0,1", "sweep.dry_run=true")


def test_a_run_of_a_sweep_that_fails_is_in_its_table():
    swept = api.run_sweep(*FAST, "optim=sgd", "optim.lr=0.1,1e12", "loss=mse", "data=diabetes")
    failed = [run for run in swept.runs if run.status == "failed"]
    assert len(failed) == 1
    assert "not finite" in failed[0].error
    assert [row["rank"] for row in swept.leaderboard] == [1, None]
    assert swept.leaderboard[1]["failed_runs"] == [failed[0].directory]


@pytest.mark.parametrize("read", [api.Run, api.Sweep, api.list_runs, api.load])
def test_a_folder_that_is_none(read):
    with pytest.raises(api.RunError, match="nowhere"):
        read("nowhere")
