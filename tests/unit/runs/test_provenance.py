"""What a run was made with: the code, committed or not, the packages, the machine."""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlprun
from mlprun.runs.provenance import collect, mlprun_state, sources
from tests.helpers.files import REPOSITORY, write


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_what_is_collected(tmp_path):
    found = collect(tmp_path, tmp_path / "code.patch")
    assert list(found) == ["mlprun", "git", "packages", "host"]
    assert {"python", "torch", "numpy", "hydra-core"} <= set(found["packages"])
    assert found["host"]["num_cpus"] == os.cpu_count()


SAME, OTHER = True, False


# ------------------------------------------------------------------------------------------------- mlprun


PACKAGE = {
    "mlprun/__init__.py": "__version__ = '9'\n",
    "mlprun/models/vision.py": "pixels\n",
    "mlprun/course/conf/data/tones.yaml": "name: tones\n",
    "conf/config.yaml": "seed: 0\n",
    "conf/optim/adam.yaml": "lr: 0.1\n",
}


@pytest.fixture
def checkout(tmp_path) -> Path:
    write(tmp_path / "checkout", PACKAGE)
    return tmp_path / "checkout"


def test_a_wheel_and_its_checkout_are_the_same_source(checkout, tmp_path):
    wheel = tmp_path / "site-packages"
    shutil.copytree(checkout / "mlprun", wheel / "mlprun")
    shutil.copytree(checkout / "conf", wheel / "mlprun" / "conf")
    write(wheel, {"conf/config.yaml": "of another package\n"})
    found = mlprun_state(wheel / "mlprun")
    assert found == mlprun_state(checkout / "mlprun")
    assert found["version"] == mlprun.__version__
    assert found["source"].startswith("sha256:")


def move(checkout: Path, old: str, new: str) -> None:
    (checkout / old).rename(checkout / new)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: write(c, {"mlprun/models/vision.py": "Pixels\n"}), OTHER),
        (lambda c: write(c, {"conf/optim/adam.yaml": "lr: 0.2\n"}), OTHER),
        (lambda c: write(c, {"mlprun/course/conf/data/tones.yaml": "name: notes\n"}), OTHER),
        (lambda c: write(c, {"mlprun/new.py": ""}), OTHER),
        (lambda c: write(c, {"conf/model/new.yaml": ""}), OTHER),
        (lambda c: move(c, "mlprun/models/vision.py", "mlprun/models/tabular.py"), OTHER),
        (lambda c: move(c, "conf/optim/adam.yaml", "conf/adam.yaml"), OTHER),
        (lambda c: write(c, {"README.md": "", "tests/test_it.py": "", "setup.py": ""}), SAME),
        (lambda c: write(c, {"mlprun/__pycache__/a.cpython-311.pyc": "", "conf/notes.txt": ""}), SAME),
        (lambda c: (c / "mlprun" / ".#vision.py").symlink_to("me@here.123"), SAME),  # as Emacs locks a file
    ],
)
def test_the_source_is_the_code_and_its_yaml(checkout, change, told):
    before = mlprun_state(checkout / "mlprun")["source"]
    change(checkout)
    assert (mlprun_state(checkout / "mlprun")["source"] == before) is told


@pytest.mark.parametrize(
    ("change", "dirty"),
    [
        ({}, False),
        ({"README.md": "changed\n", "tests/new.py": ""}, False),
        ({"mlprun/models/vision.py": "Pixels\n"}, True),
        ({"conf/optim/adam.yaml": "lr: 0.2\n"}, True),
        ({"mlprun/new.py": ""}, True),
    ],
)
def test_a_checkout_has_a_commit(repository, monkeypatch, change, dirty):
    write(repository.path, PACKAGE)
    repository.git("add", "--all")
    repository.git("commit", "-qm", "mlprun")
    write(repository.path, change)
    with monkeypatch.context() as patched:
        patched.setenv("GIT_DIR", "/of/another/repository")  # as in one's hooks
        found = mlprun_state(repository.path / "mlprun")
    assert (found["commit"], found["dirty"]) == (repository.git("rev-parse", "HEAD").strip(), dirty)


@pytest.mark.parametrize("where", ["installed", "no commit yet", "no git"])
def test_no_commit_to_tell(repository, monkeypatch, where):
    """A repository that merely holds the environment that mlprun is installed in is not mlprun's own."""
    package = repository.path / (".venv/lib/mlprun" if where == "installed" else "mlprun")
    write(package, {"__init__.py": ""})
    if where == "no commit yet":
        shutil.rmtree(repository.path / ".git")
        repository.git("init", "-q")
    if where == "no git":
        monkeypatch.setenv("PATH", str(repository.path))
    assert set(mlprun_state(package)) == {"version", "source"}


# ------------------------------------------------------------------------------------------------ sources


@pytest.fixture
def project(tmp_path, monkeypatch) -> Iterator[Path]:
    """A folder of the user's, which the command is typed in."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def imported(name: str, **attributes: object) -> None:
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(attributes)


def test_the_users_own_modules_are_recorded(project):
    """Of all that is imported, what lies in the folder and was not installed there."""
    files = {"nets/__init__.py": "", "nets/wide.py": "width = 9\n", "unused.py": "", ".venv/bin/script": "shim\n"}
    installed = {".venv/lib/python3.11/enum.py": "", ".venv/lib/python3.11/site-packages/numpy/__init__.py": ""}
    write(project, files | installed)
    for name in {*files, *installed} - {"unused.py"}:
        imported(f"odd.{name}", __file__=str(project / name))
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "prefix", str(project / ".venv"))
        assert sources(project) == {"nets/__init__.py": sha256(b""), "nets/wide.py": sha256(b"width = 9\n")}


def test_a_module_is_recorded_once_it_is_imported(project, monkeypatch):
    write(project, {"losses/focal.py": "gamma = 2\n"})
    monkeypatch.syspath_prepend(project)
    assert sources(project) == {}
    __import__("losses.focal")  # losses is a namespace package: it has no file
    assert sources(project) == {"losses/focal.py": sha256(b"gamma = 2\n")}
    assert sources(project / "losses") == {"focal.py": sha256(b"gamma = 2\n")}


def test_mlprun_itself_is_not_the_users_own(project, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    importlib.import_module("hydra_plugins.mlprun_pool")  # as Hydra does in every run
    assert not {name for name in sources(Path.cwd()) if name.startswith(("mlprun/", "hydra_plugins/"))}
    assert "tests/unit/runs/test_provenance.py" in sources(Path.cwd())


class Lazy(types.ModuleType):
    def __getattribute__(self, name: str) -> object:
        raise ImportError(f"{name} would need a package that is not installed")


def test_modules_without_a_readable_file_are_passed_over(project):
    write(project, {"net.py": "", "_ops.py": ""})
    (project / "folder.py").mkdir()
    odd = {"vanished": str(project / "vanished.py"), "folder": str(project / "folder.py"), "namespace": None}
    odd |= {"number": 3, "ops": "_ops.py", "zipped": str(project / "net.py" / "zipped.py")}
    for name, file in odd.items():
        imported(f"odd.{name}", __file__=file)
    imported("odd.without")
    sys.modules |= {"odd.none": None, "odd.lazy": Lazy("lazy"), "odd.object": object()}
    imported("odd.net", __file__=str(project / "net.py"))
    assert set(sources(project)) == {"net.py"}
