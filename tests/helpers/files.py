"""Where the repository and the real MNIST lie, and files written at once."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from mlprun.config.resolvers import conf_dirs

REPOSITORY = Path(__file__).parents[2]


def choice_files(group: str) -> list[Path]:
    """The YAML of each choice that mlprun has in a group, sorted by name."""
    found = [file for folder in conf_dirs() for file in (folder / group).glob("*.yaml")]
    return sorted(found, key=lambda file: file.stem)


def find_mnist() -> Path | None:
    """The folder with the real MNIST: MLPRUN_DATA, or shared/data beside the checkout."""
    for folder in (os.environ.get("MLPRUN_DATA"), REPOSITORY.parent / "shared" / "data"):
        if folder and (Path(folder) / "MNIST" / "raw").is_dir():
            return Path(folder)
    return None


def write(folder: Path, files: Mapping[str, str | bytes]) -> Path:
    """Write files below a folder, which is made, and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def idx_bytes(values: np.ndarray) -> bytes:
    """A file in the format of MNIST."""
    sizes = np.array(values.shape, ">u4").tobytes()
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype(np.uint8).tobytes()


def save_image(file, pixels, mode=None) -> str:
    Image.fromarray(np.asarray(pixels, np.uint8), mode).save(file)
    return str(file)


def penguins(folder: Path, name: str = "penguins.csv") -> Path:
    """A copy of palmerpenguins' table: 344 rows, 3 species, 19 missing values."""
    spec = importlib.util.find_spec("palmerpenguins")
    assert spec is not None
    return Path(shutil.copy(Path(str(spec.origin)).parent / "data" / name, folder / name))
