"""A folder that a user works in, and runs that were trained once for all tests."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import pytest

from mlprun.inspection import timing
from tests.helpers.lines import finish
from tests.helpers.runs import RUN
from tests.helpers.users_code import USERS


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project of the user's own."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "users.py").write_text(USERS)
    return tmp_path / "project"


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The directory of a run of the line, trained at its first use; not to be changed."""

    @cache
    def train(*words: str) -> Path:
        folder = tmp_path_factory.mktemp("finished")
        finish(folder, *words, f"hydra.run.dir={RUN}")
        return folder / RUN

    return train


@pytest.fixture
def trained(tmp_path, finished):
    """A copy of that run in the test's folder: `trained("debug=fast", "data=iris") -> Path`."""

    def copy(*words: str, into: Path = tmp_path) -> Path:
        return shutil.copytree(finished(*words), into / RUN)

    return copy


@pytest.fixture(autouse=True)
def small_matrices(monkeypatch):
    """`inspect` in the test's process measures no large product: three of 2048x2048 take half a second."""
    monkeypatch.setattr(timing, "MATRIX_SIZES", (16,))
