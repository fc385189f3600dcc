"""A run's directory: claimed once, its record never half-written, the state of the code kept with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory, claim, make

CONFIG = {"seed": 3, "optim": {"lr": 0.1}}


# -------------------------------------------------------------------------------------------------- claim


def test_claims_by_many_processes_give_as_many_directories(tmp_path):
    """Twenty at once, with names that collide on purpose, so that mkdir has to decide."""
    program = (
        "import random, secrets, sys\n"
        "from mlprun.runs import directory\n"
        "secrets.token_hex = lambda n: format(random.randrange(110), '02x')\n"
        "for _ in range(5): print(directory.claim(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(20)]
    claimed = [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert len(claimed) == len(set(claimed)) == 100
    assert len(list(tmp_path.iterdir())) == 100


@pytest.mark.parametrize("pattern", ["outputs/run", "outputs/deep/run"])
def test_a_file_where_the_folder_should_be(tmp_path, pattern):
    (tmp_path / "outputs").write_text("")
    with pytest.raises(RunError) as refusal:
        claim(str(tmp_path / pattern))
    assert str(tmp_path / "outputs") in str(refusal.value)
    assert "hydra.run.dir" in str(refusal.value)


@pytest.mark.parametrize(
    ("there", "pattern", "ignored"),
    [
        ([], "outputs/today/run", ["outputs"]),
        (["outputs/"], "outputs/today/run", ["outputs/today"]),
        (["results/tables/one.csv"], "results/runs/run", ["results/runs"]),
        (["results/one.csv"], "results/run", ["results/run"]),
        (["results/.gitignore"], "results/run", ["results/run"]),  # of the user's: it may name other files
    ],
)
def test_only_folders_that_were_just_made_are_kept_out_of_git(tmp_path, monkeypatch, there, pattern, ignored):
    monkeypatch.chdir(tmp_path)
    for name in there:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).mkdir() if name.endswith("/") else (tmp_path / name).write_text("*.log\n")
    first = claim(pattern)
    second = claim(pattern)
    found = [file.parent for file in tmp_path.rglob(".gitignore") if file.read_text() == "*\n"]
    expected = {first if name == pattern else tmp_path / name for name in ignored}
    expected |= {second for name in ignored if name == pattern}
    assert set(found) == {tmp_path / folder for folder in expected}
    make(tmp_path / "sweep" / "name", ignored=True)
    make(tmp_path / "own" / "name")
    assert (tmp_path / "sweep" / ".gitignore").exists()
    assert not list((tmp_path / "own").rglob(".gitignore"))


# ----------------------------------------------------------------------------------------------- run.json


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    opened = RunDirectory(tmp_path / "run")
    opened.start(CONFIG, "mlprun seed=3", ["seed=3"])
    return opened


def test_a_run_that_begins_is_recorded_as_running(run):
    text = run.record_file.read_text()
    record = json.loads(text)
    assert text == json.dumps(record, indent=2) + "\n"
    assert record == {**run.read(), "sha256": record["sha256"]}
    assert (record["status"], record["command"], record["overrides"]) == ("running", "mlprun seed=3", ["seed=3"])
    assert (record["config"], record["seed"]) == (CONFIG, 3)
    assert {"started_at", "git", "packages", "host", "mlprun"} <= set(record)
    assert {"python", "torch", "numpy", "hydra-core"} <= set(record["packages"])
    assert "ended_at" not in record


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_a_run_that_ends_says_how(run, status):
    run.update(num_parameters=10)
    run.finish(status, steps=5, metrics={"val/loss": 0.5})
    record = run.read()
    assert (record["status"], record["steps"], record["num_parameters"]) == (status, 5, 10)
    assert record["metrics"] == {"val/loss": 0.5}
    assert record["ended_at"] >= record["started_at"]
    assert 0 <= record["elapsed_sec"] < 60
    assert record["config"] == CONFIG  # nothing of before is lost
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_the_layout(run):
    names = {"run.json": run.record_file, "metrics.jsonl": run.metrics_file, "train.log": run.log_file}
    names |= {"checkpoints/best.pt": run.best}
    assert all(path == run.path / name for name, path in names.items())


def test_run_json_is_never_seen_half_written(run):
    """A reader beside a hundred rewrites of a large record: each time it finds one whole."""
    done = threading.Event()
    seen = []

    def watch() -> None:
        while not done.is_set():
            seen.append(len(json.loads(run.record_file.read_text())["notes"]))

    run.update(notes=[])
    watcher = threading.Thread(target=watch)
    watcher.start()
    for count in range(100):
        run.update(notes=["x" * 50] * count * 40)
    done.set()
    watcher.join()
    assert len(seen) > 5
    assert seen == sorted(seen)


def test_a_run_that_goes_on_keeps_what_its_record_says_of_its_beginning(run):
    run.finish("completed", steps=5, metrics={"val/loss": 0.5})
    before = run.read()
    again = RunDirectory(run.path)
    (run.path / ".run.json.99.tmp").write_text("half")  # a kill left it
    now = again.reopen(before)
    record = again.read()
    assert (record["status"], record["config"]) == ("running", CONFIG)
    assert {k: record[k] for k in ("command", "git", "packages", "host", "started_at", "metrics")} == {
        k: before[k] for k in ("command", "git", "packages", "host", "started_at", "metrics")
    }
    assert "ended_at" not in record
    assert now["packages"] == before["packages"]
    assert not (run.path / ".run.json.99.tmp").exists()
    again.finish("completed")
    assert again.read()["elapsed_sec"] >= before["elapsed_sec"]


def test_two_processes_cannot_have_a_run_at_once(run):
    program = (
        "import sys, pathlib, time\n"
        "from mlprun.runs.directory import RunDirectory\n"
        "with RunDirectory(pathlib.Path(sys.argv[1])).held():\n"
        "    print('mine', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(run.path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "mine\n"
        with (
            pytest.raises(RunError, match=rf"run is in use: process {other.pid} on .* has held it since 20"),
            run.held(),
        ):
            pass
        other.kill()  # it leaves no lock behind, however it ends
        other.wait()
        with run.held():
            assert (run.path / ".lock").read_text().startswith(f"process {os.getpid()} on ")
