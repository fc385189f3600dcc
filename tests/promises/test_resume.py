"""A run that was killed at any moment and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlprun.runs import checkpoint
from tests.helpers.files import penguins
from tests.helpers.lines import IN_PROC, Line, children, finish, is_running, wait_until
from tests.helpers.runs import EVERYTHING, RUN, SMALL, assert_identical, last_step, record_of, rows_of
from tests.helpers.users_code import NOISY, STREAM, USERS_DATA

TABLE = ["data=csv", "data.path=penguins.csv", "data.target=species", "data.impute=median"]


def line_of(folder: Path) -> list[str]:
    """What to type next: the line itself while there is no run yet, then resume."""
    return ["resume", RUN] if (folder / RUN / "run.json").exists() else EVERYTHING


@pytest.mark.long
def test_twenty_sigkills_at_random_moments(tmp_path, uninterrupted):
    chance = random.Random(0)
    for number in range(20):
        with Line(tmp_path, *line_of(tmp_path)) as line:
            if number % 2:  # anywhere, which is mostly before the first step
                time.sleep(chance.uniform(0.05, 0.35))
            else:  # between, in and after steps, evaluations and checkpoints
                wait_until(lambda: "\nstep " in line.output)
                time.sleep(chance.uniform(0.0, 0.1))
            line.signal(signal.SIGKILL)
            assert line.wait() == -signal.SIGKILL, f"the run is too short for this test:\n{line.output}"
    finish(tmp_path, "resume", RUN)
    assert_identical(tmp_path / RUN, uninterrupted)
    resumed = record_of(tmp_path / RUN)["resumed"]
    assert len({entry["step"] for entry in resumed}) > 5  # it did go on from many places


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(
            ["trainer.precision=bf16", "trainer.accumulate=3", "trainer.grad_clip=0.5", "optim=adamw",
             "data.sampler=balanced", "loss.class_weights=balanced"],
            id="bf16, accumulation, balanced",
        ),
        pytest.param(["scheduler=plateau", "scheduler.patience=1", "optim=nesterov"], id="plateau"),
        pytest.param(["scheduler=one_cycle", "optim=muon"], id="one_cycle, muon"),
        pytest.param(
            ["scheduler=triangular2", "optim=rmsprop", "model.batch_norm=true", "trainer.ema=0.99"],
            id="average, batch norm",
        ),
        pytest.param(
            ["scheduler=custom", "scheduler._target_=torch.optim.lr_scheduler.CosineAnnealingWarmRestarts",
             "+scheduler.T_0=40 steps", "scheduler.warmup=20 steps", "optim=radam"],
            id="torch's scheduler",
        ),
        pytest.param(
            ["early_stopping.patience=9", "optim=sgd", "optim.lr=2", "model=cnn", "monitor=val/accuracy", "epochs=30"],
            id="early stopping",
        ),
        pytest.param(
            ["logging.histograms=true", "logging.pictures=[filters,misclassified]", "model.dropout=0.2", "epochs=5",
             "eval_every=25 steps"],
            id="pictures",
        ),
        pytest.param(["optim=lbfgs", "batch_size=all", "steps=60"], id="lbfgs"),
        pytest.param(
            [*NOISY, "model.dropout=0.2", "data.num_workers=2", "epochs=8", "eval_every=20 steps"], id="two workers"
        ),
        pytest.param([*STREAM, "steps=150"], id="a stream"),
        pytest.param(["data.transforms.train=[RandAugment]", "data.num_workers=2", "epochs=5", "trainer.mixup=0.2",
                      "trainer.cutmix=1.0"], id="transforms, mixed"),
        pytest.param([*TABLE, "epochs=40", "model.dropout=0.2"], id="a table"),
    ],
)  # fmt: skip
def test_whatever_is_trained_three_kills_do_not_show(tmp_path, words):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    words = [*SMALL, "epochs=15", *([] if "data=custom" in words else ["data.limit=400"]), *words]
    for folder in (whole, broken):
        folder.mkdir()
        (folder / "users_data.py").write_text(USERS_DATA)
        penguins(folder)
    finish(whole, *words)
    steps = record_of(whole / RUN)["steps"]
    for share in (0.15, 0.35, 0.55):  # what is left gives time to kill it
        with Line(broken, *(["resume", RUN] if (broken / RUN).exists() else words)) as line:
            wait_until(lambda: last_step(broken) >= share * steps)  # noqa: B023  called before the next one
            line.signal(signal.SIGKILL)
            assert line.wait() == -signal.SIGKILL, line.output
    output = finish(broken, "resume", RUN)
    assert_identical(broken / RUN, whole / RUN)
    assert ("is a stream" in output) == any("Stream" in word for word in words)


def test_killed_while_it_imports(tmp_path):
    """As a shell starts it, torch and all; wherever the kill comes, the next line goes on."""
    words = [f"hydra.run.dir={RUN}", "debug=fast"]
    for delay in (0.3, 1.5):
        again = ["resume", RUN] if (tmp_path / RUN / "run.json").exists() else words
        process = subprocess.Popen([sys.executable, "-m", "mlprun", *again], cwd=tmp_path, stdout=subprocess.DEVNULL)
        time.sleep(delay)
        process.kill()
        process.wait()
    finish(tmp_path, *(["resume", RUN] if (tmp_path / RUN / "run.json").exists() else words))
    finish(tmp_path, "hydra.run.dir=other", "debug=fast")
    assert_identical(tmp_path / RUN, tmp_path / "other")


WORKERS = [*SMALL, *NOISY, "data.num_workers=2", "epochs=10", "eval_every=20 steps"]


@pytest.fixture
def with_workers(tmp_path) -> Path:
    (tmp_path / "users_data.py").write_text(USERS_DATA)
    return tmp_path


@IN_PROC
def test_a_worker_that_is_killed_ends_the_run_which_can_go_on(with_workers):
    with Line(with_workers, *WORKERS) as line:
        wait_until(lambda: last_step(with_workers) >= 30 and children(line.pid))
        wait_until(lambda: any(try_kill(child) for child in children(line.pid)))
        assert line.wait() == 1
        assert "error: a DataLoader worker process died: " in line.output
        assert line.output.strip().splitlines()[-1] == f"resume  mlprun resume {RUN}"
        assert "Traceback" not in line.output
    finish(with_workers, "resume", RUN)
    finish(with_workers, *WORKERS, "hydra.run.dir=whole")
    assert_identical(with_workers / RUN, with_workers / "whole")


def try_kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it had read its part and left
        return False
    return True


@IN_PROC
def test_workers_do_not_outlive_a_killed_run(with_workers):
    with Line(with_workers, *WORKERS) as line:
        wait_until(lambda: last_step(with_workers) >= 30 and children(line.pid))
        workers = children(line.pid)
        line.signal(signal.SIGKILL)
        wait_until(lambda: not any(is_running(worker) for worker in workers), timeout=2)
    # and none of them keeps the run from being continued
    finish(with_workers, "resume", RUN)


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """What `broken_off` is copied from."""
    folder = tmp_path_factory.mktemp("original")
    finish(folder, *SMALL, "data.limit=300", "hydra.run.dir=whole")
    with Line(folder, *SMALL, "data.limit=300") as line:
        wait_until(lambda: last_step(folder) >= 100)
        line.signal(signal.SIGKILL)
    return folder


@pytest.fixture
def broken_off(original, tmp_path) -> Path:
    """A run that was killed with last.pt newer than best.pt, and what it would have become."""
    return shutil.copytree(original, tmp_path, dirs_exist_ok=True)


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_last_checkpoint_is_set_aside_and_the_one_before_used(broken_off):
    last = broken_off / RUN / "checkpoints" / "last.pt"
    flip(last)
    output = finish(broken_off, "resume", RUN)
    assert "warning" not in output.lower() or "damaged" in output
    assert f"checkpoint {RUN}/checkpoints/last.pt is damaged" in output
    assert "best.pt" in output
    last.with_name("last.pt.damaged").unlink()
    assert_identical(broken_off / RUN, broken_off / "whole")


def test_with_no_checkpoint_left_there_is_nothing_to_go_on_from(broken_off):
    for name in ("last.pt", "best.pt"):
        flip(broken_off / RUN / "checkpoints" / name)
    rows = (broken_off / RUN / "metrics.jsonl").read_bytes()
    with Line(broken_off, "resume", RUN) as line:
        assert line.wait() == 1
        for name in ("last.pt", "best.pt"):
            assert f"{RUN}/checkpoints/{name} is damaged" in line.output
        assert "no other checkpoint to resume from" in line.output
        assert "Traceback" not in line.output
    assert (broken_off / RUN / "metrics.jsonl").read_bytes() == rows


def test_a_lost_best_checkpoint_is_said(broken_off):
    flip(broken_off / RUN / "checkpoints" / "best.pt")
    output = finish(broken_off, "resume", RUN)
    assert "best.pt is damaged" in output
    assert "is lost: best.pt will be the best from here on" in output


@pytest.mark.skipif(sys.platform != "linux", reason="takes the room from a running process by prlimit")
def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path, original):
    """A limit on file sizes stands for the disk: writes beyond it fail while the run goes."""
    checkpoints = tmp_path / RUN / "checkpoints"
    with Line(tmp_path, *SMALL, "data.limit=300") as line:
        wait_until(lambda: last_step(tmp_path) >= 50)
        resource.prlimit(line.pid, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        assert line.wait() == 1
        assert len(line.output.split("error: ")) == 2
        message = line.output.split("error: ")[1]
        assert "checkpoint run/checkpoints/" in message
        assert "could not be written: " in message
        assert "bytes are free on its disk" in message
        assert message.endswith(f"resume  mlprun resume {RUN}\n")
        assert len(message.splitlines()) <= 4
    assert {file.name for file in checkpoints.iterdir()} == {"last.pt", "best.pt"}
    assert checkpoint.load(checkpoints / "last.pt")["step"] >= 42
    assert record_of(tmp_path / RUN)["status"] == "failed"
    finish(tmp_path, "resume", RUN)
    assert_identical(tmp_path / RUN, original / "whole")


def test_another_runs_checkpoint_is_refused(broken_off):
    finish(broken_off, *SMALL, "data.limit=300", "model.hidden=[9]", "epochs=1", "hydra.run.dir=foreign")
    shutil.rmtree(broken_off / RUN / "checkpoints")
    shutil.copytree(broken_off / "foreign" / "checkpoints", broken_off / RUN / "checkpoints")
    with Line(broken_off, "resume", RUN) as line:
        assert line.wait() == 1
        assert "last.pt is of another config than this run: model.hidden: [9] | [128,64]" in line.output


def test_a_checkpoint_that_does_not_fit_names_the_tensor(broken_off):
    """One whose config was forged."""
    for name in ("last.pt", "best.pt"):
        file = broken_off / RUN / "checkpoints" / name
        state = checkpoint.load(file)
        state["model"]["output.weight"] = state["model"]["output.weight"][:, :5].clone()
        checkpoint.save(state, file)
    with Line(broken_off, "resume", RUN) as line:
        assert line.wait() == 1
        assert "does not fit the run's config" in line.output
        assert "size mismatch for output.weight" in line.output
        assert "Traceback" not in line.output


@pytest.mark.parametrize(
    ("scheduler", "log_every"), [("constant", "1 epoch"), ("constant", "4 steps"), ("cosine", "1 epoch")]
)
def test_a_finished_run_is_made_longer(tmp_path, scheduler, log_every):
    words = ["data.limit=300", f"scheduler={scheduler}", "optim=momentum", "data.augment.crop=1"]
    words.append(f"logging.every={log_every}")
    finish(tmp_path, *words, "epochs=6", "hydra.run.dir=long")
    finish(tmp_path, *words, "epochs=3", f"hydra.run.dir={RUN}")
    output = finish(tmp_path, "resume", RUN, "epochs=6")
    rates = [row["optim/lr"] for row in rows_of(tmp_path / RUN)]
    wanted = [row["optim/lr"] for row in rows_of(tmp_path / "long")]
    half = len(wanted) // 2
    assert rates[half:] == wanted[half:]  # recomputed for the new length, whatever came before
    if scheduler == "constant":
        assert "the result is that of an uninterrupted run" in output
        if log_every == "1 epoch":
            assert_identical(tmp_path / RUN, tmp_path / "long")
        else:
            end = record_of(tmp_path / RUN)["resumed"][0]["step"]
            assert f"also has the training means of {end % 4} steps up to step {end}\n" in output
            ours, theirs = (rows_of(tmp_path / name) for name in (RUN, "long"))
            assert [row for row in ours if row["step"] != end] == [row for row in theirs if row["step"] != end]
    else:
        assert "the result differs from an uninterrupted run's:" in output
        assert rates[:half] != wanted[:half]


def test_a_resume_that_is_refused_changes_nothing(broken_off):
    before = record_of(broken_off / RUN)
    for words in (["epochs=1"], ["device=mps"]):
        with Line(broken_off, "resume", RUN, *words) as line:
            assert line.wait() == 2, line.output
        assert record_of(broken_off / RUN) == before
    finish(broken_off, "resume", RUN)
    assert_identical(broken_off / RUN, broken_off / "whole")


def test_rows_that_were_lost_are_said(broken_off):
    file = broken_off / RUN / "metrics.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:5] + lines[7:]))
    assert re.search(r"metrics\.jsonl has lost 2 of \d+ rows", finish(broken_off, "resume", RUN))


def test_the_same_line_in_the_same_directory_goes_on_and_another_is_refused(broken_off):
    words = [*SMALL, "data.limit=300"]
    with Line(broken_off, *words, "seed=1") as line:
        assert line.wait() == 2
        assert "holds a run of another config: seed: 0 | 1" in line.output
    assert "resumed at step" in finish(broken_off, *words, "checkpoint.every=50 steps")
    assert_identical(broken_off / RUN, broken_off / "whole")


def test_of_eight_that_resume_at_once_one_does(tmp_path):
    with Line(tmp_path, *SMALL, "epochs=1000") as line:
        wait_until(lambda: last_step(tmp_path) > 0)
        line.signal(signal.SIGKILL)
    lines = [Line(tmp_path, "resume", RUN, "trainer.max_time=3s") for _ in range(8)]
    statuses = sorted(line.wait() for line in lines)
    assert statuses == [1] * 7 + [143]
    # one that looks between the lock and the line in it hears "another process has it"
    assert sum("is in use: " in line.output for line in lines) == 7


def test_what_changed_since_the_run_began_is_said(with_workers):
    with Line(with_workers, *SMALL, *NOISY) as line:
        wait_until(lambda: last_step(with_workers) > 7)  # the first checkpoint
        line.signal(signal.SIGKILL)
    (with_workers / "users_data.py").write_text(USERS_DATA + "\n# another version\n")
    output = finish(with_workers, "resume", RUN, "trainer.max_time=1h", "epochs=31")
    assert "since the run began these have changed, and its result may too:\n  sources.users_data.py: " in output
    assert "the result would be that of an uninterrupted run without the changes below\n" in output
    resumed = record_of(with_workers / RUN)["resumed"]
    assert any("users_data.py" in line for line in resumed[-1]["changed"])
    assert "trainer.max_time: null | 1h" in resumed[-1]["changed"]
