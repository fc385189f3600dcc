"""The embedded data sets: the same values as scikit-learn's loaders, without importing scikit-learn."""

from __future__ import annotations

import hashlib
import importlib.util
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn import datasets

from mlprun.data import tabular
from mlprun.data.source import Examples, Source
from mlprun.errors import DataError
from tests.helpers.files import REPOSITORY

CONF = REPOSITORY / "conf" / "data"
NAMES = ["digits", "iris", "wine", "breast_cancer", "diabetes"]


def examples(source: Source) -> Examples:
    assert isinstance(source.train, Examples)
    return source.train


@pytest.mark.parametrize(
    ("load", "reference", "num_examples", "num_features"),
    [
        (tabular.iris, datasets.load_iris, 150, 4),
        (tabular.wine, datasets.load_wine, 178, 13),
        (tabular.breast_cancer, datasets.load_breast_cancer, 569, 30),
    ],
)
def test_classification_tables_equal_scikit_learns(
    load: Callable[[], Source], reference: Callable[[], Any], num_examples: int, num_features: int
) -> None:
    source, expected = load(), reference()
    found = examples(source)
    assert found.inputs.shape == (num_examples, num_features)
    assert found.inputs.dtype == torch.float32
    assert found.targets.dtype == torch.int64
    assert np.array_equal(found.inputs.numpy(), expected.data.astype(np.float32))
    assert np.array_equal(found.targets.numpy(), expected.target)
    assert source.class_names == tuple(expected.target_names)
    assert source.value_range is None


def test_digits_equal_scikit_learns() -> None:
    source, expected = tabular.digits(), datasets.load_digits()
    found = examples(source)
    assert found.inputs.shape == (1797, 1, 8, 8)
    assert found.inputs.dtype == torch.uint8
    assert found.targets.dtype == torch.int64
    assert np.array_equal(found.inputs.numpy()[:, 0], expected.images)
    assert np.array_equal(found.targets.numpy(), expected.target)
    assert source.value_range == (found.inputs.min().item(), found.inputs.max().item()) == (0, 16)
    assert source.class_names == tuple("0123456789")


def test_diabetes_equals_scikit_learns_unscaled_values() -> None:
    found, expected = examples(tabular.diabetes()), datasets.load_diabetes(scaled=False)
    assert found.inputs.shape == (442, 10)
    assert found.targets.shape == (442, 1)
    assert found.inputs.dtype == found.targets.dtype == torch.float32
    assert np.array_equal(found.inputs.numpy(), expected.data.astype(np.float32))
    assert np.array_equal(found.targets.numpy()[:, 0], expected.target.astype(np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_the_yaml_describes_the_examples(name: str) -> None:
    node = OmegaConf.load(CONF / f"{name}.yaml")
    source: Source = pkgutil.resolve_name(node.dataset._target_)()
    found = examples(source)
    assert node.name == name
    assert list(found.inputs.shape[1:]) == node.input_shape
    if node.task == "classification":
        assert found.targets.unique().tolist() == list(range(node.num_outputs))
        assert len(source.class_names) == node.num_outputs
    else:
        assert found.targets.shape[1:] == (node.num_outputs,)
    assert source.test is None


@pytest.mark.parametrize("name", NAMES)
def test_fingerprints_are_those_of_the_files_read(name: str) -> None:
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    site_packages = Path(spec.origin).parents[1]
    found = getattr(tabular, name)().fingerprints
    assert len(found) == (2 if name == "diabetes" else 1)
    for path, fingerprint in found.items():
        assert fingerprint == f"sha256:{hashlib.sha256((site_packages / path).read_bytes()).hexdigest()}"


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"digits.csv.gz comes with scikit-learn(.|\n)*pip install scikit-learn"):
        tabular.digits()


def test_a_missing_file_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    elsewhere = SimpleNamespace(submodule_search_locations=[str(tmp_path / "sklearn")])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: elsewhere)
    with pytest.raises(DataError, match=r"cannot read scikit-learn's iris.csv .*No such file"):
        tabular.iris()
