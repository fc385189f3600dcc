"""Sweeps: every point once, side by side, whatever dies; and an answer at the end."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path

import pytest

from mlprun.sweep import scheduler
from tests.helpers.lines import IN_PROC, Line, children, finish, is_running, wait_until
from tests.helpers.runs import assert_identical, record_of, same, weights_of

FAST = ["debug=fast", "data=iris"]
SWEEPS = Path("outputs", "sweeps")


def records(folder: Path) -> dict[str, dict]:
    """run.json of every run below the folder, by the name of its directory."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("**/run.json"))}


def leaderboard(folder: Path) -> list[dict[str, str]]:
    (file,) = folder.glob("**/leaderboard.csv")
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


# ------------------------------------------------------------------------------------------------ a grid


def test_a_grid_is_one_run_a_point_and_ends_with_a_leaderboard_best_first(mlprun):
    result = mlprun("-m", *FAST, "model=linear,mlp", "optim=sgd,adam", "seed=0,1")
    assert result.status == 0, result.err
    found = records(result.folder)
    assert {(r["config"]["seed"], tuple(r["overrides"])) for r in found.values()} == {
        (seed, ("debug=fast", "data=iris", f"model={model}", f"optim={optim}", f"seed={seed}"))
        for model in ("linear", "mlp")
        for optim in ("sgd", "adam")
        for seed in (0, 1)
    }
    assert len(found) == 8
    assert all(re.fullmatch(r"model=\w+,optim=\w+,seed=\d_[0-9a-f]{10}", name) for name in found)
    rows = leaderboard(result.folder)
    assert [(int(row["rank"]), int(row["n"])) for row in rows] == [(1, 2), (2, 2), (3, 2), (4, 2)]
    means = [float(row["mean"]) for row in rows]
    assert means == sorted(means)
    shown = re.search(r"^best +(mlprun .*)$", result.out, re.MULTILINE)[1]
    assert shown == f"mlprun debug=fast data=iris model={rows[0]['model']} optim={rows[0]['optim']}"


@pytest.mark.parametrize(
    ("words", "key", "values"),
    [
        (["seed=range(0,3)"], "seed", [0, 1, 2]),
        (["data=glob(iri*)"], "batch_size", [32]),
        (["batch_size=choice(8,16)"], "batch_size", [8, 16]),
    ],
)
def test_ranges_choices_and_globs_are_swept_as_hydra_does(mlprun, words, key, values):
    result = mlprun("-m", "debug=one_batch", *words)
    assert result.status == 0, result.err
    assert sorted(r["config"][key] for r in records(result.folder).values()) == values


def test_a_point_that_is_named_twice_is_run_once(mlprun):
    result = mlprun("-m", *FAST, "optim.lr=0.1,1e-1,0.2")
    assert result.status == 0
    assert len(records(result.folder)) == 2
    assert "1 points were named twice" in result.err


def test_every_run_of_a_sweep_is_a_run_like_any_other(mlprun):
    result = mlprun("-m", *FAST, "seed=0,1")
    for run in result.runs:
        printed = mlprun("eval", str(run))
        assert printed.status == 0
        record = record_of(run)
        assert f"test/accuracy {record['metrics']['test/accuracy']}\n" in printed.out
        assert record["command"] == "mlprun -m debug=fast data=iris seed=0,1"
    assert mlprun("resume", str(result.runs[0])).status == 0


# ------------------------------------------------------------------------------ the same bits, whoever runs it


def test_results_depend_neither_on_workers_nor_on_the_launcher(mlprun):
    line = ["-m", *FAST, "model.dropout=0.3"]
    four, two = ["optim.lr=1e-2,1e-3", "seed=5,6"], ["optim.lr=1e-2,1e-3", "seed=6"]
    ways = {
        "one": [*four, "sweep.num_workers=1"],
        "two": [*four, "sweep.num_workers=2"],
        "four": [*four, "sweep.num_workers=4"],
        "hydra": [*four, "hydra/launcher=basic"],
        "joblib": [*two, "hydra/launcher=joblib"],  # which imports torch anew for each worker
        "submitit": [*two, "hydra/launcher=submitit_local"],  # and for each run
    }
    for name, words in ways.items():
        result = mlprun(*line, *words, f"sweep.name={name}")
        assert result.status == 0, result.err
    alone = mlprun(*FAST, "model.dropout=0.3", "optim.lr=1e-3", "seed=6", "hydra.run.dir=alone").folder / "alone"
    sweeps = [result.folder / SWEEPS / name for name in ways]
    runs = [{run.parent.name.rpartition("_")[2]: run.parent for run in sweep.glob("*/run.json")} for sweep in sweeps]
    assert [len(found) for found in runs] == [4, 4, 4, 4, 2, 2]
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


# -------------------------------------------------------------------------------------------- before job 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["optim=sgd,admw"], "did you mean 'adamw'"),
        (["batch_size=16,0"], "batch_size=0"),
        (["model=cnn", "data=digits,iris"], "any shape\n  at the point debug=fast model=cnn data=iris"),
        (["model=custom", "model._target_=torch.nn.Flatten,nothing.Here"], "model"),
        (["loss=cross_entropy,mse"], "loss"),
        (["data.normalize=minmax,wrong"], "data.normalize=wrong"),
    ],
)
def test_a_point_that_cannot_work_is_found_before_the_first_run(mlprun, words, said):
    result = mlprun("-m", "debug=fast", *words)
    assert result.status == 2
    assert said in result.err
    assert "Traceback" not in result.err + result.out
    assert not list((result.folder / "outputs").glob("sweeps/*")), "nothing that looks like a sweep"


def test_a_dry_run_shows_the_points_and_runs_nothing(mlprun):
    line = ["-m", *FAST, "optim.lr=0.1,0.2", "sweep.name=dry"]
    result = mlprun(*line, "sweep.dry_run=true")
    assert result.status == 0
    assert re.search(r"^to do +[0-9a-f]{10}  optim\.lr=0\.1$", result.out, re.MULTILINE)
    assert "2 runs: 0 done, 2 to do" in result.out
    assert not (result.folder / "outputs").exists()
    assert mlprun(*line, "seed=0").status == 0
    again = mlprun("-m", *FAST, "optim.lr=0.1,0.2,0.3", "sweep.name=dry", "sweep.dry_run=true", "seed=0")
    assert "3 runs: 2 done, 1 to do" in again.out


# ------------------------------------------------------------------------------------------------- again


def test_the_same_line_again_does_nothing_twice_and_a_wider_one_adds(mlprun):
    line = ["-m", *FAST, "sweep.name=search", "seed=0,1"]
    assert mlprun(*line, "optim.lr=0.1").status == 0
    folder = mlprun("--version").folder / SWEEPS / "search"
    before = {run: run.stat().st_mtime_ns for run in folder.glob("*/run.json")}
    assert len(before) == 2
    again = mlprun(*line, "optim.lr=0.1")
    assert again.status == 0
    assert "0 of 2 runs to do" in again.out
    wider = mlprun(*line, "optim.lr=0.1,0.2")
    assert wider.status == 0
    assert "2 of 4 runs to do" in wider.out
    assert {run: run.stat().st_mtime_ns for run in before} == before
    assert len(records(folder)) == 4
    assert [row["n"] for row in leaderboard(folder)] == ["2", "2"]
    assert json.loads((folder / "sweep.json").read_text())["status"] == "completed"


def test_a_point_is_what_it_is_not_how_it_was_typed(mlprun):
    first = mlprun("-m", *FAST, "sweep.name=x", "optim.lr=0.1,0.2")
    again = mlprun("-m", "sweep.name=x", "data=iris", "debug=fast", "optim.lr=2e-1,1e-1", "checkpoint.keep=3")
    assert (first.status, again.status) == (0, 0)
    assert "0 of 2 runs to do" in again.out


def test_code_that_changed_since_is_told(mlprun):
    folder = mlprun("--version").folder
    module = "import torch\ndef net():\n    return torch.nn.Linear(4, 3)\n"
    (folder / "my_net.py").write_text(module)
    line = ["-m", *FAST, "model=custom", "model._target_=my_net.net", "seed=0,1", "sweep.name=code"]
    assert mlprun(*line).status == 0
    assert "changed" not in mlprun(*line).err
    (folder / "my_net.py").write_text(module + "# another version\n")
    kept = mlprun(*line)
    assert "warning: my_net.py changed since 2 runs were made: kept; sweep.stale=redo runs them again" in kept.err
    assert "0 of 2 runs to do" in kept.out
    redone = mlprun(*line, "sweep.stale=redo")
    assert "2 of 2 runs to do" in redone.out
    assert "changed" not in mlprun(*line).err


def test_a_redo_that_cannot_work_leaves_what_there_was(mlprun):
    folder = mlprun("--version").folder
    (folder / "my_net2.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(4, 3)\n")
    line = ["-m", *FAST, "model=custom", "model._target_=my_net2.net", "seed=0,1", "sweep.name=code"]
    assert mlprun(*line).status == 0
    (folder / "my_net2.py").write_text("import torch\ndef net():\n    return torch.nn.Linear(5, 3)\n")
    assert mlprun(*line, "sweep.stale=redo").status == 2
    assert [record["status"] for record in records(folder).values()] == ["completed"] * 2


def test_resuming_someone_elses_sweep_runs_nothing_of_theirs(mlprun):
    folder = mlprun("--version").folder
    theirs = folder / "theirs"
    theirs.mkdir()
    (theirs / "__init__.py").write_text("")
    (theirs / "evil.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    record = {"typed_in": str(folder), "needs": {}, "points": {}}
    for line in (
        ["-m", "data=iris", "model=custom", "model._target_=theirs.evil.Net"],
        ["-m", "data=iris", "model=custom", "model._target_=torch.os.system"],
        ["-m", "data=iris", "+hydra.callbacks.x._target_=theirs.evil.Net"],
        ["-m", "data=iris", "--config-dir", "theirs"],
    ):
        (theirs / "sweep.json").write_text(json.dumps({**record, "lines": [line]}))
        result = mlprun("resume", "theirs")
        assert result.status in (1, 2)
        assert "--trust" in result.err
        assert not (folder / "ran").exists()


def test_a_folder_with_the_time_in_its_name_is_one_folder_and_the_users_own_gets_no_gitignore(mlprun):
    result = mlprun("-m", *FAST, "seed=0,1", "hydra.sweep.dir=mine/${now:%f}")
    assert result.status == 0, result.err
    assert len(list((result.folder / "mine").iterdir())) == 1
    assert not (result.folder / "mine" / ".gitignore").exists()
    single = mlprun(*FAST, "hydra.run.dir=own/${now:%f}")
    (directory,) = (single.folder / "own").iterdir()
    assert (directory / "run.json").exists()


def test_a_run_that_was_made_longer_is_not_the_sweeps_point_any_more(mlprun):
    line = ["-m", "data=iris", "epochs=1", "seed=0,1", "sweep.name=s"]
    run = mlprun(*line).folder / sorted((SWEEPS / "s").glob("seed=0*"))[0]
    assert mlprun("resume", str(run), "epochs=2").status == 0
    again = mlprun(*line)
    assert again.status == 1
    assert "its config was changed, by a resume perhaps" in again.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sweep.name=x"], "sweep.name=x: is for sweeps\n  add -m"),
        (["-m", "sweep.num_workers=1,2"], "sweep.num_workers=1,2: takes one value in a sweep"),
        (["-m", "device=cpu,auto"], "device=cpu,auto: takes one value in a sweep"),
        (["-m", "seed=0,1", "sweep.name=a b"], "sweep.name=a b: must be letters"),
        (["-m", "seed=0,1", "sweep.stale=maybe"], "sweep.stale=maybe: not known"),
        (["-m", "seed=0,1", "--cfg", "job"], "--cfg: shows one config"),
    ],
)
def test_what_makes_no_sense_is_said(mlprun, words, said):
    result = mlprun(*words)
    assert result.status == 2
    assert said in result.err


# ---------------------------------------------------------------------------------------------- what dies

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
            "Diverges": ("step 0: not finite any more", "train.log"),
        }[kind]
        assert said in (folder / file).read_text()
        assert ("SIGABRT" in record["error"]) == (kind == "Aborts")


def test_after_so_many_failures_no_further_run_is_started(mlprun):
    result = mlprun(
        "-m", *FAST, "optim=sgd", "optim.lr=1e12", "seed=range(0,12)", "sweep.max_failures=2", "sweep.num_workers=1"
    )
    assert result.status == 1
    assert 2 <= len(records(result.folder)) <= 3
    assert "runs were not begun" in result.err


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


@IN_PROC
def test_kill_9_of_the_whole_tree_and_the_same_line_again(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    finish(whole, *LONG)
    with Line(broken, *LONG) as line:
        wait_until(lambda: sum(r["status"] == "completed" for r in records(broken).values()) >= 2)
        for process in processes_of(broken):
            os.kill(process, signal.SIGKILL)
        line.wait()
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
    for words, said in ((["epochs=3"], "epochs=3: cannot change when a sweep is continued"),):
        with Line(tmp_path, "resume", str(SWEEPS / "long"), *words) as line:
            assert line.wait() == 2
            assert said in line.output


def test_two_sweeps_of_one_name_do_not_meet(tmp_path):
    with Line(tmp_path, *LONG, "epochs=400") as line:
        wait_until(lambda: records(tmp_path))
        with Line(tmp_path, *LONG, "epochs=400") as second:
            assert second.wait() == 1
            assert f"outputs/sweeps/long is in use: process {line.pid} on " in second.output


# ------------------------------------------------------------------------------------------------ the answer


def test_runs_shows_the_leaderboard_any_time(mlprun):
    swept = mlprun("-m", *FAST, "optim.lr=0.1,0.2", "seed=0,1")
    shown = mlprun("runs", "outputs")
    assert shown.status == 0
    table = swept.out[swept.out.index("iris") : swept.out.index("\nsweep ")]
    assert table.splitlines()[0] in shown.out
    assert "best    mlprun debug=fast data=iris optim.lr=" in shown.out
    assert mlprun("runs").out == shown.out
    nothing = mlprun("runs", "nowhere")
    assert nothing.status == 1
    assert "nowhere" in nothing.err


def test_a_sweep_without_a_terminal_says_how_long_it_will_take(mlprun):
    result = mlprun("-m", "seed=0,1,2", "debug=fast")
    lines = [line for line in result.out.splitlines() if re.match(r"\d/3 ", line)]
    assert [bool(re.search(r"  about \d+ (s|min) left$", line)) for line in lines] == [True, True, False]


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "1 s"), (89, "89 s"), (91, "2 min"), (5000, "83 min"), (9000, "2.5 h")]
)
def test_a_duration_is_as_exact_as_an_estimate(seconds, said):
    assert scheduler._duration(seconds) == said
