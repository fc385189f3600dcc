"""sweep.json: what is read is what was written, by version one too; what is damaged or newer is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlprun.errors import RunError
from mlprun.runs.sweep_record import FILE_NAME, FORMAT, Needs, SweepRecord, read

VERSION_ONE = Path(__file__).parents[2] / "data" / "version_one" / "folder" / "outputs" / "sweeps" / "lr_search"
REQUIRED = {"lines": [["seed=1,2", "-m"]], "typed_in": "/home/me", "needs": {}, "points": {}}
WHOLE = SweepRecord(
    lines=[["seed=1,2", "-m"], ["-m", "seed=3"]],
    typed_in="/home/me",
    needs={"3f2a": Needs(), "9b01": Needs(4, "cuda", 2, 418.2)},
    points={"3f2a": ["seed=1"], "9b01": ["seed=2"]},
    status="completed",
    max_failures=3,
    num_workers=2,
    gpus=["0", "1"],
    started_at="2026-11-21T10:00:00+00:00",
    ended_at="2026-11-21T10:05:00+00:00",
)


def write(directory: Path, **values: object) -> None:
    (directory / FILE_NAME).write_text(json.dumps({**REQUIRED, **values}))


@pytest.mark.parametrize("record", [WHOLE, replace(WHOLE, max_failures=None, gpus=[], ended_at=None)])
def test_a_record_is_read_as_it_was_written(tmp_path, record):
    record.write(tmp_path)
    assert read(tmp_path) == record
    assert json.loads((tmp_path / FILE_NAME).read_text())["format"] == FORMAT


def test_without_the_file_there_is_no_record(tmp_path):
    assert read(tmp_path) is None
    assert read(tmp_path / "nothing") is None


def test_a_key_that_is_not_needed_may_be_missing_and_one_that_is_unknown_is_ignored(tmp_path):
    write(tmp_path, comment="mine", needs={"3f2a": {"num_threads": 2, "comment": "mine"}})
    record = read(tmp_path)
    assert (record.max_failures, record.num_workers, record.gpus, record.ended_at) == (None, 1, [], None)
    assert record.needs == {"3f2a": Needs(num_threads=2)}


def test_a_record_of_version_one():
    record = read(VERSION_ONE)
    assert record.lines[0][-1] == "-m"
    assert (record.status, record.max_failures, record.num_workers, record.gpus) == ("interrupted", None, 1, [])
    assert record.needs.keys() == record.points.keys()
    assert len(record.needs) == 4
    assert set(record.needs.values()) == {Needs(memory_mib=418.2)}
    assert record.ended_at > record.started_at


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lines": "seed=1"}, 'lines="seed=1" is not list[list[str]]'),
        ({"lines": ["seed=1"]}, 'lines=["seed=1"] is not list[list[str]]'),
        ({"lines": [[1]]}, "lines=[[1]] is not list[list[str]]"),
        ({"typed_in": None}, "typed_in=null is not str"),
        ({"needs": []}, "needs=[] is not dict[str, Needs]"),
        ({"needs": {"3f2a": 1}}, 'needs={"3f2a": 1} is not dict[str, Needs]'),
        ({"needs": {"3f2a": {"num_threads": "4"}}}, 'needs={"3f2a": {"num_threads": "4"}} is not dict[str, Needs]'),
        ({"points": {"3f2a": "seed=1"}}, 'points={"3f2a": "seed=1"} is not dict[str, list[str]]'),
        ({"max_failures": "many"}, 'max_failures="many" is not int | None'),
        ({"num_workers": None}, "num_workers=null is not int"),
        ({"gpus": "0,1"}, 'gpus="0,1" is not list[str]'),
    ],
)
def test_a_damaged_value_is_named_with_what_it_should_be(tmp_path, values, message):
    write(tmp_path, **values)
    with pytest.raises(RunError) as caught:
        read(tmp_path)
    first, remedy = str(caught.value).splitlines()
    assert first == f"{tmp_path / FILE_NAME} is damaged: {message}"
    assert f"hydra.sweep.dir={tmp_path}" in remedy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read: "),
        ("[]", "is damaged: it does not hold an object"),
        ('{"lines": [], "typed_in": ""}', "is damaged: it has no needs, points"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(tmp_path, text, message):
    (tmp_path / FILE_NAME).write_text(text)
    with pytest.raises(RunError) as caught:
        read(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / FILE_NAME} {message}")
    assert f"\n  remove it and repeat the sweep's command with hydra.sweep.dir={tmp_path}" in str(caught.value)


@pytest.mark.parametrize("number", [FORMAT + 1, "later", None])
def test_a_later_format_is_refused(tmp_path, number):
    write(tmp_path, format=number, lines={"in": "another form"})
    with pytest.raises(RunError, match=rf"format=\S+ is not known; this version of mlprun reads format {FORMAT}\n"):
        read(tmp_path)
