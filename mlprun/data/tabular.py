"""The small data sets that scikit-learn ships: no network needed.

The files are read directly, in milliseconds; importing scikit-learn takes seconds. The tests compare every function
with scikit-learn's own loader, bit for bit. Values are as recorded, not scaled, and no data set has a test part of its
own. Each function raises a DataError if scikit-learn or the file in it is missing.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from mlprun.data.source import Examples, Source
from mlprun.errors import DataError

_FOLDER = "sklearn/datasets/data"


def digits() -> Source:
    """1,797 handwritten digits: uint8 images of shape (1, 8, 8) with values 0 to 16, 10 classes.

    Source: UCI ML repository, Optical Recognition of Handwritten Digits (Alpaydin & Kaynak 1998).
    """
    text, fingerprints = _read("digits.csv.gz")
    table = np.loadtxt(io.StringIO(text), delimiter=",", dtype=np.uint8)  # 64 pixels and the class
    images = torch.from_numpy(table[:, :-1].reshape(-1, 1, 8, 8).copy())
    return Source(
        Examples(images, torch.from_numpy(table[:, -1].astype(np.int64))),
        value_range=(0, 16),
        class_names=tuple("0123456789"),
        fingerprints=fingerprints,
    )


def iris() -> Source:
    """150 iris flowers: float32 (4,) sepal and petal lengths and widths in cm; 3 species (Fisher 1936)."""
    return _classes("iris.csv")


def wine() -> Source:
    """178 wines: float32 (13,) chemical measurements; 3 cultivars (UCI ML repository, Forina et al. 1991)."""
    return _classes("wine_data.csv")


def breast_cancer() -> Source:
    """569 breast tumours: float32 (30,) shapes of cell nuclei; malignant or benign (Wolberg et al. 1995)."""
    return _classes("breast_cancer.csv")


def diabetes() -> Source:
    """442 patients: float32 (10,) age, sex, bmi, blood pressure, 6 serum values; the target is float32 (1,).

    The target is the disease's progression after one year, from 25 to 346 (Efron et al. 2004).
    """
    features, features_read = _read("diabetes_data_raw.csv.gz")
    targets, targets_read = _read("diabetes_target.csv.gz")
    inputs, values = np.loadtxt(io.StringIO(features)), np.loadtxt(io.StringIO(targets), ndmin=2)
    return Source(Examples(_floats(inputs), _floats(values)), fingerprints=features_read | targets_read)


def _classes(name: str) -> Source:
    """A CSV whose first line is `rows, features, class names…` and whose last column is the class."""
    text, fingerprints = _read(name)
    header, _, body = text.partition("\n")
    table = np.loadtxt(io.StringIO(body), delimiter=",")
    return Source(
        Examples(_floats(table[:, :-1]), torch.from_numpy(table[:, -1].astype(np.int64))),
        class_names=tuple(header.strip().split(",")[2:]),
        fingerprints=fingerprints,
    )


def _floats(array: npt.NDArray[np.float64]) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32))


def _read(name: str) -> tuple[str, dict[str, str]]:
    """The text of one of scikit-learn's data files, unpacked, and its fingerprint as stored."""
    spec = importlib.util.find_spec("sklearn")  # finds the package without importing it
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{name} comes with scikit-learn, which is not installed\n  pip install scikit-learn")
    path = Path(spec.submodule_search_locations[0]).parent / _FOLDER / name
    try:
        content = path.read_bytes()
    except OSError as error:
        problem = f"cannot read scikit-learn's {name} ({error})"
        raise DataError(f"{problem}\n  pip install --force-reinstall scikit-learn") from error
    fingerprints = {f"{_FOLDER}/{name}": f"sha256:{hashlib.sha256(content).hexdigest()}"}
    return (gzip.decompress(content) if name.endswith(".gz") else content).decode(), fingerprints
