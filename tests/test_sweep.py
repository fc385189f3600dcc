"""Sweeps with Hydra's own launcher: a run a point, each on its own, and a table at the end."""

from __future__ import annotations

import json
import re

import torch

FAST = ["debug=fast", "data=iris"]


def records(folder):
    (sweep,) = (folder / "outputs" / "sweeps").iterdir()
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(sweep.glob("*/run.json"))}


def table(result):
    """The closing table: [header, row, …], split at two or more spaces."""
    lines = result.out.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"^ +\S.*\brun$", line))
    end = next(i for i, line in enumerate(lines) if line.startswith("sweep ") and i > start)
    return [re.split(r"  +", line.strip()) for line in lines[start:end]]


def test_a_grid_is_one_run_a_point_and_ends_with_a_table_best_first(mlprun):
    result = mlprun("-m", *FAST, "model=linear,mlp", "optim=sgd,adam", "seed=0,1")
    assert result.status == 0, result.err
    found = records(result.folder)
    assert len(found) == 8
    assert {(r["config"]["seed"], tuple(r["overrides"])) for r in found.values()} == {
        (seed, ("debug=fast", "data=iris", f"model={model}", f"optim={optim}", f"seed={seed}"))
        for model in ("linear", "mlp")
        for optim in ("sgd", "adam")
        for seed in (0, 1)
    }
    header, *rows = table(result)
    assert header == ["model", "optim", "seed", "val/loss", "test/accuracy", "test/loss", "sec", "run"]
    losses = [float(row[4]) for row in rows]
    assert losses == sorted(losses)
    assert len(rows) == 8


def test_a_jobs_result_does_not_depend_on_its_neighbours(mlprun, mlprun_process):
    line = [*FAST, "model.dropout=0.3"]
    swept = mlprun("-m", *line, "optim.lr=1e-2,1e-3", "seed=5,6")
    alone = mlprun_process(*line, "optim.lr=1e-3", "seed=6", "hydra.run.dir=alone").folder / "alone"
    (last_of_sweep,) = [
        run
        for run in (swept.folder / "outputs" / "sweeps").glob("*/*")
        if run.name.startswith("3_")
    ]  # fmt: skip
    states = [torch.load(d / "checkpoints" / "last.pt", weights_only=True)["model"] for d in (last_of_sweep, alone)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_failing_job_does_not_stop_the_others_and_the_exit_status_is_1(mlprun):
    result = mlprun("-m", "debug=fast", "optim=sgd", "optim.lr=1e-2,1e12,1e-3")
    assert result.status == 1
    assert [r["status"] for r in records(result.folder).values()] == ["completed", "failed", "completed"]
    assert re.search(r"^failed +outputs/sweeps/\S+/1_optim\.lr=1000000000000\.0$", result.err, re.MULTILINE)
    assert "not finite" in result.err
    assert "Traceback" not in result.err
    _, *rows = table(result)
    assert rows[-1][2] == "failed", "after the runs that have a score"
    failed = next(run for run in (result.folder / "outputs" / "sweeps").glob("*/1_*"))
    assert "Traceback (most recent call last)" in (failed / "train.log").read_text()


def test_a_sweep_directory_that_holds_runs_is_not_trained_over(mlprun):
    line = ["-m", *FAST, "seed=0,1", "hydra.sweep.dir=mine"]
    assert mlprun(*line).status == 0
    again = mlprun(*line)
    assert again.status == 2
    assert "hydra.sweep.dir=mine" in again.err


def test_ranges_and_lists_are_swept_as_hydra_does(mlprun):
    result = mlprun("-m", *FAST, "seed=range(0,3)", "model.hidden=[4],[4,4]")
    assert result.status == 0, result.err
    hidden = [r["config"]["model"]["hidden"] for r in records(result.folder).values()]
    assert sorted(hidden) == [[4]] * 3 + [[4, 4]] * 3


def test_every_run_of_a_sweep_is_a_run_like_any_other(mlprun):
    result = mlprun("-m", *FAST, "seed=0,1")
    for run in (result.folder / "outputs" / "sweeps").glob("*/[01]_*"):
        printed = mlprun("eval", str(run))
        assert printed.status == 0
        accuracy = json.loads((run / "run.json").read_text())["metrics"]["test/accuracy"]
        assert f"test/accuracy {accuracy}\n" in printed.out


def test_nor_on_a_neighbours_number_of_threads(mlprun, mlprun_process):
    folder = mlprun("--version").folder
    (folder / "my_module.py").write_text(  # whose weights depend on the threads that compute them
        "import torch\n"
        "class Net(torch.nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(torch.nn.Flatten(), torch.nn.Linear(64, 500), torch.nn.Linear(500, 10))\n"
        "        torch.nn.init.orthogonal_(self[1].weight)\n"
    )
    line = ["debug=fast", "steps=1", "model=custom", "model._target_=my_module.Net"]
    assert mlprun("-m", *line, "trainer.num_threads=1,2").status == 0
    (second,) = (folder / "outputs" / "sweeps").glob("*/1_*")
    alone = mlprun_process(*line, "trainer.num_threads=2", "hydra.run.dir=alone").folder / "alone"
    states = [torch.load(d / "checkpoints" / "last.pt", weights_only=True)["model"] for d in (second, alone)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_globs_sweep_over_choices(mlprun):
    result = mlprun("-m", "debug=one_batch", "data=glob(iri*)")
    assert result.status == 0, result.err
    assert [r["config"]["data"]["name"] for r in records(result.folder).values()] == ["iris"]
