"""Ways to run mlprun as a user does."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

import tests.helpers.composed  # noqa: F401  imported for its effect
from mlprun.cli import main
from tests.helpers.files import find_mnist
from tests.helpers.lines import Line, Result

# Runs are signed with a key of the tests' own.
os.environ["XDG_DATA_HOME"] = os.path.join(tempfile.gettempdir(), f"mlprun-tests-{os.getuid()}")
# Trackers are offline, and keep nothing in the tester's home.
os.environ |= {"TRACKIO_DIR": os.path.join(os.environ["XDG_DATA_HOME"], "trackio"), "WANDB_MODE": "offline"}
hypothesis.settings.register_profile("mlprun", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("mlprun")


def pytest_xdist_auto_num_workers():
    return (os.cpu_count() or 1) + 1  # a third of the time is spent waiting for processes that are to be stopped


def pytest_collection_finish():
    gc.freeze()  # torch and what else is imported: no collection visits it again


@pytest.fixture
def mlprun(tmp_path, monkeypatch, capsys):
    """Run a line in this process, in a folder of the test's own: `mlprun("optim=sgd", "seed=1") -> Result`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    modules = set(sys.modules)

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mlprun", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main.main()
        printed = capsys.readouterr()
        return Result(stop.value.code, printed.out, printed.err, tmp_path)

    yield run
    for name in set(sys.modules) - modules:  # a test's own modules: the next test writes others of that name
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def mlprun_process(tmp_path):
    """Run a line as a process of its own, forked from one that has imported torch."""

    def run(*words: str, **environment: str) -> Result:
        with Line(tmp_path, *words, split=True, **environment) as line:
            status = line.wait()
            return Result(status, line.output, line.errors, tmp_path)

    return run


@pytest.fixture
def mlprun_shell(tmp_path):
    """Run a line as a shell does, in an interpreter that has imported nothing: seconds more than the others."""

    def run(*words: str, **environment: str) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "mlprun", *words],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=240,
        )
        return Result(done.returncode, done.stdout, done.stderr, tmp_path)

    return run


@pytest.fixture
def mnist_root() -> Path:
    """The folder with the real MNIST; skips where there is none."""
    folder = find_mnist()
    if folder is None:
        pytest.skip("the real MNIST is neither in ../shared/data nor in MLPRUN_DATA")
    return folder
