"""Where a sweep lies, and what its runs recorded."""

from __future__ import annotations

import json
from pathlib import Path

FAST = ["debug=fast", "data=iris"]
SWEEPS = Path("outputs", "sweeps")


def records(folder: Path) -> dict[str, dict]:
    """run.json of every run below the folder, by the name of its directory."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("**/run.json"))}
