"""The files of a run go to a node and come back."""

from __future__ import annotations

import json

import pytest

from mlprun.runs.directory import RunDirectory
from mlprun.runs.record import RunRecord, read_record, write_record
from mlprun.sweep.ray_files import Folder, read_files, stamps, write_files
from tests.helpers.files import write


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "there" / "run"
    write(path, {"metrics.jsonl": "{}\n", "checkpoints/last.pt": "weights", ".hydra/config.yaml": "", ".lock": ""})
    write(path, {"checkpoints/.best.pt.1.tmp": "half"})
    record = RunRecord(status="completed", config={"seed": 0}, folder="/there")
    record.is_own = True
    write_record(path / "run.json", record)
    return path


def test_all_but_the_lock_and_half_written_files_are_sent(run):
    assert sorted(read_files(run)) == [".hydra/config.yaml", "checkpoints/last.pt", "metrics.jsonl", "run.json"]
    assert read_files(run.parent) == {}


def test_a_copy_is_the_users_own_with_the_key_of_the_machine_it_is_on(run, tmp_path, monkeypatch):
    files = read_files(run)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "other"))
    assert not read_record(run / "run.json").is_own
    write_files(tmp_path / "copy", files)
    assert read_record(tmp_path / "copy" / "run.json").is_own


def test_what_comes_back_replaces_the_run_and_names_the_folder_where_it_was_typed(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "here", {"checkpoints/step_1.pt": "gone by now", ".lock": "ours"})
    files = read_files(run)
    Folder(str(tmp_path), {}).write(tmp_path / "here", files, [*stamps(run)])
    assert stamps(tmp_path / "here").keys() == stamps(run).keys()
    record = RunDirectory(tmp_path / "here").read()
    assert (record["folder"], record.is_own, record.status) == (str(tmp_path), True, "completed")
    assert json.loads(files["run.json"])["folder"] == "/there"


def test_no_file_is_written_outside_the_run(tmp_path):
    with pytest.raises(ValueError, match="outside the run"):
        write_files(tmp_path / "run", {"../x": b""})
