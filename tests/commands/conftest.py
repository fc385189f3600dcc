"""A folder that a user stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.users_code import USERS


@pytest.fixture
def folder(tmp_path) -> Path:
    """A project of the user's own."""
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "users.py").write_text(USERS)
    return tmp_path / "project"
