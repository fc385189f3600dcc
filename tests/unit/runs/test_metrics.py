"""metrics.jsonl: what is appended is read back, a torn last line is no row, and a resume cuts exactly."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from mlprun.errors import RunError
from mlprun.runs.metrics import DamagedRowError, count_rows, cut_rows, format_row, read_rows


def write(path: Path, steps: list[int], tail: str = "") -> bytes:
    path.write_text("".join(format_row(step, step / 2, {"val/loss": 1 / step}) for step in steps) + tail)
    return path.read_bytes()


def test_a_row_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(format_row(1, None, {"train/loss": 0.1}) + format_row(2, 0.5, {"a": math.nan, "b": -math.inf}))
    assert read_rows(path) == [
        {"step": 1, "epoch": None, "train/loss": 0.1},
        {"step": 2, "epoch": 0.5, "a": None, "b": None},
    ]


@pytest.mark.parametrize("keep_torn", [False, True])
def test_a_last_line_without_its_end(tmp_path, keep_torn):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2], format_row(3, None, {}).rstrip("\n"))
    assert [row["step"] for row in read_rows(path, keep_torn=keep_torn)] == [1, 2, 3][: 2 + keep_torn]
    assert count_rows(path, 3) == 2


def test_half_a_line_is_no_row_and_no_error(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 2], '{"step": 3, "epo')
    assert len(read_rows(path)) == count_rows(path, 9) == 2
    with pytest.raises(DamagedRowError) as caught:
        read_rows(path, keep_torn=True)
    assert caught.value.number == 3
    assert caught.value.reason.startswith("is not JSON (")


@pytest.mark.parametrize("line", ["{", "", "[3]", "null", '{"epoch": 1}', '{"step": "3"}', '{"step": null}', "\0"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    before = write(path, [1, 2], f"{line}\n{format_row(4, None, {})}")
    for read in (lambda: read_rows(path), lambda: count_rows(path, 4), lambda: cut_rows(path, 4)):
        with pytest.raises(RunError) as caught:
            read()
        assert str(caught.value).startswith(f"{path}, line 3: damaged, not an object with a `step`\n  repair or remove")
    assert path.read_bytes() == before


@pytest.mark.parametrize(("until", "left"), [(0, 0), (1, 1), (2, 1), (5, 2), (6, 3), (99, 3)])
def test_rows_after_a_step_are_cut_off(tmp_path, until, left):
    path = tmp_path / "metrics.jsonl"
    before = write(path, [1, 5, 6], '{"st')
    assert count_rows(path, until) == left
    cut_rows(path, until)
    assert path.read_bytes() == b"".join(before.splitlines(keepends=True)[:left])


def test_what_follows_the_step_is_not_looked_at(tmp_path):
    path = tmp_path / "metrics.jsonl"
    write(path, [1, 5], "damaged\n")
    assert count_rows(path, 4) == 1
    cut_rows(path, 4)
    assert [row["step"] for row in read_rows(path)] == [1]


def test_no_file(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert count_rows(path, 9) == 0
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read: No such file"):
        read_rows(path)
