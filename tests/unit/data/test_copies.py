"""Copies of a file in two splits."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from mlprun.data import copies
from mlprun.data.copies import warn_of_copies
from mlprun.data.folders import list_parts
from mlprun.data.listing import sizes_of
from mlprun.data.text.files import list_files
from tests.helpers.files import write

LONG = "x" * copies.HEAD_BYTES
SPLITS = ("train/a/1", "train/a/2", "train/b/1", "val/a/1", "test/a/1", "test/b/1")


@pytest.fixture
def warned(tmp_path, caplog):
    """What is said of files, of the same size and different except for those that are copied."""

    def check(names: tuple[str, ...], copied: dict[str, str]) -> list[str]:
        texts = {name: f"{LONG}{number}" for number, name in enumerate(names)}
        write(tmp_path, texts | {to: texts[name] for to, name in copied.items()})
        parts = {name.partition("/")[0]: {} for name in names}
        for part, sizes in parts.items():
            sizes |= sizes_of(str(tmp_path / name) for name in names if name.startswith(part))
        warn_of_copies(tmp_path, parts, inside=True)
        return messages(tmp_path, caplog)

    return check


def messages(root: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message.removeprefix(f"{root}: ") for message in caplog.messages]


@pytest.fixture(autouse=True)
def _collect_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mlprun")


@pytest.mark.parametrize(
    ("copied", "said"),
    [
        ({}, ""),
        ({"test/b/1": "train/a/2"}, "1 file also in another split: train/a/2 = test/b/1"),
        ({"val/a/1": "train/b/1"}, "1 file also in another split: train/b/1 = val/a/1"),
        ({"test/a/1": "val/a/1"}, "1 file also in another split: val/a/1 = test/a/1"),
        (
            {"test/a/1": "train/a/1", "val/a/1": "train/a/1"},
            "2 files also in another split: train/a/1 = val/a/1, train/a/1 = test/a/1",
        ),
        ({"train/b/1": "train/a/1"}, ""),  # more of one example, as the user wants it
        ({"test/b/1": "test/a/1"}, ""),
    ],
)
def test_a_file_in_two_splits_is_reported(warned, copied, said):
    assert warned(SPLITS, copied) == [f"{said}; scores on copies are too good"] * bool(said)


@pytest.mark.parametrize(("names", "held_out"), [(SPLITS[:3], "val and test"), ((*SPLITS[:3], SPLITS[4]), "val")])
def test_copies_in_one_folder_may_be_split(warned, names, held_out):
    said = "1 repeated file: train/a/1 = train/a/2"
    problem = f"{held_out} held out of them may have copies of what was trained on"
    assert warned(names, {"train/a/2": "train/a/1"}) == [f"{said}; {problem}"]


def test_of_very_many_files_those_of_one_name_are_compared(warned, monkeypatch):
    monkeypatch.setattr(copies, "MOST_READ", 5)
    said = ["1 file also in another split: train/a/1 = test/a/1; scores on copies are too good"]
    assert warned(SPLITS, {"test/a/1": "train/a/1", "test/b/1": "train/a/2"}) == said


@pytest.mark.parametrize(
    ("read", "names"),
    [
        (list_files, ("train/1.txt", "test/1.txt")),
        (lambda root: list_parts(root, "texts"), ("train/a/1.txt", "test/a/1.txt")),
        (list_parts, ("train/a/1.png", "test/a/1.png")),
    ],
)
def test_every_folder_of_splits_is_compared(tmp_path, caplog, read, names):
    write(tmp_path, dict.fromkeys(names, "some words"))
    read(tmp_path)
    assert messages(tmp_path, caplog) == [
        f"1 file also in another split: {' = '.join(names)}; scores on copies are too good"
    ]


def test_short_texts_repeat_by_themselves_and_empty_files_are_no_copies(tmp_path, caplog):
    write(tmp_path, {"a/1.txt": "good", "a/2.txt": "good", "b/1.txt": "", "b/2.txt": ""})
    list_parts(tmp_path, "texts")
    os.rename(tmp_path / "a", tmp_path / "train")
    os.rename(tmp_path / "b", tmp_path / "test")
    list_files(tmp_path)
    assert not caplog.messages
