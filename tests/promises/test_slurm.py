"""Sweeps on a real Slurm cluster of this machine, and through submitit's own processes.

All need `pytest -m long`, those of the cluster Debian's packages and root: `apt-get install slurm-wlm munge`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import slurm
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import assert_identical
from tests.helpers.sweeps import SWEEPS, records

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]
# Sleeps in the forward pass: these runs take long without work.
MODULE = """
import os, time, torch
class Slow(torch.nn.Linear):
    def forward(self, x):
        if self.training:
            time.sleep(float(os.environ.get("SLOW", "0")))
        return super().forward(x)
"""
LINE = [
    *(
        "-m",
        "data=iris",
        "model=custom",
        "model._target_=my_slow.Slow",
        "+model.in_features=4",
        "+model.out_features=3",
    ),
    *("epochs=100", "sweep.name=s", "checkpoint.every=1 epochs"),
]  # 400 steps
ON_SLURM = ["hydra/launcher=slurm"]
LOCAL = [*ON_SLURM, "hydra.launcher.cluster=local"]


@pytest.fixture
def folder(tmp_path) -> Path:
    here = tmp_path / "here"
    here.mkdir()
    (here / "my_slow.py").write_text(MODULE)
    return here


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A running cluster: arrays of at most three jobs, two CPUs."""
    if not slurm.is_installed():
        pytest.skip("needs root, and apt-get install slurm-wlm munge")
    with slurm.cluster(tmp_path / "cluster", max_array_size=3) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield environment


def start(folder: Path, *words: str, **environment: str) -> Line:
    """A line that finds the cluster of this test."""
    found = {"SLURM_CONF": os.environ["SLURM_CONF"]} if "SLURM_CONF" in os.environ else {}
    return Line(folder, *words, **found, **environment)


def ask(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def queue(state: str = "all") -> dict[str, str]:
    """State of each job, by its id."""
    rows = ask("squeue", "--array", "--noheader", f"--states={state}", "--format=%i %T")
    return dict(row.split() for row in rows)


def statuses(folder: Path) -> list[str]:
    return [record["status"] for record in records(folder).values()]


def steps(folder: Path) -> list[int]:
    """Number of logged rows of each run that has begun."""
    return [file.read_text().count("\n") for file in folder.glob("**/metrics.jsonl")]


def assert_as_in_the_pool(folder: Path, tmp_path: Path, *words: str) -> None:
    """The runs are those of the pool, bit for bit."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "my_slow.py").write_text(MODULE)
    finish(other, *LINE, *words)
    assert sorted(records(folder)) == sorted(records(other))
    for name in records(other):
        assert_identical(folder / SWEEPS / "s" / name, other / SWEEPS / "s" / name)


def output_of(folder: Path, run: str = "*") -> str:
    return "".join(file.read_text() for file in folder.glob(f"{SWEEPS}/s/{run}/output.log"))


def test_a_grid_has_the_bits_of_the_pool_whatever_happens_to_its_jobs(cluster, folder, tmp_path):
    """Eight runs in arrays of three: one is requeued, one cancelled by hand."""
    words = ["seed=range(0,8)", "sweep.num_workers=8"]
    with start(folder, *LINE, *words, *ON_SLURM, SLOW="0.02") as line:
        wait_until(lambda: len(steps(folder)) == 2 and min(steps(folder)) > 10, 120)
        first, second = list(queue("RUNNING"))[:2]
        subprocess.run(["scontrol", "requeue", first], check=True)
        subprocess.run(["scancel", second], check=True)
        assert line.wait(400) == 1
    jobs = {number.partition("_")[0]: number for number in queue()}
    assert len(jobs) == 3, "three arrays"
    assert sorted(statuses(folder)) == ["completed"] * 7 + ["interrupted"]
    assert "CANCELLED; see also" in output_of(folder)
    assert "resumed at step" in output_of(folder)
    with start(folder, *LINE, *words, *ON_SLURM) as line:
        assert line.wait(200) == 0
        assert "1 of 8 runs to do" in line.output
    assert_as_in_the_pool(folder, tmp_path, *words)


def test_a_run_outlives_its_time_limit(cluster, folder, tmp_path):
    words = ["seed=0", "epochs=200"]
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=20"]
    with start(folder, *LINE, *words, *ON_SLURM, *limit, SLOW="0.1") as line:
        assert line.wait(600) == 0, line.output
    assert "interrupted by SIGUSR2" in output_of(folder)
    assert "Requeued job" in output_of(folder)
    assert_as_in_the_pool(folder, tmp_path, *words)


def test_a_job_that_is_preempted_goes_on(cluster, folder, tmp_path):
    """At once, and with a time of grace in which it ends by itself."""
    for partition in ("low", "graceful"):
        words = [f"sweep.name={partition}", "seed=0"]
        with start(folder, *LINE, *words, *ON_SLURM, f"hydra.launcher.partition={partition}", SLOW="0.05") as line:
            wait_until(lambda: sum(steps(folder / SWEEPS)) > 10, 120)
            ask("srun", "--partition=high", "--cpus-per-task=2", "sleep", "1")
            assert line.wait(300) == 0, line.output


def test_jobs_go_on_without_the_process_that_submitted_them(cluster, folder, tmp_path):
    words = ["seed=range(0,4)"]
    with start(folder, *LINE, *words, *ON_SLURM, SLOW="0.05") as line:
        wait_until(lambda: len(steps(folder)) == 2, 120)
        line.signal(signal.SIGKILL)
        line.wait()
    with start(folder, *LINE, *words, *ON_SLURM) as line:
        assert line.wait(300) == 0, line.output
    assert len(queue()) == 4, "none was submitted twice"
    assert "resumed at step" not in output_of(folder)
    assert_as_in_the_pool(folder, tmp_path, *words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_saves_all_and_empties_the_queue(cluster, folder, tmp_path, number):
    words = ["seed=range(0,4)"]
    with start(folder, *LINE, *words, *ON_SLURM, SLOW="0.05") as line:
        wait_until(lambda: len(steps(folder)) == 2 and min(steps(folder)) > 10, 120)
        line.signal(number)
        assert line.wait(90) == 128 + number
        assert "Traceback" not in line.output
        assert line.output.rstrip().endswith(f"resume  mlprun resume {SWEEPS / 's'}")
    assert set(queue().values()) <= {"CANCELLED", "FAILED"}
    assert statuses(folder) == ["interrupted"] * 2
    with start(folder, "resume", str(SWEEPS / "s")) as line:
        assert line.wait(200) == 0, line.output
    assert_as_in_the_pool(folder, tmp_path, *words)


def test_a_job_that_is_killed_is_submitted_once_more(cluster, folder, tmp_path):
    with start(folder, *LINE, "seed=0", *ON_SLURM, SLOW="0.05") as line:
        wait_until(lambda: sum(steps(folder)) > 10, 120)
        subprocess.run(["scancel", "--signal=KILL", *queue("RUNNING")], check=True)
        assert line.wait(200) == 0, line.output
    assert "ended: FAILED" in output_of(folder)
    assert_as_in_the_pool(folder, tmp_path, "seed=0")


def test_what_slurm_refuses_is_one_message(cluster, folder):
    with start(folder, *LINE, "seed=0,1", *ON_SLURM, "hydra.launcher.partition=gpuu") as line:
        assert line.wait() == 1
        assert "error: sbatch: error: invalid partition specified: gpuu" in line.output
        assert "Traceback" not in line.output


# ---------------------------------------------------------------------------------------- submitit's own processes


def processes(folder: Path) -> list[int]:
    """Those that submitit started for runs of a folder, without their controllers."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_text().split("\0")
        except OSError:
            continue
        if "submitit.core._submit" in words and any(word.startswith(str(folder)) for word in words):
            found.append(int(entry.name))
    return found


def test_a_signal_of_the_cluster_saves_then_submitit_requeues(folder, tmp_path):
    with start(folder, *LINE, "seed=0", *LOCAL, SLOW="0.02") as line:
        wait_until(lambda: sum(steps(folder)) > 10, 120)
        (process,) = processes(folder)
        os.kill(process, signal.SIGUSR2)
        assert line.wait() == 0, line.output
    text = output_of(folder)
    assert text.index("interrupted by SIGUSR2") < text.index("Requeued job") < text.index("resumed at step")
    assert_as_in_the_pool(folder, tmp_path, "seed=0")


def test_runs_that_processes_still_have_are_waited_for(folder, tmp_path):
    words = ["seed=0,1", "sweep.num_workers=2"]
    with start(folder, *LINE, *words, *LOCAL, SLOW="0.05") as line:
        wait_until(lambda: len(steps(folder)) == 2, 120)
        line.signal(signal.SIGKILL)
        line.wait()
    assert len(processes(folder)) == 2
    with start(folder, *LINE, *words, *LOCAL) as line:
        assert line.wait() == 0, line.output
    assert "is in use" in output_of(folder)
    assert "resumed at step" not in output_of(folder)
    assert_as_in_the_pool(folder, tmp_path, *words)


def test_ctrl_c_ends_the_processes_and_no_more_run_than_there_are_places(folder):
    with start(folder, *LINE, "seed=0,1,2", "sweep.num_workers=1", *LOCAL, SLOW="0.05") as line:
        wait_until(lambda: sum(steps(folder)) > 10, 120)
        assert len(processes(folder)) == 1
        os.killpg(line.pid, signal.SIGINT)  # as a terminal sends it, to all of them
        assert line.wait(30) == 130
    assert (statuses(folder), processes(folder)) == (["interrupted"], [])


if sys.platform != "linux":
    pytestmark.append(pytest.mark.skip(reason="Slurm runs on Linux; finds processes through /proc"))
