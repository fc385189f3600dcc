"""Configs of runs whose data were moved."""

from __future__ import annotations

import pytest

from mlprun.config.stored import take_root, with_found_root, with_root
from mlprun.errors import ConfigError

STORED = {
    "data": {
        "name": "old", "root": "old", "dataset": {"root": "old", "kind": "older", "files": ["old/a.csv"]},
        "test_dataset": {"root": "old/test"},
    },
    "model": {"name": "old"},
}  # fmt: skip


def test_every_argument_that_repeats_the_root_follows_it():
    data = with_root(STORED, "/new")["data"]
    assert data["dataset"] == {"root": "/new", "kind": "older", "files": ["/new/a.csv"]}
    assert (data["root"], data["test_dataset"], data["name"]) == ("/new", {"root": "/new/test"}, "old")
    assert with_root(STORED, "/new")["model"] == STORED["model"]


@pytest.mark.parametrize(
    ("root", "known", "expected"),
    [
        ("gone", None, "gone"),
        ("gone", "store", "store"),
        ("gone/texts", "store", "store/texts"),  # a folder of that name in MLPRUN_DATA
        ("here", "store", "here"),  # where it was comes first
    ],
)
def test_data_that_are_gone_are_looked_for_in_mlprun_data(tmp_path, monkeypatch, root, known, expected):
    for folder in ("here", "store/texts"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.delenv("MLPRUN_DATA", raising=False)
    if known:
        monkeypatch.setenv("MLPRUN_DATA", str(tmp_path / known))
    found = with_found_root({"data": {"name": "x", "root": str(tmp_path / root), "dataset": {}}}, None)
    assert found["data"]["root"] == str(tmp_path / expected)


def test_the_root_among_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert take_root(["epochs=3", "data.root=2024_11"]) == (tmp_path / "2024_11", ["epochs=3"])
    assert take_root(["data.root='a b'"]) == (tmp_path / "a b", [])
    for line in ("data.root=a,b", "data.root=null", "data.root="):
        with pytest.raises(ConfigError, match="must be one folder"):
            take_root([line])
    with pytest.raises(ConfigError, match="is not where data=iris is read from"):
        with_found_root({"data": {"name": "iris", "root": None}}, tmp_path)
