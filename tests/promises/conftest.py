"""Runs that several promises are measured against."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers.lines import finish
from tests.helpers.runs import EVERYTHING, RUN


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(folder, *EVERYTHING)
    return folder / RUN
