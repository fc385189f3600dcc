"""run.json: what is read is what was written, and what is missing or damaged is empty, not an exception."""

from __future__ import annotations

import json

import pytest

from mlprun.errors import RunError
from mlprun.runs.record import RunRecord, read_record, write_json

WHOLE = {
    "status": "completed", "command": "mlprun data=iris", "overrides": ["data=iris"], "folder": "/home/me",
    "config": {"monitor": "val/loss", "seed": 3}, "started_at": "2026-11-21T10:00:00+00:00", "elapsed_sec": 2.5,
    "steps": 40, "num_steps": 40, "steps_per_epoch": 4, "best_step": 30, "ended_by": "finished",
    "metrics": {"val/loss": 0.5, "test/loss": None}, "device": {"type": "cpu", "name": "cpu", "num_threads": 2},
    "data": {"sizes": {"train": 120}}, "sources": {"net.py": "sha256:00"}, "resumed": [{"step": 10}],
}  # fmt: skip


def test_a_record_is_read_as_it_was_written_with_keys_that_are_unknown(tmp_path):
    file = tmp_path / "run.json"
    write_json(file, {**WHOLE, "later": {"a": [1]}})
    record = read_record(file)
    assert record == {**WHOLE, "later": {"a": [1]}}
    before = file.read_bytes()
    write_json(file, record)
    assert file.read_bytes() == before


@pytest.mark.parametrize(("old", "new"), [("0.5", "0.4"), ("40", "41"), ("iris", "wine"), ('"step"', '"Step"')])
def test_a_value_that_was_changed_by_hand_or_by_a_disk_is_said_once(tmp_path, caplog, old, new):
    file = tmp_path / "run.json"
    write_json(file, WHOLE)
    file.write_text(file.read_text().replace(old, new, 1))
    for _ in range(2):
        read_record(file)
    (warning,) = caplog.messages
    assert warning == f"{file} has changed since it was written: its values may not be those of the run"


@pytest.mark.parametrize("layout", [{"indent": None}, {"indent": 8}, {"ensure_ascii": False}])
def test_another_layout_and_a_record_of_an_older_version_are_no_change(tmp_path, caplog, layout):
    file = tmp_path / "run.json"
    write_json(file, {**WHOLE, "name": "é"})
    file.write_text(json.dumps(json.loads(file.read_text()), **layout))
    read_record(file)
    file.write_text(json.dumps(WHOLE))
    read_record(file)
    assert not caplog.messages


def test_each_value_by_its_name():
    record = RunRecord(WHOLE)
    for name in WHOLE.keys() - {"resumed"}:
        assert getattr(record, name) == WHOLE[name], name
    assert (record.monitor, record.num_threads, record.resumed) == ("val/loss", 2, [{"step": 10}])
    assert (record.metric("val/loss"), record.metric("test/loss"), record.metric("nothing")) == (0.5, None, None)
    assert record.has_config
    assert not record.is_reproduction
    assert RunRecord(reproduces="a").is_reproduction


@pytest.mark.parametrize("value", [None, [1], "text", True])
def test_what_is_missing_or_of_another_type_is_empty(value):
    keys = ("metrics", "device", "data", "sources", "git", "weights", "resumed", "overrides", "elapsed_sec", "config")
    record = RunRecord() if value is None else RunRecord(dict.fromkeys(keys, value))
    assert record.metrics == record.device == record.data == record.sources == record.git == record.weights == {}
    assert record.elapsed_sec is record.num_threads is record.metric("val/loss") is None
    assert record.resumed == []
    assert record.overrides == (["1"] if value == [1] else None)
    assert not record.has_config
    assert (RunRecord().status, RunRecord().error, RunRecord().ended_by, RunRecord().folder) == ("", "", "", None)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({}, []),
        ({"steps": 0, "best_step": 0}, []),
        ({"status": None, "config": None}, ["config", "status"]),
        ({"status": 3, "config": []}, ["config", "status"]),
        (
            {"steps": "40", "metrics": {}, "ended_by": "", "best_step": None},
            ["best_step", "ended_by", "metrics", "steps"],
        ),
    ],
)
def test_what_is_missing_is_named(changes, missing):
    names = ("status", "config", "steps", "metrics", "ended_by", "best_step")
    assert RunRecord({**WHOLE, **changes}).missing(*names) == missing
    assert RunRecord().missing(*names) == sorted(names)


@pytest.mark.parametrize(
    ("value", "expected"),
    [({"source": "sha256:00"}, {"source": "sha256:00"}), ("0.1", {"version": "0.1"}), (None, {})],
)
def test_which_mlprun(value, expected):
    assert RunRecord(mlprun=value).mlprun == expected
    assert RunRecord().mlprun == {}


def test_a_record_of_version_one_has_this_versions_names(tmp_path):
    file = tmp_path / "run.json"
    file.write_text(json.dumps({"config": {"data": {"_target_": "mlprun.data.text.text_folder"}}}))
    assert read_record(file).config["data"]["_target_"] == "mlprun.data.text.documents.text_folder"


@pytest.mark.parametrize(("text", "said"), [("{", "cannot be read"), ("[]", "is damaged: it does not hold an object")])
def test_a_damaged_file_is_named(tmp_path, text, said):
    file = tmp_path / "run.json"
    file.write_text(text)
    with pytest.raises(RunError) as caught:
        read_record(file)
    assert str(caught.value).startswith(f"{file} {said}")
