"""What has changed since a run is named; what the run did not record, or a resume may change, is not."""

from __future__ import annotations

import copy

import pytest

from mlprun.analysis.diff import Difference
from mlprun.job.changes import are_test_examples_others, changes, changes_since, data_changes, true_config
from mlprun.runs.record import RunRecord
from tests.helpers.records import CONFIG, MISSING, RECORD, SECTIONS, SHA, changed, put


@pytest.mark.parametrize("key", ["mlprun", "git", "packages", "host", "device", "sources", "data"])
def test_what_is_not_recorded_is_not_compared(key):
    other = {**RECORD, "packages": {}, "data": {}, "sources": {}, "mlprun": {"version": "9"}}
    assert any(changes(RECORD, other)[section] for section in SECTIONS)
    without = changed(RECORD, key, MISSING)
    assert changes(without, RECORD) == changes(RECORD, without) == {section: [] for section in SECTIONS}


@pytest.mark.parametrize(
    ("before", "now", "keys"),
    [
        ({"sizes": {"test": 8}}, {"sizes": {"test": 9}}, ["sizes.test"]),
        ({"sizes": {"test": 8}}, {"sizes": {"test": 8}, "digests": {"test": SHA["a"]}}, []),  # an older record
        ({"digests": {"test": SHA["a"]}}, {"digests": {}}, []),  # lazy data, which is not read yet
        ({"digests": {"test": SHA["a"]}}, {"digests": {"test": SHA["b"]}}, ["examples.test"]),
        ({"fingerprints": {"a/b": SHA["a"]}}, {"fingerprints": {"c/d": SHA["a"]}}, []),  # moved
        ({"fingerprints": {"a/b": SHA["a"]}}, {"fingerprints": {"a/b": SHA["b"]}}, ["b"]),
        ({"fingerprints": {"a/b": SHA["a"]}}, {"fingerprints": {"c/d": SHA["b"]}}, ["b", "d"]),
        ({}, {"sizes": {"test": 9}}, []),
    ],
)
def test_data_is_compared_by_files_sizes_and_examples(before, now, keys):
    assert [d.key for d in data_changes(RunRecord({"data": before} if before else {}), now)] == keys


@pytest.mark.parametrize(
    ("keys", "has_digest", "expected"),
    [
        ([], True, False),
        ([], False, False),
        (["sizes.train", "examples.train", "train"], True, False),
        (["sizes.train"], False, True),
        (["train"], False, True),
        (["examples.test"], True, True),
        (["sizes.test"], True, True),
        (["weights"], False, False),
    ],
)
def test_other_training_data_is_no_other_test_split_if_the_test_examples_are_known(keys, has_digest, expected):
    found = [Difference(key, 1, 2) for key in keys]
    assert are_test_examples_others(found, has_digest=has_digest) is expected


def test_modules_and_weights_are_compared_with_their_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = RunRecord(sources={"net.py": SHA["a"]}, weights={"path": str(tmp_path / "w.pt"), "sha256": SHA["b"]})
    device = {"type": "cpu", "name": "cpu", "num_threads": 1}
    assert [d.key for d in changes_since(record)["code"]] == ["sources.net.py"]
    assert changes_since(record, device)["data"] == []  # the weights are gone, and not needed
    (tmp_path / "w.pt").write_bytes(b"other")
    assert [d.key for d in changes_since(record, device)["data"]] == ["weights"]


def config(*typed: tuple[str, object]):
    made = copy.deepcopy(CONFIG)
    for key, value in typed:
        put(made, key, value)
    return made


@pytest.mark.parametrize(
    ("edits", "keys"),
    [
        ([], []),
        ([("model.hidden", [8])], ["model.hidden"]),
        ([("data.limit", 3), ("optim.lr", 0.1)], ["data.limit", "optim.lr"]),
        ([("device", "cuda"), ("epochs", 99), ("logging.every", "1 step"), ("trainer.max_time", "1h")], []),
        ([("data.root", "/new"), ("data.dataset.root", "/new")], []),  # moved
        ([("data.dataset.root", "/new")], ["data.dataset.root"]),
    ],
)
def test_the_checkpoints_config_counts_except_for_what_a_resume_may_change(edits, keys):
    here = [("data.dataset._target_", "users.Mine"), ("data.root", "/old"), ("data.dataset.root", "/old")]
    trained, stored = config(*here), config(*here, *edits)
    used, found = true_config(stored, trained)
    assert sorted(d.key for d in found) == keys
    assert used == (trained if keys else stored)
    assert true_config(stored, None) == (stored, [])
    both = config(*here, ("seed", 1), ("data.root", "/new"), ("data.dataset.root", "/new"), ("epochs", 99))
    used, found = true_config(both, trained)
    assert [d.key for d in found] == ["seed"]
    assert used == {**both, "seed": 0}
