"""How a process ends: at once, and with nothing lost."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlprun.cli import main
from tests.helpers.runs import record_of

USERS_CODE = """
import atexit
import threading
import time
from pathlib import Path

import torch
from torch.utils.data import Dataset

notes = open("notes.txt", "w")
numbers = open("numbers.bin", "wb")
atexit.register(lambda: Path("atexit").touch())

def late():
    time.sleep(1.0)
    Path("thread").touch()

class Data(Dataset):
    def __init__(self):
        notes.write("read")
        numbers.write(b"123")
        threading.Thread(target=late).start()
    def __len__(self):
        return 40
    def __getitem__(self, i):
        return torch.rand(3), i % 2
"""
LINE = [
    "epochs=1", "data=custom", "data.input_shape=[3]", "data.num_outputs=2", "data.dataset._target_=users_code.Data",
]  # fmt: skip


@pytest.mark.parametrize("words", [LINE, ["-m", *LINE]], ids=["a run", "a job of a sweep"])
def test_what_users_code_left_open_is_written_and_its_threads_end(tmp_path, mlprun_shell, words):
    (tmp_path / "users_code.py").write_text(USERS_CODE)
    result = mlprun_shell(*words)
    assert result.status == 0, result.err
    assert (tmp_path / "notes.txt").read_text().startswith("read")
    assert (tmp_path / "numbers.bin").read_bytes().startswith(b"123")
    assert (tmp_path / "atexit").exists()
    assert (tmp_path / "thread").exists()
    assert "leaked" not in result.err


def test_a_reader_that_leaves_early_breaks_nothing_and_does_not_end_the_run(tmp_path):
    line = f"{sys.executable} -m mlprun debug=fast hydra.run.dir=run | head -n 1"
    done = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.stdout == "run     run\n"
    assert done.stderr == ""
    assert record_of(tmp_path / "run")["status"] == "completed"


def test_a_profiler_or_debugger_gets_to_its_exit(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["mlprun", "--version"])
    monkeypatch.setattr(main, "fast_exit", lambda status: pytest.fail("and so a profiler prints nothing"))
    sys.setprofile(lambda *event: None)
    try:
        with pytest.raises(SystemExit):
            main.program()
    finally:
        sys.setprofile(None)
