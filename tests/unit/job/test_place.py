"""Where the relative paths of a run or a sweep start."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlprun.errors import RunError
from mlprun.job import place

CONFIG = {
    "data": {"name": "texts_of_mine", "root": "texts", "dataset": {"root": "texts"}},
    "trainer": {"weights": None},
}


def stood(path: Path, folder: Path, config=CONFIG, *, is_own=True, trust=False, data=True) -> Path:
    place._say.cache_clear()
    expected = path.resolve()
    with place.where_it_began(path, str(folder), config, is_own=is_own, trust=trust, data=data) as run:
        assert run.resolve() == expected
        return Path.cwd()


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Path:
    """`project` with data and runs, a copy of it, and `other`, where the user stands."""
    for project in ("project", "copy"):
        (tmp_path / project / "texts").mkdir(parents=True)
        (tmp_path / project / "run").mkdir()
    (tmp_path / "other" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "other")
    return tmp_path


@pytest.mark.parametrize(
    ("here", "run", "expected"),
    [
        ("project", "project/run", "project"),
        ("other", "project/run", "project"),  # from another folder
        (".", "project/run", "project"),
        ("project/texts", "project/run", "project"),
        ("other", "other/run", "project"),  # the run was moved here, and its data was not
        ("copy", "copy/run", "copy"),  # the whole project was copied here
        ("copy", "project/run", "project"),
        ("other", "copy/run", "project"),
    ],
)
def test_relative_paths_start_where_the_run_was_started(folders, monkeypatch, here, run, expected):
    monkeypatch.chdir(folders / here)
    assert stood(Path(os.path.relpath(folders / run)), folders / "project") == folders / expected
    assert Path.cwd() == (folders / here).resolve()


@pytest.mark.parametrize("folder", ["gone", "project"])
def test_a_folder_that_is_gone_or_a_strangers_is_named(folders, capsys, folder):
    assert stood(folders / "project" / "run", folders / folder, is_own=False) == folders / "other"
    said = capsys.readouterr().err
    assert "texts is not in the current folder" in said
    assert str(folders / folder) in said
    assert ("add data.root=FOLDER" if folder == "gone" else "add --trust") in said
    assert stood(folders / "project" / "run", folders / folder, is_own=False, data=False) == folders / "other"
    assert capsys.readouterr().err == ""


def test_what_is_trusted_is_opened_where_it_began(folders):
    assert stood(folders / "project" / "run", folders / "project", is_own=False, trust=True) == folders / "project"


def test_a_folder_of_another_user_is_not_the_one_that_was_signed(folders, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert stood(folders / "project" / "run", folders / "project") == folders / "other"


def test_modules_are_needed_too(folders, monkeypatch):
    (folders / "project" / "nets.py").touch()
    (folders / "other" / "texts").mkdir()
    config = {**CONFIG, "model": {"_target_": "nets.Net"}}
    assert stood(folders / "other" / "run", folders / "project") == folders / "other"
    assert stood(folders / "other" / "run", folders / "project", config) == folders / "project"
    assert stood(folders / "other" / "run", folders / "project", config, data=False) == folders / "project"


def test_a_sweep(folders, monkeypatch, capsys):
    sweep = folders / "project" / "run"
    assert stood(sweep, folders / "project", None) == folders / "project"
    assert stood(sweep, folders / "gone", None) == folders / "other"
    assert "no longer exists: relative paths start at the current folder" in capsys.readouterr().err
    with pytest.raises(RunError, match="resume it from there, or add --trust"):
        stood(sweep, folders / "project", None, is_own=False)
    monkeypatch.chdir(folders / "copy")
    assert stood(folders / "copy" / "run", folders / "project", None, is_own=False) == folders / "copy"
