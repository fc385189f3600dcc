"""`mlprun reproduce` runs a run again and finds it identical, or says where the two differ and why."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlprun.runs import checkpoint
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import assert_identical, last_step, record_of, rows_of
from tests.helpers.users_code import USERS

OWN_DATA = ["data=custom", "data.dataset._target_=users.Noisy", "data.input_shape=[6]", "data.num_outputs=3"]
OWN = [*OWN_DATA, "model=custom", "model._target_=users.Net", "steps=20", "logging.every=5 steps"]
RUN = ["hydra.run.dir=run"]
AT_THE_END = ["data.limit=32", "data.limit_eval=16", "steps=2", "eval_every=2 steps", "checkpoint.every=2 steps"]
SHORT = ["data.limit=200", "data.limit_eval=64", "epochs=3", "logging.every=3 steps"]


def files(run: Path) -> dict[Path, tuple[int, bytes]]:
    """All that a run's directory holds, with the time of its last change."""
    return {p: (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"") for p in [run, *run.rglob("*")]}


def edit(run: Path, old: str, new: str) -> None:
    """Change run.json by hand."""
    file = run / "run.json"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def reproduce(folder: Path, run: str = "run", *words: str, status: int) -> str:
    """The verdict of `mlprun reproduce`, which leaves the original as it was."""
    original = (folder / run).resolve()
    before = files(original)
    with Line(folder, "reproduce", run, *words) as line:
        assert line.wait() == status, line.output
        output = line.output
    assert files(original) == before
    assert "Traceback" not in output
    return output


def again(folder: Path) -> Path:
    """The newest reproduction in a folder."""
    return max(folder.glob("outputs/*/*_again_*"), key=lambda run: run.stat().st_mtime_ns)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([*SHORT, "model.dropout=0.3", "data.augment.crop=1"], id="mlp, dropout, augmentation"),
        pytest.param([*AT_THE_END, "model=cnn", "trainer.precision=bf16", "trainer.num_threads=2"], id="cnn, bf16"),
        pytest.param(["model=resnet18", "optim=sgd", *AT_THE_END, "batch_size=4", "steps=1", "checkpoint.keep=0"],
                     id="resnet18"),
        pytest.param([*OWN, "optim=muon", "trainer.accumulate=2"], id="a model of one's own"),
        pytest.param([*OWN_DATA, "data.num_workers=2", "epochs=2", "model.batch_norm=true"], id="two workers"),
    ],
)  # fmt: skip
def test_a_run_of_each_family_is_identical(folder, words):
    finish(folder, *RUN, *words)
    output = reproduce(folder, status=0)
    rows = len((folder / "run" / "metrics.jsonl").read_text().splitlines())
    verdict = f"identical: {rows} rows of metrics.jsonl, the test scores, and every bit of best.pt and last.pt"
    assert output.splitlines()[-2:] == [f"again   {again(folder).relative_to(folder)}", verdict]
    assert_identical(folder / "run", again(folder))  # and so it is
    assert record_of(again(folder))["reproduces"] == "run"
    assert record_of(again(folder))["command"] == "mlprun reproduce run"


def test_a_run_that_was_killed_and_resumed_is_identical_too(folder):
    words = [*RUN, *OWN_DATA, "epochs=12", "eval_every=7 steps", "checkpoint.every=3 steps", "logging.every=2 steps"]
    with Line(folder, *words) as line:
        wait_until(lambda: last_step(folder) >= 20)
        line.signal(signal.SIGKILL)
    finish(folder, "resume", "run", "trainer.max_time=1h", "checkpoint.every=5 steps")
    assert record_of(folder / "run")["resumed"][0]["step"] > 0
    assert "identical: " in reproduce(folder, status=0)


def test_a_run_of_a_sweep_and_a_reproduction_are_runs_like_any_other(folder):
    with Line(folder, "-m", "debug=fast", "optim.lr=0.1,0.01", "hydra.sweep.dir=sweep") as line:
        assert line.wait() == 0, line.output
    run = next(run.parent for run in sorted((folder / "sweep").glob("**/run.json")))
    assert "identical: " in reproduce(folder, str(run.relative_to(folder)), status=0)
    first = again(folder)
    assert re.fullmatch(rf"\d\d-\d\d-\d\d_{re.escape(run.name)}_again_[0-9a-f]{{4}}", first.name)
    assert "identical: " in reproduce(folder, str(first.relative_to(folder)), status=0)
    assert again(folder) != first
    assert again(folder).name.count("_again_") == 1


def test_a_run_that_lies_elsewhere(folder, tmp_path):
    """Its own classes and its data are found in the folder where it was started, wherever the run itself is."""
    images(folder / "pictures")
    words = ["data=image_folder", "data.root=pictures", "data.input_shape=[3,4,4]", "epochs=2"]
    finish(folder, *RUN, *words, "model=linear")
    shutil.move(folder / "run", tmp_path / "run")
    assert "identical: " in reproduce(folder, "../run", status=0)

    (tmp_path / "elsewhere").mkdir()
    assert "identical: " in reproduce(tmp_path / "elsewhere", "../run", status=0)
    assert again(tmp_path / "elsewhere").is_dir()
    shutil.rmtree(tmp_path / "elsewhere" / "outputs")
    folder.rename(tmp_path / "moved")
    output = reproduce(tmp_path / "elsewhere", "../run", status=1)
    assert "pictures: no such folder" in output
    assert output.endswith(f"the run was started in {folder}: its own classes and relative paths are found there\n")
    assert list((tmp_path / "elsewhere").glob("outputs/*/*")) == []  # what never began leaves nothing


def images(root: Path) -> None:
    """Two classes of tiny pictures."""
    draw = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 8)):
        for label in ("dark", "light"):
            (root / part / label).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 256, (4, 4, 3), dtype=np.uint8) // 2 + 127 * (label == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / label / f"{i}.png")


def test_a_run_on_another_device_or_with_other_packages_says_so(folder, trained):
    trained("debug=fast", "model=linear", into=folder)
    edit(folder / "run", f'"torch": "{version("torch")}"', '"torch": "2.14.0"')
    edit(folder / "run", '"type": "cpu"', '"type": "cuda:77"')
    output = reproduce(folder, status=0)
    assert "warning: the run was on cuda:77 (cpu), which is not available" in output
    verdict, title, *changed = output[output.index("identical: ") :].splitlines()
    assert (verdict.startswith("identical: "), title) == (True, "although these differ:")
    assert changed == [
        f"  environment: packages.torch: 2.14.0 | {version('torch')}",
        "  environment: device.type: cuda:77 | cpu",
    ]


def test_a_changed_module_is_named_with_the_step(folder):
    finish(folder, *RUN, *OWN)
    (folder / "users.py").write_text(USERS.replace("gain = 1.0", "gain = 1.001"))
    output = reproduce(folder, status=1)
    verdict = output[output.index("different: ") :].splitlines()
    assert verdict[0] == "different: they differ from step 14 (3 equal rows before it)"
    rows = rows_of(folder / "run")
    words = [line.split() for line in verdict]
    assert words[1] == ["step", "14", "original", "again"]
    assert words[2][1] == str(rows[3][words[2][0]])
    assert words[2][1] != words[2][2]
    assert ["result", "original", "again"] in words
    assert any(line.startswith("  last.pt: model.first.weight, ") for line in verdict)
    assert any(re.fullmatch(r"  code: sources\.users\.py: sha256:\w{12} \| sha256:\w{12}", line) for line in verdict)
    assert not any("the recorded code" in line for line in verdict)


def test_a_model_that_does_not_repeat_itself(folder):
    finish(folder, *RUN, *OWN, "model._target_=users.Restless", "trainer.deterministic=false")
    output = reproduce(folder, status=1)
    assert "different: they differ from step 5\n" in output
    assert "the recorded code, environment and data are the same, so the run is not deterministic" in output
    assert "trainer.deterministic=false: " in output
    assert "users.Noisy, users.Restless: does it use randomness without a seed (os.urandom" in output


def test_data_that_changed(folder):
    """Of a class of one's own the test examples are compared; of mlprun's own data sets the files, too."""
    table = [*RUN, *OWN[1:], "data=custom", "data.dataset._target_=users.Table", "+data.dataset.path=table.txt"]
    numbers = np.random.default_rng(0).normal(size=(90, 6))
    np.savetxt(folder / "table.txt", numbers)
    finish(folder, *table)
    np.savetxt(folder / "table.txt", numbers + 0.01)
    output = reproduce(folder, status=1)
    for name in ("table.txt", "examples.test"):
        assert re.search(rf"\n  data: {name}: sha256:\w{{12}} \| sha256:\w{{12}}\n", output)

    images(folder / "pictures")
    shutil.rmtree(folder / "run")
    words = ["data=image_folder", "data.root=pictures", "data.input_shape=[3,4,4]", "epochs=2", "model=linear"]
    finish(folder, *RUN, *words)
    Image.new("RGB", (4, 4)).save(folder / "pictures" / "train" / "light" / "new.png")
    output = reproduce(folder, status=1)
    assert re.search(r"\n  data: train: sha256:\w{12} \| sha256:\w{12}\n", output)


def test_a_record_that_was_edited(folder):
    finish(folder, *RUN, *SHORT, "model=linear")
    edit(folder / "run", '"num_threads": null', '"num_threads": 2')
    output = reproduce(folder, status=1)
    causes = output[output.index("possible causes:") :]
    assert "  run.json is not the config of the run: trainer.num_threads: null | 2\n" in causes
    assert "  environment: device.num_threads: 1 | 2\n" in causes


def test_the_threads_of_the_record_are_taken(folder, trained):
    """Not those that the rule would choose here: the number decides the last bits."""
    trained("debug=fast", "model=linear", into=folder)
    edit(folder / "run", '"num_threads": 1', '"num_threads": 2')
    with Line(folder, "reproduce", "run") as line:
        line.wait()
    assert record_of(again(folder))["device"]["num_threads"] == 2


@pytest.mark.parametrize(
    ("words", "status"),
    [
        pytest.param(["optim.lr=0"], 0, id="constant"),  # its best is the first evaluation, before it was made longer
        pytest.param(["scheduler=cosine"], 1, id="cosine"),
    ],
)
def test_a_run_that_was_made_longer(folder, words, status):
    """It is repeated in one go, which is the same only where the schedule does not follow the length."""
    finish(folder, *RUN, *SHORT, *words, "model=linear")
    finish(folder, "resume", "run", "epochs=6")
    output = reproduce(folder, status=status)
    assert ("identical: " in output) == (status == 0)
    assert ("  made longer at step 21: epochs: 3 | 6; until then it ran with its old length" in output) == (status == 1)


def test_the_uncommitted_changes_can_be_looked_at(folder):
    finish(folder, *RUN, *OWN)
    git(folder, "init", "-q")
    git(folder, "add", "users.py")
    git(folder, "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-qm", "first")
    (folder / "users.py").write_text(USERS.replace("gain = 1.0", "gain = 1.001"))
    finish(folder, *OWN, "hydra.run.dir=dirty")
    # of another length: Python takes its bytecode for good if the file has the same size and the same second
    (folder / "users.py").write_text(USERS.replace("gain = 1.0", "gain = 1.0025"))
    output = reproduce(folder, "dirty", status=1)
    assert re.search(r"\n  code: git\.changes: sha256:\w{12} \| sha256:\w{12}\n", output)
    diff = f"    diff dirty/code.patch {again(folder).relative_to(folder)}/code.patch"
    assert diff in output.splitlines()


def git(folder: Path, *words: str) -> None:
    assert os.spawnvp(os.P_WAIT, "git", ["git", "-C", str(folder), *words]) == 0


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "checkpoints" / "best.pt").unlink(), "there is no checkpoint run/checkpoints/best.pt"),
        (lambda run: (run / "checkpoints" / "last.pt").write_bytes(b""), "checkpoint run/checkpoints/last.pt is dam"),
        (lambda run: (run / "metrics.jsonl").unlink(), "run/metrics.jsonl cannot be read"),
        (lambda run: (run / "metrics.jsonl").open("a").write("{"), "run/metrics.jsonl is damaged: line"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_said_first_and_the_rest_compared(folder, trained, damage, said):
    trained("debug=fast", "model=linear", into=folder)
    damage(folder / "run")
    output = reproduce(folder, status=1)
    assert output.startswith(f"warning: {said}")
    verdict = output[output.index("no difference, but not all could be compared:") :].splitlines()
    assert verdict[1].startswith(f"  not compared: {said}")
    assert len(verdict) == 2


def test_bits_that_flipped_in_a_whole_checkpoint_are_found(folder, trained):
    trained("debug=fast", "model=linear", into=folder)
    file = folder / "run" / "checkpoints" / "best.pt"
    state = checkpoint.load(file)
    state["model"]["output.bias"][3] = torch.nextafter(state["model"]["output.bias"][3], torch.tensor(9.0))
    checkpoint.save(state, file)
    output = reproduce(folder, status=1)
    assert "different\n  best.pt: model.output.bias\npossible causes:\n" in output


def test_only_a_completed_run_can_be_compared(folder):
    with Line(folder, *RUN, *OWN_DATA, "epochs=1000") as line:
        wait_until(lambda: last_step(folder) > 0)
        output = reproduce_running(folder)
        assert "error: run is 'running', and only a completed run can be compared" in output
        line.signal(signal.SIGTERM)
        assert line.wait() == 143
    output = reproduce(folder, status=1)
    assert output == (
        "error: run is 'interrupted', and only a completed run can be compared\n  finish it first: mlprun resume run\n"
    )
    with Line(folder, "optim=sgd", "optim.lr=1e12", "hydra.run.dir=a run") as line:
        line.wait()
    output = reproduce(folder, "a run", status=1)
    assert output.startswith("error: a run is 'failed' (step 1: loss or gradient is not finite (loss ")
    assert output.endswith("  finish it first: mlprun resume 'a run'\n")
    assert not (folder / "outputs").exists()


def reproduce_running(folder: Path) -> str:
    with Line(folder, "reproduce", "run") as line:
        assert line.wait() == 1
        return line.output


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        ([], 2, "the following arguments are required: RUN_DIR"),
        (["nothing"], 1, "nothing is not a run: it has no run.json"),
        (["run", "epochs=3"], 2, "unrecognized arguments: epochs=3"),
        (["damaged"], 1, "error: damaged/run.json is damaged: it has no config and no metrics"),
        (["threads"], 1, "error: threads/run.json is damaged: it has no num_threads"),
    ],
)
def test_what_is_no_run(mlprun, tmp_path, words, status, said):
    records = {"damaged": {}, "threads": {"config": {}, "metrics": {"val/loss": 1.0}, "device": {"type": "cpu"}}}
    for name, values in records.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps({"status": "completed", **values}))
    result = mlprun("reproduce", *words)
    assert (result.status, said in result.err) == (status, True), result.err
    assert not (tmp_path / "outputs").exists()


def test_the_new_run_is_not_written_into_the_old_one(mlprun, tmp_path, monkeypatch):
    assert mlprun("debug=fast", "model=linear", *RUN).status == 0
    before = files(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run" / "checkpoints")
    result = mlprun("reproduce", "..")
    assert result.status == 1
    assert result.err.startswith("error: .. contains the current folder")
    assert result.err.endswith(f": cd {tmp_path}\n")
    assert files(tmp_path / "run") == before


def test_a_foreign_run_runs_nothing_without_trust(folder):
    finish(folder, *RUN, *OWN)
    (folder / "run" / "theirs.py").write_text(USERS + "open('ran', 'w')\n")
    edit(folder / "run", "users.", "run.theirs.")
    output = reproduce(folder, status=1)
    assert "error: data.dataset._target_=run.theirs.Noisy: " in output
    assert "--trust" in output
    assert not (folder / "ran").exists()
    assert not (folder / "outputs").exists()
    with Line(folder, "reproduce", "run", "--trust") as line:
        assert line.wait() == 1
        assert "run.json is not the config of the run: data.dataset._target_: users.Noisy | " in line.output
    assert (folder / "ran").exists()


def test_a_reproduction_that_is_stopped_can_be_finished(folder):
    finish(folder, *RUN, *OWN_DATA, "epochs=30", "checkpoint.every=3 steps")
    with Line(folder, "reproduce", "run") as line:
        wait_until(lambda: "\nstep " in line.output)
        line.signal(signal.SIGTERM)
        assert line.wait() == 143
        assert f"resume  mlprun resume {again(folder).relative_to(folder)}" in line.output
    finish(folder, "resume", str(again(folder).relative_to(folder)))
    assert_identical(folder / "run", again(folder))
