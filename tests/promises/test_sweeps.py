"""Sweeps: the same bits whoever runs them; every point checked before the first; whatever dies costs only itself."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.helpers.lines import IN_PROC, Line, children, finish, is_running, wait_until
from tests.helpers.runs import assert_identical, same, weights_of
from tests.helpers.sweeps import FAST, SWEEPS, records


def test_results_depend_neither_on_workers_nor_on_the_launcher(mlprun, mlprun_process):
    line = ["-m", *FAST, "model.dropout=0.3"]
    four, one = ["optim.lr=1e-2,1e-3", "seed=5,6"], ["optim.lr=1e-3", "seed=6"]
    ways = {
        "one": [*four, "sweep.num_workers=1"],
        "two": [*four, "sweep.num_workers=2"],
        "four": [*four, "sweep.num_workers=4"],
        "hydra": [*four, "hydra/launcher=basic"],
        "joblib": [*one, "hydra/launcher=joblib"],  # which imports torch anew for each worker
        "submitit": [*one, "hydra/launcher=submitit_local"],  # and for each run
        "slurm": [*one, "hydra/launcher=slurm", "hydra.launcher.cluster=local"],
    }
    for name, words in ways.items():
        result = (mlprun_process if name in ("one", "two", "four") else mlprun)(*line, *words, f"sweep.name={name}")
        assert result.status == 0, result.err
    alone = mlprun(*FAST, "model.dropout=0.3", "optim.lr=1e-3", "seed=6", "hydra.run.dir=alone").folder / "alone"
    sweeps = [result.folder / SWEEPS / name for name in ways]
    runs = [{run.parent.name.rpartition("_")[2]: run.parent for run in sweep.glob("*/run.json")} for sweep in sweeps]
    assert [len(found) for found in runs] == [4, 4, 4, 4, 1, 1, 1]
    for found in runs:
        assert set(found) <= set(runs[0])
        assert all(same(weights_of(runs[0][point]), weights_of(run)) for point, run in found.items())
    (twin,) = sweeps[0].glob("optim.lr=0.001,seed=6_*")
    assert same(weights_of(twin), weights_of(alone))


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
    assert mlprun("-m", *line, "trainer.num_threads=1,2", "hydra/launcher=basic").status == 0
    (second,) = folder.glob("outputs/sweeps/*/trainer.num_threads=2_*")
    alone = mlprun_process(*line, "trainer.num_threads=2", "hydra.run.dir=alone").folder / "alone"
    assert same(weights_of(second), weights_of(alone))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim=sgd,admw"], "did you mean 'adamw'"),
        (["batch_size=16,0"], "batch_size=0"),
        (["model=cnn", "data=digits,iris"], "any shape\n  at the point debug=fast model=cnn data=iris"),
        (["model=custom", "model._target_=torch.nn.Flatten,nothing.Here"], "model"),
    ],
)
def test_a_point_that_cannot_work_is_found_before_the_first_run(mlprun, words, said):
    result = mlprun("-m", "debug=fast", *words)
    assert result.status == 2
    assert said in result.err
    assert "Traceback" not in result.err + result.out
    assert not list((result.folder / "outputs").glob("sweeps/*")), "nothing that looks like a sweep"


TROUBLE = """
import os
import torch

class Aborts(torch.nn.Linear):
    def forward(self, x):
        if self.training:
            os.abort()
        return super().forward(x)

class Diverges(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x) * (float("nan") if self.training else 1.0)

class Fails(torch.nn.Linear):
    def forward(self, x):
        if self.training:
            raise RuntimeError("it was meant to fail")
        return super().forward(x)
"""


TARGETS = "torch.nn.Linear,my_trouble.Aborts,my_trouble.Fails,my_trouble.Diverges"
TWELVE = [
    *("-m", "data=iris", "epochs=3", "model=custom", "+model.in_features=4", "+model.out_features=3"),
    *(f"model._target_={TARGETS}", "seed=0,1,2", "sweep.name=twelve"),
]


def test_what_diverges_aborts_or_fails_costs_only_itself(tmp_path):
    (tmp_path / "my_trouble.py").write_text(TROUBLE)
    with Line(tmp_path, *TWELVE) as line:
        assert line.wait() == 1
        output = line.output
    found = records(tmp_path)
    assert len(found) == 12
    assert "Traceback" not in output
    for name, record in found.items():
        folder = tmp_path / SWEEPS / "twelve" / name
        kind = record["config"]["model"]["_target_"].rpartition(".")[2]
        assert record["status"] == ("completed" if kind == "Linear" else "failed")
        if kind == "Linear":
            continue
        assert f"{folder.relative_to(tmp_path)}" in output
        assert record["error"].splitlines()[0] in output
        said, file = {
            "Aborts": ("Fatal Python error: Aborted", "output.log"),
            "Fails": ("RuntimeError: it was meant to fail", "train.log"),
            "Diverges": ("step 0: loss or gradient is not finite", "train.log"),
        }[kind]
        assert said in (folder / file).read_text()
        assert ("SIGABRT" in record["error"]) == (kind == "Aborts")


def test_failures_and_progress_are_counted_over_all_batches_of_a_sweeper(mlprun_process):
    """No batch of three has two failures."""
    line = ["-m", *FAST, "optim=sgd", "seed=0,1,2,3", "optim.lr=0.1,0.2,1e12", "sweep.num_workers=1"]
    result = mlprun_process(*line, "hydra.sweeper.max_batch_size=3", "sweep.max_failures=2")
    assert result.status == 1
    assert re.findall(r"^ *(\d+)/12  (\w+)", result.out, re.M) == [
        ("1", "completed"), ("2", "completed"), ("3", "failed"),
        ("4", "completed"), ("5", "completed"), ("6", "failed"),
    ]  # fmt: skip
    assert result.err.count("2 runs failed: no further one was started (sweep.max_failures)") == 1
    assert len(records(result.folder)) == 6


LONG = ["-m", "data.limit=300", "epochs=15", "checkpoint.every=20 steps", "model.dropout=0.2", "optim.lr=1e-2,1e-3",
        "seed=0,1,2", "sweep.name=long"]  # fmt: skip


def processes_of(folder: Path) -> list[int]:
    """Every process whose current folder this is."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "cwd") == str(folder) and is_running(int(entry.name)):
                found.append(int(entry.name))
        except OSError:
            continue  # gone, or not ours
    return found


def kill_all_of(folder: Path, line: Line) -> None:
    for process in processes_of(folder):
        os.kill(process, signal.SIGKILL)
    line.wait()


@IN_PROC
def test_kill_9_of_the_whole_tree_and_the_same_line_again(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    finish(whole, *LONG)
    with Line(broken, *LONG) as line:
        wait_until(lambda: sum(r["status"] == "completed" for r in records(broken).values()) >= 2)
        kill_all_of(broken, line)
    done = {name: (broken / SWEEPS / "long" / name / "run.json").stat().st_mtime_ns
            for name, record in records(broken).items() if record["status"] == "completed"}  # fmt: skip
    assert 2 <= len(done) < 6
    output = finish(broken, *LONG)
    assert f"{6 - len(done)} of 6 runs to do" in output
    names = sorted(records(broken))
    assert names == sorted(records(whole))
    for name in names:
        assert_identical(broken / SWEEPS / "long" / name, whole / SWEEPS / "long" / name)
    assert {name: (broken / SWEEPS / "long" / name / "run.json").stat().st_mtime_ns for name in done} == done


SEARCH = [*LONG[:5], "sweep.name=long", "optim.lr=tag(log,interval(1e-4,1e-1))", "model.hidden=choice([8],[16])",
          "sweep.num_trials=5", "sweep.pruner=top", "sweep.num_workers=1"]  # fmt: skip


@IN_PROC
def test_kill_9_of_a_search_and_the_same_line_again_proposes_and_prunes_the_same_trials(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    finish(whole, *SEARCH)
    with Line(broken, *SEARCH) as line:
        wait_until(lambda: len(list(broken.glob("**/metrics.jsonl"))) >= 2)
        kill_all_of(broken, line)
    assert len(records(broken)) < 5
    finish(broken, *SEARCH)
    assert {name: run["status"] for name, run in records(broken).items()} == {
        name: run["status"] for name, run in records(whole).items()
    }
    assert {run["status"] for run in records(whole).values()} == {"completed", "pruned"}
    for name in records(whole):
        assert_identical(broken / SWEEPS / "long" / name, whole / SWEEPS / "long" / name)


@IN_PROC
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_request_to_stop_stops_all_of_it_and_resume_goes_on(tmp_path, number, status):
    with Line(tmp_path, *LONG, "epochs=400") as line:
        wait_until(lambda: len(list(tmp_path.glob("**/metrics.jsonl"))) >= 2)
        line.signal(number)
        assert line.wait(30) == status
        assert children(os.getpid()) is not None
        assert line.output.rstrip().endswith(f"resume  mlprun resume {SWEEPS / 'long'}")
        assert "Traceback" not in line.output
    wait_until(lambda: processes_of(tmp_path) == [], timeout=5)
    statuses = [record["status"] for record in records(tmp_path).values()]
    assert set(statuses) <= {"interrupted", "completed"}
    assert statuses.count("interrupted") >= 1
    with Line(tmp_path, "resume", str(SWEEPS / "long"), "sweep.num_workers=1") as line:
        wait_until(lambda: len(records(tmp_path)) >= len(statuses) and "runs to do" in line.output)
        line.signal(signal.SIGKILL)
    for words, said in ((["epochs=3"], "epochs=3: cannot change when a sweep is resumed"),):
        with Line(tmp_path, "resume", str(SWEEPS / "long"), *words) as line:
            assert line.wait() == 2
            assert said in line.output


def test_two_sweeps_of_one_name_do_not_meet(tmp_path):
    with Line(tmp_path, *LONG, "epochs=400") as line:
        wait_until(lambda: records(tmp_path))
        with Line(tmp_path, *LONG, "epochs=400") as second:
            assert second.wait() == 1
            assert f"outputs/sweeps/long is in use: process {line.pid} on " in second.output
