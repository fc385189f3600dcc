"""A run's directory: claimed once, its record never half-written, the state of the code kept with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mlprun.errors import ConfigError, RunError
from mlprun.runs import directory
from mlprun.runs.directory import RunDirectory, claim, git_state

CONFIG = {"seed": 3, "optim": {"lr": 0.1}}


# -------------------------------------------------------------------------------------------------- claim


def test_claims_by_many_threads_give_as_many_directories(tmp_path):
    pattern = str(tmp_path / "2026-11-21" / "10-33-12_digits_mlp")
    with ThreadPoolExecutor(50) as pool:
        claimed = list(pool.map(lambda _: claim(pattern), range(400)))
    assert len(set(claimed)) == 400
    assert sorted(claimed) == sorted((tmp_path / "2026-11-21").iterdir())
    assert all(path.name.startswith("10-33-12_digits_mlp_") and path.is_dir() for path in claimed)


def test_claims_by_many_processes_give_as_many_directories(tmp_path):
    """Names that collide on purpose: each process draws from four, so that mkdir has to decide."""
    program = (
        "import random, secrets, sys\n"
        "from mlprun.runs import directory\n"
        "secrets.token_hex = lambda n: format(random.randrange(20), '02x')\n"
        "for _ in range(5): print(directory.claim(sys.argv[1]))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    claimed = [line for process in processes for line in process.communicate(timeout=60)[0].splitlines()]
    assert len(claimed) == len(set(claimed)) == 20
    assert len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("pattern", ["outputs/run", "outputs/deep/run"])
def test_a_file_where_the_folder_should_be(tmp_path, pattern):
    (tmp_path / "outputs").write_text("")
    with pytest.raises(RunError) as refusal:
        claim(str(tmp_path / pattern))
    assert str(tmp_path / "outputs") in str(refusal.value)
    assert "hydra.run.dir" in str(refusal.value)


# ----------------------------------------------------------------------------------------------- run.json


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    opened = RunDirectory(tmp_path / "run")
    opened.start(CONFIG, "mlprun seed=3", ["seed=3"])
    return opened


def test_a_run_that_begins_is_recorded_as_running(run):
    text = run.record_file.read_text()
    record = json.loads(text)
    assert text == json.dumps(record, indent=2) + "\n"
    assert record == run.read()
    assert (record["status"], record["command"], record["overrides"]) == ("running", "mlprun seed=3", ["seed=3"])
    assert (record["config"], record["seed"]) == (CONFIG, 3)
    assert {"started_at", "git", "packages", "host", "mlprun"} <= set(record)
    assert {"python", "torch", "numpy", "hydra-core"} <= set(record["packages"])
    assert "ended_at" not in record


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_a_run_that_ends_says_how(run, status):
    run.update(num_parameters=10)
    run.finish(status, steps=5, metrics={"val/loss": 0.5})
    record = run.read()
    assert (record["status"], record["steps"], record["num_parameters"]) == (status, 5, 10)
    assert record["metrics"] == {"val/loss": 0.5}
    assert record["ended_at"] >= record["started_at"]
    assert 0 <= record["elapsed_sec"] < 60
    assert record["config"] == CONFIG  # nothing of before is lost
    assert [p.name for p in run.path.iterdir() if p.name.startswith(".")] == []


def test_the_layout(run):
    names = {"run.json": run.record_file, "metrics.jsonl": run.metrics_file, "train.log": run.log_file}
    names |= {"checkpoints/best.pt": run.best}
    assert all(path == run.path / name for name, path in names.items())


def test_run_json_is_never_seen_half_written(run):
    """A reader beside a hundred rewrites of a large record: each time it finds one whole."""
    done = threading.Event()
    seen = []

    def watch() -> None:
        while not done.is_set():
            seen.append(len(json.loads(run.record_file.read_text())["notes"]))

    run.update(notes=[])
    watcher = threading.Thread(target=watch)
    watcher.start()
    for count in range(100):
        run.update(notes=["x" * 50] * count * 40)
    done.set()
    watcher.join()
    assert len(seen) > 5
    assert seen == sorted(seen)


def test_a_record_that_cannot_be_written_leaves_the_old_one(run):
    """A process that may write no file beyond 100 bytes stands for a full disk."""
    program = (
        "import resource, sys, pathlib\n"
        "from mlprun.errors import RunError\n"
        "from mlprun.runs.directory import RunDirectory\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try:\n"
        "    RunDirectory(pathlib.Path(sys.argv[1])).update(notes='x' * 10_000)\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    before, names = run.record_file.read_bytes(), sorted(os.listdir(run.path))
    done = subprocess.run([sys.executable, "-c", program, str(run.path)], capture_output=True, text=True, check=True)
    assert "the output folder cannot be written: File too large" in done.stdout
    assert run.record_file.read_bytes() == before
    assert sorted(os.listdir(run.path)) == names


def test_a_directory_that_holds_a_run_is_not_used_again(run):
    with pytest.raises(ConfigError, match="this directory holds a run already"):
        RunDirectory(run.path).start(CONFIG, "mlprun", [])
    assert run.read()["command"] == "mlprun seed=3"


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "outputs").write_text("")
    with pytest.raises(RunError, match=r"outputs/run: the output folder cannot be written: Not a directory"):
        RunDirectory(tmp_path / "outputs" / "run").start(CONFIG, "mlprun", [])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "is not a run: it has no run.json"),
        ("", "cannot be read"),
        ('{"status": "compl', "cannot be read"),
        ("[1, 2]", "is damaged"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_record_that_cannot_be_read(tmp_path, content, said):
    if content is not None:
        (tmp_path / "run.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(RunError, match=said) as refusal:
        RunDirectory(tmp_path).read()
    assert str(tmp_path) in str(refusal.value)


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
        """A change of every sort: modified, staged, removed, new, binary, ignored."""
        self.write("model.py", "one\nTWO\nthree\n")
        self.write("sub/deep.py", "staged\n")
        self.git("add", "sub/deep.py")
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
    assert state == {"commit": repository.git("rev-parse", "HEAD").strip(), "dirty": True}
    again = tmp_path / "again"
    subprocess.run(["git", "clone", "-q", str(repository.path), str(again)], check=True)
    subprocess.run(["git", "-C", str(again), "apply", str(tmp_path / "code.patch")], check=True)
    expected = {n: c for n, c in repository.content().items() if n not in ("train.log", "data/big.csv")}
    restored = Repository.__new__(Repository)
    restored.path = again
    assert restored.content() == expected
    assert {"new/fresh file.py", "weights.bin"} <= set(expected)


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
    monkeypatch.setattr(directory, "LARGEST_PATCH", 1000)
    repository.write("weights.bin", os.urandom(5000))
    state = git_state(repository.path, tmp_path / "code.patch")
    assert state["dirty"] is True
    assert state["patch"].startswith("not kept: ")
    assert not (tmp_path / "code.patch").exists()


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
