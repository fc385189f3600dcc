"""Where the repository and the real MNIST lie."""

from __future__ import annotations

import os
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def find_mnist() -> Path | None:
    """The folder with the real MNIST: MLPRUN_DATA, or shared/data beside the checkout."""
    for folder in (os.environ.get("MLPRUN_DATA"), REPOSITORY.parent / "shared" / "data"):
        if folder and (Path(folder) / "MNIST" / "raw").is_dir():
            return Path(folder)
    return None
