"""Runs, sweeps and data that lie elsewhere now: every command finds what it needs, or says what is missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.lines import finish
from tests.helpers.runs import record_of

TRAIN = ["data=text_folder", "data.root=texts", "model=embedding_average", "epochs=1", "writer=jsonl"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "project"
    for kind in ("neg", "pos"):
        (folder / "texts" / kind).mkdir(parents=True)
        for number in range(30):
            (folder / "texts" / kind / f"{number}.txt").write_text(f"text {number} is {kind}\n")
    finish(folder, *TRAIN, "hydra.run.dir=run")
    return folder


@pytest.fixture
def moved(project, tmp_path) -> Iterator[Path]:
    """The project in another folder, and its data in a third one."""
    shutil.copytree(project, tmp_path / "project")
    project.rename(project.with_name("hidden"))
    (tmp_path / "store").mkdir()
    (tmp_path / "project" / "texts").rename(tmp_path / "store" / "texts")
    yield tmp_path
    project.with_name("hidden").rename(project)


def test_a_run_is_opened_from_another_folder(project, mlprun):
    result = mlprun("eval", str(project / "run"))
    assert (result.status, f"in {project}" in result.err) == (0, True), result.err
    assert mlprun("predict", str(project / "run"), "--index", "0").status == 0


def test_data_that_moved_are_found(moved, mlprun, monkeypatch):
    run = "project/run"
    monkeypatch.chdir(moved)
    scores = [mlprun("eval", run, "data.root=store/texts").out, mlprun("eval", run).out]
    assert ["test/loss" in score for score in scores] == [True, False]
    monkeypatch.setenv("MLPRUN_DATA", "store")
    assert mlprun("eval", run).out == scores[0]
    assert "test 1" in mlprun("predict", run, "--index", "1", "data.root=store/texts").out
    assert "only data.root=FOLDER can" in mlprun("eval", run, "epochs=2").err


def test_a_run_is_resumed_with_data_that_moved_and_not_with_others(moved, mlprun):
    shutil.copytree(moved / "store" / "texts", moved / "others")
    (moved / "others" / "neg" / "7.txt").write_text("text 7 is new\n")
    before = (moved / "project" / "run" / "run.json").read_bytes()
    result = mlprun("resume", "project/run", "epochs=2", "data.root=others")
    assert (result.status, "others: does not hold the data that the run was trained on" in result.err) == (2, True)
    assert (moved / "project" / "run" / "run.json").read_bytes() == before
    assert mlprun("resume", "project/run", "epochs=2", "data.root=store/texts").status == 0
    record = record_of(moved / "project" / "run")
    assert record["config"]["data"]["dataset"]["root"] == str(moved / "store" / "texts")
    assert record["status"] == "completed"


def test_a_sweep_goes_on_where_its_project_is_now(tmp_path, mlprun_process):
    words = ["data=iris", "model=linear", "epochs=1", "seed=0,1", "sweep.name=s", "sweep.num_workers=1"]
    (tmp_path / "old").mkdir()
    finish(tmp_path / "old", "-m", *words)
    (first, second) = sorted((tmp_path / "old" / "outputs" / "sweeps" / "s").glob("seed=*"))
    shutil.rmtree(second)
    result = mlprun_process("resume", "old/outputs/sweeps/s")  # from another folder
    assert (result.status, second.is_dir()) == (0, True), result.err
    shutil.rmtree(first)
    (tmp_path / "old").rename(tmp_path / "new")
    result = mlprun_process("resume", "new/outputs/sweeps/s")
    assert (result.status, len([*tmp_path.glob("new/outputs/sweeps/s/seed=*")])) == (0, 2), result.err
    assert f"{tmp_path / 'old'}, where the sweep was started, no longer exists" in result.err
