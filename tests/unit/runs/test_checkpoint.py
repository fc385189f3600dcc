"""Checkpoints: whole or not at all, complete, bounded in number, and unable to run code."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from mlprun.errors import RunError
from mlprun.runs import checkpoint
from mlprun.runs.checkpoint import Checkpointer
from tests.helpers.lines import run_code


def state(step: int, size: int = 100) -> dict[str, Any]:
    return {"model": {"weight": torch.full((size,), float(step))}, "step": step, "config": {"seed": 0, "lr": None}}


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(3), path)
    loaded = checkpoint.load(path)
    assert torch.equal(loaded["model"]["weight"], state(3)["model"]["weight"])
    assert (loaded["step"], loaded["config"]) == (3, {"seed": 0, "lr": None})
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]
    # A plain dict for everyone else, too.
    assert torch.load(path, weights_only=True)["step"] == 3


# ------------------------------------------------------------------------------------- a write that fails


def test_a_write_that_breaks_off_leaves_the_old_checkpoint(tmp_path):
    """A process that may write no file beyond 40 kB stands for a full disk."""
    path = tmp_path / "checkpoints" / "last.pt"
    path.parent.mkdir()
    checkpoint.save(state(1), path)
    program = (
        "import resource, sys, pathlib, torch\n"
        "from mlprun.errors import RunError\n"
        "from mlprun.runs import checkpoint\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        "try:\n"
        "    checkpoint.save({'model': torch.zeros(1_000_000), 'step': 2}, pathlib.Path(sys.argv[1]))\n"
        "except RunError as error:\n"
        "    print(error)\n"
    )
    done = run_code(tmp_path, program, str(path))
    assert done.out.startswith(f"checkpoint {path} could not be written: ")
    assert [p.name for p in path.parent.iterdir()] == ["last.pt"]
    assert checkpoint.load(path)["step"] == 1


def test_a_directory_in_the_way(tmp_path):
    (tmp_path / "last.pt").mkdir()
    with pytest.raises(RunError, match=r"last\.pt could not be written: .*[Dd]irectory"):
        checkpoint.save(state(1), tmp_path / "last.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


def test_a_process_that_is_killed_while_it_writes_leaves_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(1), path)
    program = (
        "import os, sys, pathlib, torch\n"
        "from mlprun.runs import checkpoint\n"
        "class Killer:\n"  # pickled after the tensors of the dict that stand before it
        "    def __reduce__(self):\n"
        "        os.kill(os.getpid(), 9)\n"
        "checkpoint.save({'model': torch.zeros(100_000), 'last': Killer()}, pathlib.Path(sys.argv[1]))\n"
    )
    assert run_code(tmp_path, program, str(path)).status == -9
    assert checkpoint.load(path)["step"] == 1


# --------------------------------------------------------------------------------------------- damage


class Malicious:
    """A pickle that runs a command when it is opened."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.trace}",)


@pytest.mark.parametrize("how", ["torch.save", "a plain pickle"])
def test_opening_someones_checkpoint_runs_no_code(tmp_path, how):
    path, trace = tmp_path / "best.pt", tmp_path / "ran"
    content = {"format": checkpoint.FORMAT, "model": Malicious(trace)}
    if how == "torch.save":
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(RunError, match=r"best\.pt is damaged"):
        checkpoint.load(path)
    assert not trace.exists()


@pytest.mark.parametrize("kept", [0, 1, 10, 100, 1000, -1000, -10, -1])
def test_a_truncated_file_is_damaged(tmp_path, kept):
    path = tmp_path / "last.pt"
    checkpoint.save(state(1, 5000), path)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(RunError) as damage:
        checkpoint.load(path)
    assert str(damage.value).startswith(f"checkpoint {path} is damaged: ")
    assert len(str(damage.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x02", b"PK\x03\x04", bytes(500), b"\x80\x04N."])
def test_another_file_is_no_checkpoint(tmp_path, content):
    path = tmp_path / "last.pt"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"last\.pt is (damaged|not a checkpoint)"):
        checkpoint.load(path)


def test_any_altered_byte_is_noticed(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(1, 500), path)
    content = path.read_bytes()
    for position in {*range(0, len(content), 7), *range(len(content) - 100, len(content))}:
        altered = bytearray(content)
        altered[position] ^= 0x55
        path.write_bytes(altered)
        with pytest.raises(RunError, match=r"last\.pt is damaged: "):
            checkpoint.load(path)


@pytest.mark.parametrize("number", [2, 3])
def test_only_formats_from_3_on_end_with_their_sum(tmp_path, number):
    path = tmp_path / "last.pt"
    checkpoint.save(state(1, 5), path)
    with_sum = path.read_bytes()
    torch.save({**torch.load(path), "format": number}, path)
    if number < 3:
        assert checkpoint.load(path).step == 1
    else:
        with pytest.raises(RunError, match="it does not end with its SHA-256"):
            checkpoint.load(path)
    assert with_sum[-64:].decode() == hashlib.sha256(with_sum[:-64]).hexdigest()


def test_other_programs_read_it_as_a_zip_archive(tmp_path):
    path = tmp_path / "last.pt"
    checkpoint.save(state(1, 5), path)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment == b"sha256:" + path.read_bytes()[-64:]


@pytest.mark.parametrize("content", [{"model": {}}, {"format": 99}, torch.zeros(3), [1, 2]])
def test_a_file_of_another_program_is_told_apart(tmp_path, content):
    path = tmp_path / "theirs.pt"
    torch.save(content, path)
    with pytest.raises(RunError, match=r"theirs\.pt is not a checkpoint of mlprun"):
        checkpoint.load(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(RunError, match=r"there is no checkpoint .*last\.pt"):
        checkpoint.load(tmp_path / "last.pt")
    with pytest.raises(RunError, match="there is no checkpoint"):
        checkpoint.load(tmp_path)


# ------------------------------------------------------------------------------------------- how many


@pytest.mark.parametrize(
    ("keep", "files"),
    [(0, []), (1, ["step_110.pt"]), (3, ["step_9.pt", "step_100.pt", "step_110.pt"]), (99, None)],
)
def test_keep_bounds_the_older_ones(tmp_path, keep, files):
    """The newest by their number, not by the alphabet; last and best come besides."""
    folder = tmp_path / "a" / "checkpoints"
    saver = Checkpointer(folder, keep)
    saver.save_best(state(8))
    steps = (8, 9, 100, 110)
    for step in steps:
        saver.save_last(state(step))
    files = [f"step_{s}.pt" for s in steps] if files is None else files
    assert {p.name for p in folder.iterdir()} == {"last.pt", "best.pt", *files}
    assert checkpoint.load(folder / "last.pt")["step"] == 110
    assert checkpoint.load(folder / "best.pt")["step"] == 8
    assert [checkpoint.load(folder / name)["step"] for name in files] == [int(f[5:-3]) for f in files]


def ranked(step: int, best: int, *next_best: int) -> dict[str, Any]:
    return {**state(step), "progress": {"best": 0.5, "best_step": best, "next_best": [(1.0, s) for s in next_best]}}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_next_best_stay_until_a_last_checkpoint_no_longer_counts_them(tmp_path):
    saver = Checkpointer(tmp_path, keep=1)
    saver.save_best(ranked(1, 1))
    saver.save_last(ranked(1, 1))
    saver.save_best(ranked(2, 2, 1), 1)  # 2 is better
    assert [checkpoint.load(tmp_path / f"{name}.pt").step for name in ("best", "step_1")] == [2, 1]
    saver.save_step(ranked(3, 2, 3))  # in the place of 1
    assert names(tmp_path) == {"last.pt", "best.pt", "step_1.pt", "step_3.pt"}
    saver.save_last(ranked(4, 2, 3))
    assert names(tmp_path) == {"last.pt", "best.pt", "step_3.pt", "step_4.pt"}
    assert saver.has(3)


@pytest.mark.parametrize("done", [0, 1, 2, 3, 4])
def test_a_run_that_is_killed_while_best_pt_changes_loses_neither(tmp_path, monkeypatch, done):
    """After each of the renames: of the new one to its temporary name and to its last, and of the former best."""
    saver = Checkpointer(tmp_path)
    saver.save_best(ranked(1, 1))
    saver.save_last(ranked(1, 1))
    made, count = os.replace, iter(range(9))

    def killed(source: Path, target: Path) -> None:
        if next(count) == done:
            raise KeyboardInterrupt
        made(source, target)

    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        saver.save_best(ranked(2, 2, 1), 1)
        saver.save_last(ranked(2, 2, 1))
    recovered = Checkpointer(tmp_path).recover()
    assert not recovered.best_is_lost
    step, best = recovered.state.step, checkpoint.load(tmp_path / "best.pt").step
    assert (step, best) == ((2, 2) if done > 2 else (1, 1))
    assert not list(tmp_path.glob(".*"))
    assert saver.has(1) is (done > 1)


# --------------------------------------------------------------------------------------------- what it holds


def test_each_value_by_its_name(tmp_path):
    content = {
        "step": 3, "model": {"weight": torch.ones(1)}, "optimizer": {"state": {}}, "schedule": {"last": 1.0},
        "progress": {"best_step": 2}, "config": {"seed": 0}, "normalizer": {"shift": torch.zeros(1)},
        "target_normalizer": {"scale": torch.ones(1)}, "tokenizer": {"kind": "words"}, "class_names": ["a", "b"],
        "image_format": {"range": (0.0, 1.0), "border": 0.0},
    }  # fmt: skip
    checkpoint.save({**content, "later": [1]}, tmp_path / "last.pt")
    loaded = checkpoint.load(tmp_path / "last.pt")
    for name, value in content.items():
        assert getattr(loaded, name) == value, name
    assert loaded["later"] == [1]
    checkpoint.save(loaded, tmp_path / "again.pt")  # a plain dict again, also with what is unknown
    assert torch.load(tmp_path / "again.pt", weights_only=True).keys() == loaded.keys()


def test_what_a_checkpoint_need_not_have(tmp_path):
    checkpoint.save({**state(1), "image_format": None}, tmp_path / "last.pt")
    loaded = checkpoint.load(tmp_path / "last.pt")
    assert loaded.tokenizer is loaded.target_normalizer is None
    assert loaded.image_format == {"range": None, "border": None}


def test_the_best_checkpoint_behind_a_path(tmp_path):
    best = tmp_path / "checkpoints" / "best.pt"
    assert checkpoint.best_checkpoint(tmp_path) == best  # it need not be there
    best.parent.mkdir()
    assert checkpoint.best_checkpoint(tmp_path) == checkpoint.best_checkpoint(best.parent) == best
    assert checkpoint.best_checkpoint(tmp_path / "file.pt") == tmp_path / "file.pt"


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read_from_an_open_file(tmp_path, zipped):
    path = tmp_path / "theirs.pt"
    torch.save([torch.ones(2), 1], path, _use_new_zipfile_serialization=zipped)
    with path.open("rb") as file:
        file.read(7)
        tensor, number = checkpoint.read_torch_file(file)
    assert torch.equal(tensor, torch.ones(2))
    assert number == 1
