"""Uncommitted changes: what the patch holds, what it leaves out, and what reading them costs."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlprun.runs import repository as module
from mlprun.runs.repository import git_state
from tests.helpers.repository import Repository


def sha256(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


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


@pytest.mark.parametrize(("configured", "below"), [*((name, "") for name in CONFIGURED), ("relative", "sub")])
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
    assert {"new/fresh file.py", "new/staged.py", "kept.log", "grammar"} <= set(expected)


SAME, OTHER = True, False


@pytest.mark.parametrize(
    ("then", "told"),
    [
        (lambda repository: None, SAME),
        (lambda repository: repository.git("add", "--all"), SAME),  # staged or not, the code is the same
        (lambda repository: repository.git("config", "diff.context", "0"), SAME),
        (lambda repository: repository.write("train.log", "ignored, too\n"), SAME),
        (lambda repository: repository.write("model.py", "one\ntwo\nTHREE\n"), OTHER),
        (lambda repository: repository.write("grammar", b"other"), OTHER),
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
    monkeypatch.setattr(module, "LARGEST_NEW", 3)
    assert json.loads(json.dumps(left_out(repository, tmp_path / "code.patch"))) == [name]


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


def left_out(repository: Repository, patch: Path) -> list[str]:
    state = git_state(repository.path, patch)
    assert "patch" not in state
    assert state["changes"] == sha256(patch.read_bytes())
    names = state.get("left_out", [])
    assert state.get("num_left_out", 0) >= len(names)
    return names


@pytest.mark.parametrize("name", ["pictures/one.PNG", "texts.tar.gz"])
def test_data_is_not_in_the_patch_new_or_changed_or_removed(repository, tmp_path, name):
    patch = tmp_path / "code.patch"
    repository.write("model.py", "changed\n")
    repository.write(name, "new")
    assert left_out(repository, patch) == [name]
    repository.git("add", "--force", name)
    assert left_out(repository, patch) == [name]
    repository.git("commit", "-qm", "data", name)
    repository.write(name, "another")
    assert left_out(repository, patch) == [name]
    (repository.path / name).unlink()
    assert left_out(repository, patch) == [name]
    assert "+changed" in patch.read_text()
    assert name not in patch.read_text()


def test_unchanged_files_are_not_read_again(repository, tmp_path):
    """Git trusts the size and the times of a file in the user's index, as it does for `git status`."""
    repository.git("config", "core.trustctime", "false")
    file = repository.path / "old.py"
    os.utime(file, (1e9, 1e9))
    repository.git("add", "old.py")
    file.write_text("OLD\n")
    os.utime(file, (1e9, 1e9))
    repository.write("model.py", "changed\n")
    assert left_out(repository, tmp_path / "code.patch") == []
    assert "OLD" not in (tmp_path / "code.patch").read_text()


def test_too_many_files_code_of_the_users_comes_first(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MANY", 5)
    monkeypatch.setattr(module, "MOST_FILES", 3)
    repository.write("model.py", "changed\n")
    for number in range(30):
        repository.write(f"a/{number}.txt", "text\n")
    repository.write("project/nets/deep.py", "deep\n")
    repository.write("project/run.py", "run\n")
    state = git_state(repository.path, tmp_path / "code.patch")
    assert (state["num_left_out"], len(state["left_out"]), state["left_out"][0]) == (30, 20, "a/0.txt")
    patch = (tmp_path / "code.patch").read_text()
    assert all(line in patch for line in ("+changed", "+deep", "+run"))


@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_too_large_is_left_out_before_it_is_read(repository, tmp_path, monkeypatch, is_new):
    monkeypatch.setattr(module, "LARGEST_READ", 3000)
    names = ["one.txt", "two.txt", "zebra.txt"]
    for name in names:
        repository.write(name, "x\n" * 700)
    if not is_new:
        repository.git("add", "--all")
        repository.git("commit", "-qm", "large")
        for name in names:
            repository.write(name, "y\n")  # git would read what was there
    repository.write("model.py", "changed\n")
    assert left_out(repository, tmp_path / "code.patch") == ["zebra.txt"]
    assert "two.txt" in (tmp_path / "code.patch").read_text()


def test_runs_in_the_repository_are_no_code(repository, tmp_path):
    """They would be in the patch of the next one, and that patch in the one after it."""
    for name in ("run.json", ".lock", "code.patch", "deep/mine.py"):
        repository.write(f"results/run/{name}", "1\n")
    repository.write("project/run.json", "2\n")
    assert "results/run/code.patch" in left_out(repository, tmp_path / "code.patch")
    patch = (tmp_path / "code.patch").read_text()
    assert "results/run" not in patch
    assert "+2" in patch


def add_submodule(repository: Repository, name: str, of: Path) -> None:
    repository.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(of), name)
    repository.git("commit", "-qm", name)


def test_changes_in_submodules_are_in_the_patch(repository, tmp_path, monkeypatch):
    inner, outer = Repository(tmp_path / "inner"), Repository(tmp_path / "outer")
    add_submodule(inner, "innermost", repository.path)
    add_submodule(outer, "nets", inner.path)
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", "--recursive")
    outer.git("config", "submodule.nets.ignore", "all")
    monkeypatch.setenv("GIT_PREFIX", "somewhere")
    clean = git_state(outer.path, tmp_path / "code.patch")
    assert clean == {"commit": outer.git("rev-parse", "HEAD").strip(), "dirty": False}
    outer.write("nets/model.py", "changed\n")
    outer.write("nets/new.py", "new\n")
    outer.write("nets/picture.png", "png")
    outer.write("nets/innermost/old.py", "innermost\n")
    outer.write("model.py", "outer\n")
    state = git_state(outer.path, tmp_path / "code.patch")
    assert state["changes"] == sha256((tmp_path / "code.patch").read_bytes())
    assert list(state["submodules"]) == ["nets"]
    assert state["submodules"]["nets"]["left_out"] == ["picture.png"]
    assert state["submodules"]["nets"]["commit"] == inner.git("rev-parse", "HEAD").strip()
    assert list(state["submodules"]["nets"]["submodules"]) == ["innermost"]
    again = tmp_path / "again"
    allow = ["git", "-c", "protocol.file.allow=always"]
    subprocess.run([*allow, "clone", "-q", "--recurse-submodules", str(outer.path), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply", str(tmp_path / "code.patch")], check=True)
    for name in ("nets/model.py", "nets/new.py", "nets/innermost/old.py", "model.py"):
        assert (again / name).read_text() == (outer.path / name).read_text()


def test_a_submodule_at_another_commit_or_not_there(repository, tmp_path):
    outer = Repository(tmp_path / "outer")
    add_submodule(outer, "nets", repository.path)
    nets = Repository.__new__(Repository)
    nets.path = outer.path / "nets"
    nets.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "second")
    assert "submodules" not in git_state(outer.path, tmp_path / "code.patch")
    assert f"+Subproject commit {nets.git('rev-parse', 'HEAD')}" in (tmp_path / "code.patch").read_text()
    outer.git("submodule", "--quiet", "deinit", "--force", "nets")
    outer.write("model.py", "changed\n")
    state = git_state(outer.path, tmp_path / "code.patch")
    assert "submodules" not in state
    assert "patch" not in state


@pytest.mark.parametrize("has_commit", [True, False])
def test_a_repository_in_the_repository_is_named(repository, tmp_path, has_commit):
    """Its own settings may name commands, so git does not look for changes in it."""
    inner = Repository(repository.path / "lib")
    if not has_commit:
        shutil.rmtree(inner.path / ".git")
        inner.git("init", "-q")
    inner.write("model.py", "changed\n")
    repository.write("model.py", "outer\n")
    assert left_out(repository, tmp_path / "code.patch") == ["lib/"]
    patch = (tmp_path / "code.patch").read_text()
    assert "+outer" in patch
    assert ("+Subproject commit" in patch) is has_commit


def test_a_patch_too_large_is_named_and_not_kept(repository, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "LARGEST_PATCH", 1000)
    repository.write("grammar", os.urandom(5000))
    state = git_state(repository.path, tmp_path / "code.patch")
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
