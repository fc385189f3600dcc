"""A folder of texts."""

from __future__ import annotations

import pytest

from tests.helpers.files import write


@pytest.fixture
def films(tmp_path):
    """Two classes, three training and one test review each."""
    files = {f"train/neg/{i}.txt": f"A dull film {word}." for i, word in enumerate(("really", "truly", "indeed"))}
    files |= {f"train/pos/{i}.txt": f"A lovely film {word}." for i, word in enumerate(("really", "truly", "indeed"))}
    return write(tmp_path / "films", files | {"test/neg/0.txt": "A dull surprise.", "test/pos/0.txt": "Lovely!"})
