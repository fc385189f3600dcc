"""The pool of a sweep: real processes, killed in many ways."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlprun import signals
from mlprun.errors import RunError
from mlprun.runs.directory import RunDirectory
from mlprun.sweep import forkserver, pool
from mlprun.sweep.forkserver import Job
from tests.helpers.files import REPOSITORY
from tests.helpers.lines import wait_until

ME = __name__


# What the jobs do.


def write_whole(file: Path, value: object) -> None:
    """Whole or not at all, for the test may be reading."""
    file.with_suffix(".tmp").write_text(json.dumps(value))
    file.with_suffix(".tmp").rename(file)


def stamp(path: Path, seconds: float = 0.1) -> None:
    began = time.monotonic()
    time.sleep(seconds)
    write_whole(path / "stamps", [began, time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES")])


def meet(path: Path, how_many: int) -> None:
    (path / "here").touch()
    wait_until(lambda: len(list(path.parent.glob("*/here"))) == how_many)


def attempt(path: Path) -> int:
    """Count the attempts of a job in its directory, and all of them beside it."""
    with (path / "attempts").open("a") as file:
        file.write(".")
    with (path.parent / "order").open("a") as file:
        file.write(path.name)
    return (path / "attempts").stat().st_size


def die(path: Path, how: str, last: int = 2) -> None:
    """Die in this way in all attempts up to the `last`."""
    if attempt(path) > last:
        return
    print("about to", how)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        sys.exit(3)
    if how == "leave":
        os._exit(3)
    if how == "stop":
        signals.install()
        os.kill(os.getpid(), signal.SIGTERM)
    if how == "words":
        sys.exit("in so many words")
    raise RuntimeError(how)


def begin(path: Path, how: str, last: int = 2, status: str = "running") -> None:
    """Like `die`, but with a record."""
    RunDirectory(path).update(status=status, seed=0, traceback="of an earlier end")
    die(path, how, last)
    RunDirectory(path).update(status="completed")


def hold(path: Path) -> None:
    """A run in good health."""
    with RunDirectory(path).held():
        RunDirectory(path).update(status="running")
        wait_until((path / "go on").exists)
        RunDirectory(path).update(status="completed")


def die_beside(path: Path) -> None:
    wait_until((path / "run.json").exists)
    os.kill(os.getpid(), signal.SIGKILL)


def kill_server(path: Path) -> None:
    if attempt(path) == 1:
        write_whole(path / "pids", [os.getpid(), os.getppid()])
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(600)


def find_server(path: Path) -> None:
    write_whole(path / "pids", [os.getppid()])
    with os.scandir("/proc/self/fd") as found:
        write_whole(path / "files", len(list(found)))


def end_late(path: Path) -> None:
    print("half a line", end="")
    atexit.register((path / "at the end").touch)
    threading.Timer(0.3, (path / "afterwards").touch).start()


def look(path: Path, module: str) -> None:
    imported = __import__(module)
    seen = {"folder": os.getcwd(), "mine": os.environ.get("MINE"), "old": os.environ.get("OLD"), "argv": sys.argv}
    write_whole(path / "seen", {**seen, "value": imported.VALUE, "input": sys.stdin.read(), "session": os.getsid(0)})


def work_on(path: Path, *, stubborn: bool = False, polite: bool = True) -> None:
    """Go on until asked to stop, and save then; with a child in the same group."""
    signals.install()
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen(["sleep", "600"])
    try:
        write_whole(path / "pids", [os.getpid(), child.pid, os.getppid()])
        time.sleep(600)
    except KeyboardInterrupt as stop:
        write_whole(path / "saved", str(stop))
        raise


def leave_child(path: Path) -> None:
    write_whole(path / "pids", [subprocess.Popen(["sleep", "600"]).pid])


def nothing() -> None:
    pass


def load(path: Path, *, forever: bool) -> None:
    """Read data with workers of torch's own."""
    import torch
    from torch.utils.data import DataLoader, get_worker_info

    class Numbers(torch.utils.data.Dataset):
        def __len__(self):
            return 10**9 if forever else 20

        def __getitem__(self, index):
            time.sleep(0.01)
            return torch.tensor([index, get_worker_info().id, os.getpid()])

    seen = torch.zeros(0, 3, dtype=torch.int64)
    for batch in DataLoader(Numbers(), 2, num_workers=2):
        seen = torch.cat([seen, batch])
        if forever and len(seen) == 8:
            write_whole(path / "pids", [os.getpid(), *seen[:, 2].unique().tolist()])
    write_whole(path / "seen", {"sum": seen[:, 0].sum().item(), "workers": seen[:, 1].unique().tolist()})


# A sweep in a process of its own, for a test to stop.


def sweep(folder: Path, grace: float) -> None:
    from mlprun.cli import main, train

    def jobs():
        yield Job(work_on, (folder / "a",), folder / "a")
        yield Job(stubborn, (folder / "b",), folder / "b")
        yield Job(work_on, (folder / "c",), folder / "c")

    forkserver.GRACE_SECONDS = grace
    train.train = lambda _: len(list(pool.run(jobs(), num_workers=2, num_cores=2)))
    pool.start_server([ME])
    main.main()


def stubborn(path: Path) -> None:
    work_on(path, stubborn=True)


def sweep_loading(folder: Path) -> None:
    pool.start_server([ME, "torch.utils.data"])
    jobs = [Job(load_some, (folder / "a",), folder / "a"), Job(load_forever, (folder / "b",), folder / "b")]
    for _ in pool.run(jobs, num_workers=1, num_cores=1):
        pass


def load_some(path: Path) -> None:
    load(path, forever=False)


def load_forever(path: Path) -> None:
    load(path, forever=True)


def as_in_a_shell() -> None:
    """Hear the signals, also in tests that run in the background."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@contextlib.contextmanager
def moved(number: int, other: int):
    """Let a descriptor be another one for a while."""
    kept = os.dup(number)
    os.dup2(other, number)
    try:
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)


@contextlib.contextmanager
def process(call: str):
    """A call of this module's in a process of its own, as a shell starts one."""
    with subprocess.Popen(
        [sys.executable, "-c", f"from {ME} import *; as_in_a_shell(); {call}"],
        cwd=REPOSITORY,
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as popen:
        try:
            yield popen
        finally:
            popen.kill()


def pids(folder: Path, *names: str) -> list[int]:
    """The processes of these jobs, when all of them run."""
    files = [folder / name / "pids" for name in names]
    wait_until(lambda: all(file.exists() for file in files))
    return [pid for file in files for pid in json.loads(file.read_text())]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def all_gone(processes: list[int], timeout: float = 3) -> bool:
    with contextlib.suppress(AssertionError):
        wait_until(lambda: not any(is_alive(pid) for pid in processes), timeout)
    return not any(is_alive(pid) for pid in processes)


# The tests.


@pytest.fixture(autouse=True)
def server():
    """One for all tests that do not spoil it."""
    pool.start_server([ME])


@pytest.fixture(scope="module", autouse=True)
def _no_server_afterwards():
    yield
    pool.close_server()


def run(jobs, num_workers=2, num_cores=99, **how):
    return list(pool.run(jobs, num_workers=num_workers, num_cores=num_cores, **how))


def stamps(folder: Path) -> list[tuple[float, float, str | None]]:
    return [json.loads((path / "stamps").read_text()) for path in sorted(folder.iterdir())]


def stamped(folder: Path, count: int, threads=None) -> list[Job]:
    return [Job(stamp, (folder / str(i),), folder / str(i), threads[i] if threads else 1) for i in range(count)]


def test_as_many_at_a_time_as_there_are_places(tmp_path):
    jobs = [Job(meet, (tmp_path / str(i), 3), tmp_path / str(i), threads) for i, threads in enumerate((2, 1, 1))]
    assert [e.exitcode for e in run(jobs, num_workers=3, num_cores=4)] == [0, 0, 0]  # each waited for the others


def test_and_no_more(tmp_path):
    ended = run(stamped(tmp_path, 7), num_workers=3)
    seen = stamps(tmp_path)
    assert max(sum(begin <= moment < end for begin, end, _ in seen) for moment, _, _ in seen) <= 3
    assert len(ended) == 7
    assert all(e.seconds >= 0.1 and e.attempts == 1 and e.exitcode == 0 for e in ended)


def test_jobs_keep_their_order(tmp_path):
    jobs = stamped(tmp_path, 4)
    assert [e.job for e in run(jobs, num_workers=1)] == jobs
    assert stamps(tmp_path) == sorted(stamps(tmp_path))


def test_jobs_are_taken_as_places_become_free(tmp_path):
    taken = 0

    def jobs():
        nonlocal taken
        for job in stamped(tmp_path, 6):
            taken += 1
            yield job

    seen = [taken for _ in pool.run(jobs(), num_workers=2, num_cores=2)]
    assert seen == [2, 3, 4, 5, 6, 6]


def test_threads_together_stay_within_the_cores(tmp_path):
    threads = [3, 2, 1, 1, 9, 4]
    run(stamped(tmp_path, 6, threads), num_workers=6, num_cores=4)
    seen = stamps(tmp_path)
    for moment, _, _ in seen:
        together = [count for (begin, end, _), count in zip(seen, threads, strict=True) if begin <= moment < end]
        assert sum(together) <= 4 or together == [9]
    # The third would have fitted beside the first, and did not overtake the second.
    assert seen[2][0] >= seen[0][1]


def test_each_job_has_a_gpu_to_itself(tmp_path):
    run(stamped(tmp_path, 5), num_workers=4, gpus=["5", "GPU-7"])
    seen = stamps(tmp_path)
    assert {gpu for _, _, gpu in seen} == {"5", "GPU-7"}
    for name in ("5", "GPU-7"):
        own = [(begin, end) for begin, end, gpu in seen if gpu == name]
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(own))


def test_without_gpus_the_environment_decides(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    run(stamped(tmp_path, 1))
    assert stamps(tmp_path)[0][2] == "3"


def test_no_place_at_all_is_a_mistake(tmp_path):
    with pytest.raises(ValueError, match="num_workers"):
        run(stamped(tmp_path, 1), num_workers=0)


def test_the_caller_hears_what_runs(tmp_path):
    heard = []
    jobs = [Job(stamp, (tmp_path / str(i), 1.2), tmp_path / str(i)) for i in range(2)]
    run(jobs, poll=heard.append)
    assert jobs in heard


@pytest.mark.parametrize(
    ("how", "exitcode", "attempts", "said"),
    [
        ("abort", -signal.SIGABRT, 2, "Fatal Python error: Aborted"),
        ("kill", -signal.SIGKILL, 2, ""),
        ("segfault", -signal.SIGSEGV, 2, "in die"),
        ("exit", 3, 1, ""),
        ("leave", 3, 1, ""),  # without a record it looks like an exit
        ("stop", 143, 1, ""),
        ("words", 1, 1, "in so many words"),
        ("raise", 1, 1, "RuntimeError: raise"),
    ],
)
def test_a_death_costs_only_the_job_and_one_more_try(tmp_path, how, exitcode, attempts, said):
    first, second = tmp_path / "a", tmp_path / "b"
    ended = run([Job(die, (first, how), first), Job(die, (second, "nothing", 0), second)], num_workers=1)
    assert [(e.exitcode, e.attempts) for e in ended] == [(exitcode, attempts), (0, 1)]
    assert (tmp_path / "order").read_text() == "a" * attempts + "b"  # in its place
    output = (first / "output.log").read_text()
    assert output.count(f"about to {how}") == attempts
    assert said in output


def test_the_second_try_may_succeed(tmp_path):
    path = tmp_path / "a"
    (ended,) = run([Job(begin, (path, "kill", 1), path)])
    assert (ended.exitcode, ended.attempts) == (0, 2)
    assert RunDirectory(path).read()["status"] == "completed"


@pytest.mark.parametrize(("how", "error"), [
    ("kill", "died of SIGKILL twice (out of memory?); see output.log"),
    ("leave", "died of exit status 3 twice; see output.log"),
])  # fmt: skip
def test_who_dies_twice_has_failed(tmp_path, how, error):
    path = tmp_path / "a"
    (ended,) = run([Job(begin, (path, how), path)])
    record = RunDirectory(path).read()
    assert ended.attempts == 2
    assert (record["status"], record["error"], record["seed"]) == ("failed", error, 0)
    assert set(record) == {"status", "seed", "ended_at", "elapsed_sec", "error"}


def test_who_said_how_it_ended_is_believed(tmp_path):
    crashed, failed = tmp_path / "a", tmp_path / "b"
    jobs = [
        Job(begin, (crashed, "segfault", 2, "completed"), crashed),  # on the way out
        Job(begin, (failed, "leave", 2, "failed"), failed),
    ]
    assert sorted((e.exitcode, e.attempts) for e in run(jobs)) == [(-signal.SIGSEGV, 1), (3, 1)]
    for path, status in ((crashed, "completed"), (failed, "failed")):
        assert RunDirectory(path).read() == {"status": status, "seed": 0, "traceback": "of an earlier end"}


def test_a_run_that_another_process_has_is_left_alone(tmp_path):
    path = tmp_path / "a"
    ended = pool.run([Job(hold, (path,), path), Job(die_beside, (path,), path)], num_workers=2, num_cores=2)
    assert next(ended).exitcode == -signal.SIGKILL
    assert RunDirectory(path).read()["status"] == "running"
    (path / "go on").touch()
    assert next(ended).exitcode == 0
    assert RunDirectory(path).read()["status"] == "completed"
    assert next(ended, None) is None


def test_a_caller_may_want_no_second_try(tmp_path):
    path = tmp_path / "a"
    (ended,) = run([Job(begin, (path, "kill"), path)], retry=False)
    assert (ended.exitcode, ended.attempts) == (-signal.SIGKILL, 1)
    assert RunDirectory(path).read()["error"].startswith("died of SIGKILL (out of memory?)")
    assert (path / "attempts").read_text() == "."


def test_jobs_find_what_the_caller_has_now(tmp_path, monkeypatch):
    monkeypatch.setenv("OLD", "before the server")
    (tmp_path / "typed").write_text("something typed")
    with (tmp_path / "typed").open() as typed, moved(0, typed.fileno()):
        pool.start_server([ME, "json"])  # another list, so another server
        run([Job(nothing, (), tmp_path / "first")])
    monkeypatch.delenv("OLD")
    monkeypatch.setenv("MINE", "now")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    monkeypatch.setattr(sys, "argv", ["mlprun", "-m", "seed=1"])
    (tmp_path / "module_of_the_users.py").write_text("VALUE = 7")
    path = tmp_path / "a"
    (ended,) = run([Job(look, (path, "module_of_the_users"), path)])
    assert ended.exitcode == 0, (path / "output.log").read_text()
    seen = json.loads((path / "seen").read_text())
    assert seen.pop("session") != os.getsid(0)  # it has no terminal to wait for
    assert seen == {"folder": str(tmp_path), "mine": "now", "old": None, "argv": sys.argv, "value": 7, "input": ""}


def test_files_in_the_current_folder_hide_no_library(tmp_path, monkeypatch):
    for name in ("json", "pickle", "mlprun", "random"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path)
    pool.start_server([ME, "random"])
    assert [e.exitcode for e in run([Job(nothing, (), tmp_path / "a")])] == [0]


def test_what_cannot_be_imported_is_left_to_the_jobs(tmp_path, monkeypatch):
    (tmp_path / "broken_module.py").write_text("raise OSError('libcudart.so')")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    pool.start_server(["broken_module", "no_such_module", ME])
    path = tmp_path / "a"
    (ended,) = run([Job(look, (path, "broken_module"), path)])
    assert ended.exitcode == 1
    assert "OSError: libcudart.so" in (path / "output.log").read_text()


def test_a_server_that_cannot_start_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "deadly_module.py").write_text("import os; os.abort()")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    pool.start_server(["deadly_module"])
    with pytest.raises(RunError, match="deadly_module"):
        run([Job(nothing, (), tmp_path / "a")])


def test_a_job_without_a_process_costs_only_itself(tmp_path, monkeypatch, capfd):
    (tmp_path / "no_fork.py").write_text(
        "import os\nfork, left = os.fork, [1, 1]\n"
        "def refuse():\n    if len(left) == 1:\n        left.pop()\n        raise BlockingIOError(11, 'no more')\n"
        "    left and left.pop()\n    return fork()\nos.fork = refuse"
    )
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    pool.start_server([ME, "no_fork"])
    ended = run([Job(nothing, (), tmp_path / str(i)) for i in range(3)], num_workers=1)
    assert [e.exitcode for e in ended] == [0, os.EX_OSERR, 0]
    assert "no more" in capfd.readouterr().err


def test_what_a_job_leaves_behind_ends_with_it(tmp_path):
    (ended,) = run([Job(leave_child, (tmp_path / "a",), tmp_path / "a")])
    assert ended.exitcode == 0
    assert all_gone(pids(tmp_path, "a"))


def test_a_job_ends_as_a_program_does(tmp_path):
    path = tmp_path / "a"
    assert run([Job(end_late, (path,), path)])[0].exitcode == 0
    assert (path / "output.log").read_text() == "half a line"
    assert {"at the end", "afterwards"} <= {file.name for file in path.iterdir()}


def test_a_killed_server_is_replaced(tmp_path):
    path = tmp_path / "a"
    jobs = iter([Job(die, (tmp_path / "0", "nothing", 0), tmp_path / "0"), Job(kill_server, (path,), path)])
    assert [(e.exitcode, e.attempts) for e in pool.run(jobs, num_workers=1, num_cores=1)] == [(0, 1), (0, 2)]
    assert all_gone(pids(tmp_path, "a"))


def test_closing_the_iterator_stops_the_jobs(tmp_path):
    jobs = [Job(stamp, (tmp_path / "a",), tmp_path / "a"), Job(work_on, (tmp_path / "b",), tmp_path / "b")]
    with contextlib.closing(pool.run(jobs, num_workers=2, num_cores=2)) as ended:
        next(ended)
        running = pids(tmp_path, "b")
    assert all_gone(running)  # the server too
    assert (tmp_path / "b" / "saved").exists()


def test_an_error_of_the_callers_stops_the_jobs(tmp_path):
    def jobs():
        yield Job(work_on, (tmp_path / "a",), tmp_path / "a")
        pids(tmp_path, "a")
        raise LookupError("composing the next one")

    with pytest.raises(LookupError):
        run(jobs())
    assert all_gone(pids(tmp_path, "a"))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_all_of_it(tmp_path, number, status):
    with process(f"sweep(Path({str(tmp_path)!r}), 1.0)") as parent:
        running = pids(tmp_path, "a", "b")
        if number != signal.SIGHUP:  # as a scheduler sends them, to all of a batch job
            for pid in (running[2], running[0], running[3]):
                os.kill(pid, number)
        os.killpg(parent.pid, number)  # as a terminal does
        output, _ = parent.communicate(timeout=60)
        assert all_gone(running)  # also the one that would not stop
    assert (parent.returncode, output) == (status, "")
    assert json.loads((tmp_path / "a" / "saved").read_text()) == "SIGTERM"
    assert not (tmp_path / "c").exists()


def test_a_second_interrupt_leaves_at_once(tmp_path):
    with process(f"sweep(Path({str(tmp_path)!r}), 600)") as parent:
        running = pids(tmp_path, "a", "b")
        parent.send_signal(signal.SIGINT)
        wait_until((tmp_path / "a" / "saved").exists)
        parent.send_signal(signal.SIGINT)
        assert parent.wait(60) == -signal.SIGINT
        assert all_gone(running)


def test_a_signal_while_the_server_imports(tmp_path):
    # one program
    (tmp_path / "slow_module.py").write_text("import pathlib, time; pathlib.Path(__file__).with_name('began').touch(); time.sleep(600)")  # fmt: skip  # noqa: E501
    call = (
        f"sys.path.append({str(tmp_path)!r}); pool.start_server(['slow_module']); signals.install();"
        f"run([Job(nothing, (), Path({str(tmp_path)!r}))])"
    )
    with process(call) as parent:
        wait_until((tmp_path / "began").exists)
        server = [int(p.name) for p in Path("/proc").glob("[0-9]*") if is_child(p, parent.pid)]
        assert len(server) == 1
        parent.send_signal(signal.SIGTERM)
        parent.communicate(timeout=60)
        assert all_gone(server)


def is_child(folder: Path, of: int) -> bool:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == of
    except OSError:
        return False


def test_loader_workers_work_and_end_with_a_killed_sweep(tmp_path):
    with process(f"sweep_loading(Path({str(tmp_path)!r}))") as parent:
        running = pids(tmp_path, "b")
        assert json.loads((tmp_path / "a" / "seen").read_text()) == {"sum": 190, "workers": [0, 1]}
        assert len(running) == 3
        assert all(is_alive(pid) for pid in running)
        parent.kill()
        assert all_gone(running)


def test_many_jobs_leave_no_trace(tmp_path):
    run([Job(find_server, (tmp_path / "a",), tmp_path / "a")])
    (server,) = pids(tmp_path, "a")
    assert json.loads((tmp_path / "a" / "files").read_text()) == 4  # 0, 1, 2 and the folder that it reads

    def held() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (os.getpid(), server)]

    def resident() -> int:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 for pid in (os.getpid(), server))

    def many() -> None:
        for ended in pool.run((Job(nothing, (), tmp_path / str(i)) for i in range(100)), num_workers=2, num_cores=2):
            assert ended.exitcode == 0

    many()
    files, memory = held(), resident()
    many()
    assert held() == files
    assert resident() - memory < 2**20
    assert not [p for p in Path("/proc").glob("[0-9]*") if is_child(p, server)]  # no zombies either
