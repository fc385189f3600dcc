"""What asks a run to stop ends it within seconds, saved and marked; resumed, it ends as if nobody had asked."""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import termios
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.helpers.lines import IN_PROC, Line, children, finish, is_running, run_line, wait_until
from tests.helpers.runs import EVERYTHING, RUN, SMALL, assert_identical, last_step, record_of

SOON = 10  # seconds, on a machine that does much else; what a test has to wait for else would take a minute
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 138, signal.SIGUSR2: 140}


# The user's own code, which stays where the file `hold` says: a minute asleep, or until the file is gone.
USERS_CODE = """
import os
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

HOLD = Path("hold")

def hold(place):
    if HOLD.exists() and HOLD.read_text() == place:
        with open("held", "a") as file:
            file.write(f"{os.getpid()}\\n")
        if place == "swallowing batch":
            try:
                time.sleep(60)
            except BaseException:
                HOLD.unlink()
        elif "batch" in place or place in ("long step", "model"):
            time.sleep(60)
        else:
            while HOLD.exists():
                time.sleep(0.01)

class Dying:
    def __del__(self):
        hold("del")

class Data(Dataset):
    def detach(self):  # called as what torch must not be broken off in
        hold("evaluation batch" if torch.is_inference_mode_enabled() else "batch")
    def __len__(self):
        return 300
    def __getitem__(self, i):
        self.detach()
        if torch.is_inference_mode_enabled():
            hold("swallowing batch")
            Dying()
        return torch.rand(6) + i % 3, i % 3

class Net(nn.Sequential):
    def __init__(self, held=True):
        super().__init__(nn.Linear(6, 9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3))
        self.held = held
        if held:
            hold("model")
    def forward(self, x):
        if self.training and self.held:
            hold("step")
            hold("long step")
        return super().forward(x)

def slow_disk(fsync):
    def wait(descriptor):
        if "/checkpoints/." in os.readlink(f"/proc/self/fd/{descriptor}"):
            hold("checkpoint")
        fsync(descriptor)
    return wait

os.register_at_fork(after_in_child=lambda: hold("fork"))
if Path("/proc/self/fd").is_dir():
    os.fsync = slow_disk(os.fsync)
"""


USERS = [
    *SMALL, "data=custom", "data.input_shape=[6]", "data.num_outputs=3", "data.dataset._target_=users_code.Data",
    "model=custom", "model._target_=users_code.Net", "optim=momentum", "scheduler=cosine",
]  # fmt: skip


def with_users_code(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "users_code.py").write_text(USERS_CODE)
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return with_users_code(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = with_users_code(tmp_path_factory.mktemp("whole"))
    finish(folder, *USERS)
    return folder / RUN


@pytest.fixture(scope="module")
def whole_with_workers(tmp_path_factory) -> Path:
    folder = with_users_code(tmp_path_factory.mktemp("whole"))
    finish(folder, *USERS, "epochs=6", "data.num_workers=2", "eval_every=20 steps")
    return folder / RUN


def held(folder: Path, place: str) -> None:
    """Return when the user's code stays at that place."""
    (folder / "held").unlink(missing_ok=True)
    (folder / "hold").write_text(place)
    wait_until((folder / "held").exists)


def let_go(folder: Path) -> None:
    (folder / "hold").unlink()


def is_held_by(line: Line, folder: Path) -> bool:
    """Whether the line has come to its run; the handlers are in place before."""
    lock = folder / RUN / ".lock"
    return lock.exists() and f"process {line.pid} " in lock.read_text()


def assert_stopped(output: str, folder: Path, by: str, run: str = RUN) -> dict:
    """It is said once what stopped it and how to go on, and nothing else; returns the record."""
    words = {"SIGINT": "Ctrl-C", "trainer.max_time": "trainer.max_time, the time limit"}.get(by, by)
    assert output.count("interrupted by ") == 1, output
    assert output.endswith(f"interrupted by {words}\nresume  mlprun resume {run}\n"), output
    for sign in ("Traceback", "Exception ignored", "exited unexpectedly", "killed by signal", "error: "):
        assert sign not in output
    record = record_of(folder / run)
    assert (record["status"], record["stopped_by"]) == ("interrupted", by)
    return record


def test_six_sigterms_at_random_moments(tmp_path, uninterrupted):
    chance = random.Random(0)
    for number in range(6):
        words = ["resume", RUN] if (tmp_path / RUN / "run.json").exists() else EVERYTHING
        with Line(tmp_path, *words) as line:
            if number % 3 == 0:  # anywhere, from the moment when the record is opened
                wait_until(lambda: is_held_by(line, tmp_path))
                time.sleep(chance.choice([0, chance.uniform(0.0, 0.3)]))
            else:  # between, in and after steps, evaluations and checkpoints
                wait_until(lambda: "\nstep " in line.output)
                time.sleep(chance.uniform(0.0, 0.1))
            line.signal(signal.SIGTERM)
            assert line.wait(SOON) == 143, f"the run is too short for this test:\n{line.output}"
            assert_stopped(line.output, tmp_path, "SIGTERM")
    finish(tmp_path, "resume", RUN)
    assert_identical(tmp_path / RUN, uninterrupted)
    resumed = record_of(tmp_path / RUN)["resumed"]
    assert len({entry["step"] for entry in resumed}) > 2  # it did go on from many places


@pytest.mark.parametrize(
    ("place", "number"),
    [
        ("batch", signal.SIGTERM),  # broken off: a minute's sleep does not keep it
        ("evaluation batch", signal.SIGTERM),
        ("step", signal.SIGINT),  # done to its end
        pytest.param("checkpoint", signal.SIGTERM, marks=IN_PROC),
        ("del", signal.SIGTERM),  # what is raised there would be lost
        ("swallowing batch", signal.SIGTERM),  # and here it is
    ],
)
def test_wherever_it_is_asked_it_stops_and_goes_on(folder, whole, place, number):
    with Line(folder, *USERS) as line:
        wait_until(lambda: last_step(folder) >= 30)
        held(folder, place)
        line.signal(number)
        if "batch" not in place:
            let_go(folder)
        assert line.wait(SOON) == STATUS[number], line.output
        record = assert_stopped(line.output.replace(NOTE, ""), folder, number.name)
        assert (NOTE in line.output) == (number == signal.SIGINT and "batch" not in place)
    assert not [file for file in (folder / RUN).rglob("*") if file.suffix == ".tmp"]
    (folder / "hold").unlink(missing_ok=True)
    assert f"resumed at step {record['steps']} of " in finish(folder, "resume", RUN)
    assert_identical(folder / RUN, whole)


# what torch may say of a DataLoader that was stopped between two forks, when it is thrown away, and what Python does
# of torch's handler when a worker's end is known in the middle of a fork, before the run's own signal
HALF_HIRED = re.compile(
    r"Exception ignored in: (<function _MultiProcessingDataLoaderIter\.__del__.*?_workers_status'"
    r"|<[^\n]*>\nTraceback[^\n]*\n(  [^\n]*\n)+RuntimeError: DataLoader worker[^\n]* Terminated\. )\n",
    re.S,
)


NOTE = "\nstopping as soon as it is safe; Ctrl-C again quits immediately\n"


@IN_PROC
@pytest.mark.parametrize(
    ("place", "number", "send"),
    [
        ("batch", signal.SIGUSR2, os.killpg),  # as Slurm signals all processes of a job
        ("batch", signal.SIGTERM, os.kill),
        ("fork", signal.SIGINT, os.killpg),  # before a worker is its own
    ],
)
def test_busy_workers_neither_delay_the_end_nor_outlive_it(folder, whole_with_workers, place, number, send):
    """As a terminal sends Ctrl-C, and `timeout` SIGTERM: to the run and its workers."""
    with Line(folder, *USERS, "epochs=6", "data.num_workers=2", "eval_every=20 steps") as line:
        wait_until(lambda: last_step(folder) >= 9)
        held(folder, place)
        workers = children(line.pid)
        send(line.pid, number)
        assert line.wait(SOON) == STATUS[number], line.output
        assert_stopped(HALF_HIRED.sub("", line.output.replace(NOTE, "")), folder, number.name)
        wait_until(lambda: not any(is_running(worker) for worker in workers), timeout=5)
        assert workers
    let_go(folder)
    finish(folder, "resume", RUN)
    assert_identical(folder / RUN, whole_with_workers)


def test_a_second_ctrl_c_leaves_at_once(folder, whole):
    with Line(folder, *USERS) as line:
        wait_until(lambda: last_step(folder) >= 30)
        held(folder, "long step")
        line.signal(signal.SIGINT)
        wait_until(lambda: NOTE in line.output)
        line.signal(signal.SIGINT)
        assert line.wait(SOON) == -signal.SIGINT
        assert line.output.endswith(NOTE)
    assert record_of(folder / RUN)["status"] == "running"
    let_go(folder)
    finish(folder, "resume", RUN)
    assert_identical(folder / RUN, whole)


def test_sigterm_twice_is_one_and_ctrl_c_after_it_waits_as_well(folder):
    with Line(folder, *USERS) as line:
        wait_until(lambda: last_step(folder) >= 3)
        held(folder, "step")
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            line.signal(number)
            time.sleep(0.1)  # else the system makes one of two that are the same
        assert line.output.endswith(NOTE)
        let_go(folder)
        assert line.wait(SOON) == 143
        assert_stopped(line.output.replace(NOTE, ""), folder, "SIGTERM")


def ignore_and_run(*arguments) -> None:
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    run_line(*arguments)


class Deaf(Line):
    """A line that ignores a signal from its start, as `nohup` and a shell's `&` leave it."""

    target = staticmethod(ignore_and_run)


def test_what_was_ignored_from_the_start_stays_so(folder):
    with Deaf(folder, *USERS, "epochs=6", "data.num_workers=1") as line:
        wait_until(lambda: last_step(folder) >= 3)
        held(folder, "step")
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGINT):
            os.killpg(line.pid, number)
            time.sleep(0.1)
        let_go(folder)
        assert line.wait() == 0
    assert "interrupted" not in line.output
    assert "stopping" not in line.output


def requeue_and_run(*arguments) -> None:
    def requeue(number: int, _: object) -> None:
        status = json.loads(Path(RUN, "run.json").read_text())["status"]
        Path("requeued").write_text(f"{number} {status}")
        sys.exit(75)

    for number in (signal.SIGUSR2, signal.SIGINT):
        signal.signal(number, requeue)
    run_line(*arguments)


class Requeued(Line):
    """A line in a process that handles a signal already, as submitit does to submit the job again."""

    target = staticmethod(requeue_and_run)


def test_a_handler_that_was_there_before_is_called_once_the_run_is_saved(folder):
    with Requeued(folder, *USERS) as line:
        wait_until(lambda: last_step(folder) >= 3)
        line.signal(signal.SIGUSR2)
        assert line.wait(SOON) == 75, line.output
        assert_stopped(line.output, folder, "SIGUSR2")
    assert (folder / "requeued").read_text() == f"{signal.SIGUSR2:d} interrupted"


def test_a_terminal_that_closes(folder, whole):
    """The run is told by SIGHUP, and whatever it shows from then on, bar and all, is an error of the system's."""
    ours, its = os.openpty()
    with real_process(folder, *USERS, terminal=its) as process:
        os.close(its)
        os.set_blocking(ours, False)
        wait_until(lambda: read(ours) or last_step(folder) >= 30)
        held(folder, "step")
        os.close(ours)
        let_go(folder)
        assert process.wait(SOON) == 129
    record = record_of(folder / RUN)
    assert (record["status"], record["stopped_by"]) == ("interrupted", "SIGHUP")
    assert f"resume  mlprun resume {RUN}" in (folder / RUN / "train.log").read_text()
    assert f"resumed at step {record['steps']} of" in finish(folder, "resume", RUN)
    assert_identical(folder / RUN, whole)


def read(terminal: int) -> None:
    """Take what a process has shown, so that it can show more."""
    with suppress(BlockingIOError):
        os.read(terminal, 10**6)


@contextmanager
def real_process(folder: Path, *words: str, terminal: int | None = None, **environment: str):
    """A line as a shell starts it, torch's import and all; its output goes to `output.txt`, or to a terminal."""

    def control_terminal() -> None:
        fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlprun", *words],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output if terminal is None else terminal,
            stderr=output if terminal is None else terminal,
            start_new_session=True,
            preexec_fn=None if terminal is None else control_terminal,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# Stands in for torch until it has written what it finds, and `hold` is gone.
FIRST_TORCH = """
import os, signal, sys, time
from pathlib import Path
handler = signal.getsignal(signal.SIGTERM)
Path("held").write_text(f"{Path('run/run.json').exists()} {getattr(handler, '__module__', handler)}")
while Path("hold").exists():
    time.sleep(0.01)
sys.path.remove(os.path.dirname(os.path.dirname(__file__)))
del sys.modules["torch"]
import torch
Path("imported").touch()
"""


def test_a_record_and_handlers_come_before_torch(tmp_path):
    (tmp_path / "first" / "torch").mkdir(parents=True)
    (tmp_path / "first" / "torch" / "__init__.py").write_text(FIRST_TORCH)
    (tmp_path / "hold").touch()
    first = str(tmp_path / "first")
    with real_process(tmp_path, f"hydra.run.dir={RUN}", "debug=fast", PYTHONPATH=first) as process:
        wait_until(lambda: (tmp_path / "held").exists() and (tmp_path / "held").read_text())
        assert (tmp_path / "held").read_text() == "True mlprun.signals"
        process.send_signal(signal.SIGTERM)
        let_go(tmp_path)
        assert process.wait(2 * SOON) == 143
    assert_stopped((tmp_path / "output.txt").read_text(), tmp_path, "SIGTERM")
    assert (tmp_path / "imported").exists()


def test_a_limit_shorter_than_the_imports_leaves_the_next_run_of_a_sweep_whole_ones(tmp_path):
    line = ["-m", "hydra/launcher=basic", "hydra.sweep.dir=sweep", "debug=fast", "seed=0,1", "trainer.max_time=0.2s"]
    with real_process(tmp_path, *line) as process:
        process.wait(4 * SOON)
    records = [json.loads(file.read_text()) for file in sorted((tmp_path / "sweep").glob("*/run.json"))]
    assert len(records) == 2
    assert records[0]["stopped_by"] == "trainer.max_time"
    assert records[1]["status"] != "failed", records[1].get("error")


def test_a_time_limit_stops_a_run_wherever_it_is(folder, whole):
    (folder / "hold").write_text("evaluation batch")
    with Line(folder, *USERS, "trainer.max_time=2s") as line:
        assert line.wait(SOON) == 143, line.output
        assert_stopped(line.output, folder, "trainer.max_time")
    let_go(folder)
    with Line(folder, "resume", RUN, "trainer.max_time=0.001 s") as line:  # before anything is done
        assert line.wait(SOON) == 143, line.output
        assert_stopped(line.output, folder, "trainer.max_time")
    finish(folder, "resume", RUN, "trainer.max_time=null")
    assert_identical(folder / RUN, whole)


SWEEP = ["-m", "hydra.sweep.dir=sweep", *USERS[1:], "epochs=60", "+model.held=false,true,null"]


def runs(folder: Path) -> dict[str, dict]:
    """The records of a sweep, by the value of `model.held`."""
    return {
        value: json.loads(file.read_text())
        for value in ("False", "True", "null")
        for file in (folder / "sweep").glob(f"*model.held={value}*/run.json")
    }


def hold_second(folder: Path, place: str) -> None:
    """Hold the second run of a sweep."""
    wait_until(lambda: "num_steps" in runs(folder).get("True", {}))
    held(folder, place)


@pytest.mark.parametrize("choice", ["hydra/launcher=basic", "sweep.num_workers=1"])
def test_ctrl_c_ends_a_sweep_and_keeps_what_is_done(folder, choice):
    with Line(folder, *SWEEP, choice) as line:
        hold_second(folder, "step")
        line.signal(signal.SIGINT)
        wait_until(lambda: "basic" not in choice or NOTE in line.output)
        let_go(folder)
        assert line.wait(2 * SOON) == 130, line.output
    assert {value: record["status"] for value, record in runs(folder).items()} == {
        "False": "completed", "True": "interrupted"
    }  # fmt: skip
    for sign in ("Traceback", "Exception ignored"):
        assert sign not in line.output
    assert "curves  tensorboard --logdir sweep" in line.output  # after the table
    (second,) = (folder / "sweep").glob("*model.held=True*")
    finish(folder, "resume", str(second))


def test_a_time_limit_ends_one_run_of_a_sweep_and_the_next_goes_on(folder):
    (folder / "hold").write_text("model")
    with Line(folder, *SWEEP, "steps=20", "hydra/launcher=basic", "trainer.max_time=4s") as line:
        assert line.wait() == 1, line.output
    assert {value: record["status"] for value, record in runs(folder).items()} == {
        "False": "completed", "True": "interrupted", "null": "completed"
    }  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="takes the room from a running process by prlimit")
def test_what_cannot_be_saved_is_said(folder):
    with Line(folder, *USERS) as line:
        wait_until(lambda: last_step(folder) >= 30)
        held(folder, "step")
        size = (folder / RUN / "checkpoints" / "last.pt").stat().st_size
        resource.prlimit(line.pid, resource.RLIMIT_FSIZE, (size - 1, resource.RLIM_INFINITY))
        line.signal(signal.SIGTERM)
        let_go(folder)
        assert line.wait(SOON) == 143
    said = line.output.splitlines()[-5:]
    assert any(line.startswith("error: checkpoint run/checkpoints/last.pt could not be written") for line in said)
    assert said[-2:] == ["interrupted by SIGTERM", f"resume  mlprun resume {RUN}"]
    assert record_of(folder / RUN)["status"] == "interrupted"
