"""How jobs are taken, submitted, followed and submitted again; `promises/test_slurm.py` has a real cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlprun.errors import ConfigError
from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord, write_record
from mlprun.sweep import slurm
from mlprun.sweep.forkserver import OUTPUT, Job
from mlprun.sweep.slurm_queue import LimitError

SETTINGS = {
    "cluster": "local", "timeout_min": 60, "signal_delay_s": 120, "max_num_timeout": 3, "array_parallelism": 9,
    "cpus_per_task": None, "gpus_per_node": None, "mem_gb": None, "setup": None,
}  # fmt: skip


class InMemory:
    """A queue whose jobs end as a test says; the arrays are kept as (names of directories, CPUs)."""

    poll_seconds = 0.0

    def __init__(self, most_at_once=100, room=100, left=()):
        self.most_at_once, self.room = most_at_once, room
        self.arrays, self.states, self.names, self._left = [], {}, {}, dict(left)

    def left(self):
        return self._left

    def submit(self, calls, num_cpus):
        if len(calls) + sum(state == "RUNNING" for state in self.states.values()) > self.room:
            raise LimitError("sbatch: job submit limit")
        self.arrays.append(([path.name for path, _ in calls], num_cpus))
        numbers = [str(len(self.states) + i) for i in range(len(calls))]
        self.states |= dict.fromkeys(numbers, "RUNNING")
        self.names |= {number: path.name for number, (path, _) in zip(numbers, calls, strict=True)}
        return numbers

    def ended(self, numbers):
        return [number for number in numbers if self.states[number] != "RUNNING"]

    def state(self, number):
        return self.states[number]

    def log_of(self, number):
        return Path(f"{number}.err")

    def end(self, name, state="COMPLETED"):
        (number,) = [n for n, each in self.names.items() if each == name and self.states[n] == "RUNNING"]
        self.states[number] = state


def make_jobs(folder: Path, num: int, num_threads=lambda i: 1):
    for i in range(num):
        (folder / str(i)).mkdir()
        yield Job(print, (i,), folder / str(i), num_threads(i))


def record(folder: Path, name: str, status: str) -> None:
    write_record(RunDirectory(folder / name).record_file, RunRecord(status=status))


def follow(folder: Path, queue: InMemory, num: int, num_places: int = 100, **kwargs):
    return slurm._Followed(make_jobs(folder, num, **kwargs), queue, num_places, None)


def ended(followed):
    return [each.job.path.name for each in followed.take_ended()]


def test_arrays_are_split_at_the_limit_of_the_cluster_and_by_size(tmp_path):
    queue = InMemory(most_at_once=3)
    assert follow(tmp_path, queue, 8, num_threads=lambda i: 1 + (i == 2)).fill()
    assert queue.arrays == [(["0", "1", "3"], 1), (["2"], 2), (["4", "5", "6"], 1), (["7"], 1)]


def test_a_job_is_taken_when_there_is_a_place(tmp_path):
    queue = InMemory()
    followed = follow(tmp_path, queue, 4, num_places=2)
    followed.fill()
    assert queue.arrays == [(["0", "1"], 1)]
    assert not (tmp_path / "2").exists(), "a search proposes it from the results so far"
    queue.end("1")
    assert ended(followed) == ["1"]
    followed.fill()
    assert queue.arrays[1:] == [(["2"], 1)]


def test_a_queue_that_takes_no_more_gets_the_rest_later(tmp_path):
    queue = InMemory(room=3)
    followed = follow(tmp_path, queue, 5)
    followed.fill()
    assert queue.arrays == [(["0", "1"], 1), (["2"], 1)]
    queue.end("0")
    assert ended(followed) == ["0"]
    followed.fill()
    assert queue.arrays[2:] == [(["3"], 1)]


def test_a_queue_that_takes_none_is_an_error(tmp_path):
    with pytest.raises(LimitError):
        follow(tmp_path, InMemory(room=0), 2).fill()


@pytest.mark.parametrize(
    ("status", "states", "num_attempts", "left"),
    [
        ("completed", ["COMPLETED"], 1, "completed"),
        ("interrupted", ["FAILED"], 1, "interrupted"),  # it reached its time limit too often
        ("interrupted", ["PREEMPTED", "PREEMPTED", "CANCELLED"], 3, "interrupted"),
        ("running", ["NODE_FAIL", "OUT_OF_MEMORY"], 2, "failed"),
        ("running", ["CANCELLED"], 1, "failed"),
        (None, ["FAILED"], 1, None),  # no Python on the node: not for every job twice
        (None, ["NODE_FAIL", "NODE_FAIL"], 2, None),
    ],
)
def test_what_ends_and_what_is_submitted_again(tmp_path, status, states, num_attempts, left):
    queue = InMemory()
    followed = follow(tmp_path, queue, 1)
    followed.fill()
    if status:
        record(tmp_path, "0", status)
    for state in states[:-1]:
        queue.end("0", state)
        assert ended(followed) == []
        assert followed.fill()
    queue.end("0", states[-1])
    assert ended(followed) == ["0"]
    assert not followed.fill()
    assert len(queue.arrays) == num_attempts
    run = RunDirectory(tmp_path / "0")
    assert (run.read().status if left else run.record_file.exists()) == (left or False)
    if states[-1] != "COMPLETED":
        assert f"{states[-1]}; see also {num_attempts - 1}.err" in (tmp_path / "0" / OUTPUT).read_text()
    if left == "failed" and num_attempts == 2:
        assert run.read().error == "died of NODE_FAIL, then of OUT_OF_MEMORY; see output.log"


def test_jobs_that_an_earlier_process_left_in_the_queue_are_followed(tmp_path):
    queue = InMemory(left={tmp_path / "1": "77"})
    queue.states["77"] = "COMPLETED"
    followed = follow(tmp_path, queue, 2)
    followed.fill()
    assert queue.arrays == [(["0"], 1)]
    record(tmp_path, "1", "completed")
    assert ended(followed) == ["1"]


def test_a_run_that_another_process_has_is_waited_for(tmp_path, monkeypatch):
    """The lock is one of processes, so the other process is only said to have it."""
    queue, held = InMemory(), {"0"}
    monkeypatch.setattr(slurm, "_is_held", lambda job: job.path.name in held)
    followed = follow(tmp_path, queue, 1)
    followed.fill()
    record(tmp_path, "0", "running")
    queue.end("0")  # the job found the run in use
    for _ in range(2):
        assert ended(followed) == []
        assert followed.fill()
    assert len(queue.arrays) == 1
    held.clear()
    record(tmp_path, "0", "completed")
    assert ended(followed) == []
    followed.fill()
    queue.end("0")  # the second job returned its result
    assert ended(followed) == ["0"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"cluster": "lsf"}, "hydra.launcher.cluster=lsf: is not known\n  choose from: local, slurm"),
        ({"timeout_min": 0}, "hydra.launcher.timeout_min=0: must be a whole number, at least 1"),
        ({"mem_gb": "8G"}, "hydra.launcher.mem_gb=8G: must be a number, at least 0"),
        ({"timeout_min": 2}, "hydra.launcher.signal_delay_s=120: leaves no time to train\n  choose less than the"),
        ({"setup": "module load cuda"}, "hydra.launcher.setup=module load cuda: is no list of commands\n  write '["),
    ],
)
def test_settings_that_cannot_work(changed, said):
    slurm.check(SETTINGS)
    with pytest.raises(ConfigError) as error:
        slurm.check(SETTINGS | changed)
    assert str(error.value).startswith(said)


def test_without_slurm_and_without_submitit(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="sbatch was not found\n  start it where Slurm is, or try"):
        slurm.check(SETTINGS | {"cluster": "slurm"})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"not installed\n  pip install 'mlprun\[slurm\]'"):
        slurm.check(SETTINGS)
