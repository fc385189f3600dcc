"""`mlprun new`, and lines typed in a project."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.helpers.files import write
from tests.helpers.runs import record_of


@pytest.fixture
def project(mlprun, tmp_path, monkeypatch):
    """A new project, where the test stands."""
    assert mlprun("new", "Sea-Waves").status == 0
    monkeypatch.chdir(tmp_path / "Sea-Waves")
    return tmp_path / "Sea-Waves"


def test_it_passes_its_own_test_and_has_eight_short_files(project):
    files = [path for path in project.rglob("*") if path.is_file()]
    assert len(files) == 8
    assert max(len(file.read_text().splitlines()) for file in files) < 70
    assert not [file for file in files if "NAME" in file.read_text() or "-tpl" in file.name]
    for command in (["pytest", "-q", "-p", "no:cacheprovider"], ["ruff", "check", "--line-length=120", "."]):
        done = subprocess.run([sys.executable, "-m", *command], cwd=project, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_and_sweeps_without_config_dir_from_any_of_its_folders(project, mlprun, monkeypatch):
    assert mlprun("experiment=waves", "debug=fast").status == 0
    (run,) = project.glob("outputs/*/*_waves_waves_adamw_*")
    assert mlprun("eval", str(run)).status == 0
    assert "your own\n  waves" in mlprun("experiments").out
    assert "3 classes" in mlprun("inspect", "experiment=waves", "debug=fast").out
    line = ["-m", "experiment=waves", "debug=fast", "seed=0,1", "sweep.name=two"]
    assert mlprun(*line, "sweep.dry_run=true").status == 0
    assert "curves  tensorboard --logdir outputs\n" in mlprun("experiment=waves", "debug=fast").out

    del sys.modules["sea_waves"]
    monkeypatch.chdir(project / "tests")
    away = mlprun("experiment=waves", "debug=fast")
    assert away.status == 2
    assert "it is in the project's folder: cd .., or install the project: pip install -e .." in away.err
    monkeypatch.setattr(sys, "path", [*sys.path, str(project)])  # as installed
    assert "curves  tensorboard --logdir ../outputs\n" in mlprun("experiment=waves", "debug=fast").out
    assert not list((project / "tests").glob("outputs"))


def test_a_sweep_records_the_folder_and_resumes_without_the_project(project, mlprun):
    line = ["-m", "experiment=waves", "debug=fast", "seed=0,1", "sweep.name=two"]
    first = mlprun(*line)
    assert first.status == 0, first.err
    (project / "pyproject.toml").write_text("[tool.mlprun]\nconf = 'gone'\n")
    assert mlprun("resume", "outputs/sweeps/two").status == 0
    assert mlprun(*line).status == 2


@pytest.mark.parametrize(
    ("words", "lr"),
    [([], 0.5), (["project=null"], 0.001), (["optim.lr=0.25"], 0.25), (["experiment=waves"], 0.01)],
)
def test_defaults_are_what_a_line_starts_from(project, mlprun, words, lr):
    settings = (project / "pyproject.toml").read_text().replace('# defaults = "base"', 'defaults = "base"')
    base = "# @package _global_\ndefaults:\n  - override /data: iris\n  - override /model: linear\noptim:\n  lr: 0.5\n"
    write(project, {"pyproject.toml": settings, "conf/project/base.yaml": base})
    assert mlprun(*words, "debug=fast", "hydra.run.dir=run").status == 0
    record = record_of(project / "run")
    assert record["config"]["optim"]["lr"] == lr
    assert record["config"]["data"]["name"] == {0.01: "waves", 0.001: "digits"}.get(lr, "iris")
    assert ("project=base" in record["overrides"]) == (words != ["project=null"])


@pytest.mark.parametrize(
    ("folder", "problem"),
    [
        ("full", "new full: exists and is not empty\n  name a new folder"),
        ("file", "new file: exists and is not empty"),
        ("2waves", "no name that Python can import\n  choose a name of letters, digits and _"),
        ("class", "no name that Python can import"),
        ("torch", "new torch: there is a module of that name\n  choose another"),
        ("tests", "new tests: there is a module of that name"),
        ("file/in", "new file/in: "),
    ],
)
def test_a_folder_that_will_not_do_is_refused(mlprun, tmp_path, folder, problem):
    write(tmp_path, {"full/a": "", "file": ""})
    refused = mlprun("new", folder)
    assert refused.status in (1, 2)
    assert problem in refused.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full"]


def test_an_empty_folder_and_the_current_one_will_do(mlprun, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert mlprun("new", ".").status == 0
    assert (tmp_path / "empty" / "empty" / "__init__.py").is_file()
