"""What a run was made with: the code, committed or not, the packages, the machine."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import mlprun
from mlprun.runs import provenance
from mlprun.runs.provenance import collect, git_state, mlprun_state, sources
from tests.helpers.files import REPOSITORY, write


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def test_what_is_collected(tmp_path):
    found = collect(tmp_path, tmp_path / "code.patch")
    assert list(found) == ["mlprun", "git", "packages", "host"]
    assert {"python", "torch", "numpy", "hydra-core"} <= set(found["packages"])
    assert found["host"]["num_cpus"] == os.cpu_count()


# ---------------------------------------------------------------------------------------------------- git


class Repository:
    """A repository of one commit, with a file of each sort."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.git("init", "-q")
        for key, value in {"user.name": "a", "user.email": "a@b", "commit.gpgsign": "false"}.items():
            self.git("config", key, value)
        self.write("model.py", "one\ntwo\nthree\n")
        self.write("old.py", "old\n")
        self.write(".gitignore", "*.log\ndata/\n")
        self.write("sub/deep.py", "deep\n")
        self.git("add", "--all")
        self.git("commit", "-qm", "first")

    def git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments], check=True, capture_output=True, text=True
        ).stdout

    def write(self, name: str, content: str | bytes) -> None:
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)

    def change(self) -> None:
        """A change of every sort: modified, removed, new, binary, ignored, each also staged, or staged but gone."""
        self.write("model.py", "one\nTWO\nthree\n")
        self.write("sub/deep.py", "staged\n")
        self.write("new/staged.py", "staged\n")
        self.write("new/gone.py", "gone\n")
        self.write("kept.log", "ignored, but staged\n")
        self.git("add", "--force", "sub/deep.py", "new", "kept.log")
        (self.path / "new/gone.py").unlink()
        (self.path / "old.py").unlink()
        self.write("new/fresh file.py", "fresh\n")
        self.write("weights.bin", bytes(range(256)))
        self.write("train.log", "ignored\n")
        self.write("data/big.csv", "ignored\n")

    def content(self) -> dict[str, bytes]:
        files = (p for p in self.path.rglob("*") if p.is_file() and ".git" not in p.parts)
        return {str(p.relative_to(self.path)): p.read_bytes() for p in files}


@pytest.fixture
def repository(tmp_path, monkeypatch) -> Repository:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    return Repository(tmp_path / "repository")


def test_a_clean_repository(repository, tmp_path):
    repository.write("train.log", "ignored\n")
    state = git_state(repository.path, tmp_path / "code.patch")
    assert state == {"commit": repository.git("rev-parse", "HEAD").strip(), "dirty": False}
    assert not (tmp_path / "code.patch").exists()


CONFIGURED = {
    "as git comes": {},
    "colours": {"color.ui": "always"},
    "no prefix": {"diff.noprefix": "true"},
    "mnemonic prefix": {"diff.mnemonicPrefix": "true"},
    "external diff": {"diff.external": "false"},
    "relative": {"diff.relative": "true"},
    "untracked hidden": {"status.showUntrackedFiles": "no"},
    "context": {"diff.context": "0"},
}


@pytest.mark.parametrize("configured", CONFIGURED)
@pytest.mark.parametrize("below", ["", "sub"])
def test_the_patch_brings_the_code_back(repository, tmp_path, below, configured):
    """Applied to the commit, from wherever the run was started and whatever the user's git is set to."""
    repository.change()
    for key, value in CONFIGURED[configured].items():
        repository.git("config", key, value)
    state = git_state(repository.path / below, tmp_path / "code.patch")
    changes = sha256((tmp_path / "code.patch").read_bytes())
    assert state == {"commit": repository.git("rev-parse", "HEAD").strip(), "dirty": True, "changes": changes}
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", str(repository.path), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply", str(tmp_path / "code.patch")], check=True)
    expected = {n: c for n, c in repository.content().items() if n not in ("train.log", "data/big.csv")}
    restored = Repository.__new__(Repository)
    restored.path = again
    assert restored.content() == expected
    assert {"new/fresh file.py", "new/staged.py", "kept.log", "weights.bin"} <= set(expected)


SAME, OTHER = True, False


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (lambda repository: None, SAME),
        (lambda repository: repository.git("add", "--all"), SAME),  # staged or not, the code is the same
        (lambda repository: repository.git("config", "diff.context", "0"), SAME),
        (lambda repository: repository.write("train.log", "ignored, too\n"), SAME),
        (lambda repository: repository.write("model.py", "one\ntwo\nTHREE\n"), OTHER),
        (lambda repository: repository.write("weights.bin", b"other"), OTHER),
        (lambda repository: repository.write("another.py", ""), OTHER),
        (lambda repository: (repository.path / "sub/deep.py").unlink(), OTHER),
        (lambda repository: (repository.path / "model.py").chmod(0o755), OTHER),
    ],
)
def test_records_with_the_same_uncommitted_changes_say_so(repository, tmp_path, then, told):
    repository.change()
    before = git_state(repository.path, tmp_path / "code.patch")["changes"]
    then(repository)
    assert (git_state(repository.path, tmp_path / "code.patch")["changes"] == before) is told


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
def test_a_file_name_need_not_be_utf8(repository, tmp_path, monkeypatch):
    name = os.fsdecode(b"na\xefve.py")
    repository.write(name, "fresh\n")
    assert "patch" not in git_state(repository.path, tmp_path / "code.patch")
    assert "+fresh" in (tmp_path / "code.patch").read_text()
    monkeypatch.setattr(provenance, "LARGEST_UNTRACKED", 3)
    left_out = git_state(repository.path, tmp_path / "code.patch")["left_out"]
    assert json.loads(json.dumps(left_out)) == [name]


def test_an_untracked_file_alone_makes_it_dirty(repository, tmp_path):
    repository.git("config", "status.showUntrackedFiles", "no")
    repository.write("fresh.py", "fresh\n")
    assert git_state(repository.path, tmp_path / "code.patch")["dirty"] is True
    assert "fresh.py" in (tmp_path / "code.patch").read_text()


def test_recording_leaves_the_repository_alone(repository, tmp_path):
    repository.change()

    def look() -> tuple[bytes, str, list[str]]:
        git_folder = repository.path / ".git"
        files = sorted(str(p) for p in git_folder.rglob("*") if p.is_file())
        return (git_folder / "index").read_bytes(), repository.git("--no-optional-locks", "status", "-s"), files

    before = look()
    git_state(repository.path, tmp_path / "code.patch")
    assert look() == before


def test_a_patch_too_large_is_named_and_not_kept(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "LARGEST_PATCH", 1000)
    repository.write("weights.bin", os.urandom(5000))
    state = git_state(repository.path, tmp_path / "code.patch")
    assert state["dirty"] is True
    assert state["patch"].startswith("not kept: ")
    assert not (tmp_path / "code.patch").exists()
    monkeypatch.undo()
    kept = git_state(repository.path, tmp_path / "code.patch")
    assert state["changes"] == kept["changes"] == sha256((tmp_path / "code.patch").read_bytes())


def test_a_patch_that_cannot_be_made_costs_no_commit(repository, tmp_path):
    repository.change()
    state = git_state(repository.path, tmp_path / "nowhere" / "code.patch")
    assert state["commit"] == repository.git("rev-parse", "HEAD").strip()
    assert state["dirty"] is True
    assert state["patch"].startswith("not kept: ")


@pytest.mark.parametrize("where", ["no repository", "no commit yet", "no folder", "no git"])
def test_nothing_to_record(tmp_path, monkeypatch, where):
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    folder = tmp_path / "folder"
    if where != "no folder":
        folder.mkdir()
    if where == "no commit yet":
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
    if where == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(folder, tmp_path / "code.patch") == {}
    assert not (tmp_path / "code.patch").exists()


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
