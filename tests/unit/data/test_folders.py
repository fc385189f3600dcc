"""Folders of splits and of classes, as people have them."""

from __future__ import annotations

import logging
import os
import unicodedata
from pathlib import Path

import pytest

from mlprun.data.folders import list_parts, num_class_folders
from mlprun.data.text.files import list_files
from mlprun.errors import DataError

NFC, NFD = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def make(root: Path, *names: str) -> Path:
    """Empty files; `train/cat*3` makes train/cat/0.txt to 2.txt."""
    for name in names:
        folder, _, count = name.partition("*")
        files = [f"{folder}/{i}.txt" for i in range(int(count))] if count else [name]
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
    return root


def sizes(root: Path) -> dict[str, int]:
    parts = list_parts(root, "texts")
    return {name: len(part.paths) for name in ("train", "val", "test") if (part := getattr(parts, name)) is not None}


@pytest.fixture(autouse=True)
def _collect_warnings(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mlprun")


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "valid", "eval"),
        ("train", "dev", "test"),
        ("train", None, "Testing"),
        ("train", None, "valid"),  # the only other split is the test part
    ],
)
def test_usual_names_of_splits(tmp_path, caplog, train, val, test):
    for name, count in ((train, 3), (val, 2), (test, 1)):
        if name:
            make(tmp_path, f"{name}/a*{count}", f"{name}/b*{count}")
    assert sizes(tmp_path) == {"train": 6, "test": 2} | ({"val": 4} if val else {})
    assert list_parts(tmp_path, "texts").classes == ["a", "b"]
    assert num_class_folders(tmp_path, "texts") == 2
    assert not caplog.messages


@pytest.mark.parametrize(
    "classes",
    [("train", "bus"), ("valid", "invalid"), ("Test", "control"), ("eval", "train", "x"), ("train_line", "test_line")],
)
def test_a_class_may_have_the_name_of_a_split(tmp_path, classes):
    make(tmp_path, *(f"{name}*2" for name in classes))
    assert sizes(tmp_path) == {"train": 2 * len(classes)}
    assert list_parts(tmp_path, "texts").classes == sorted(classes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("train/a*1", "train/b*1", "val/a*1", "valid/a*1"), "val and valid are both names of the val split\n"),
        (("train/a*1", "Training/a*1"), "Training and train are both names of the train split\n"),
        (("Valid/a*1", "Testing/a*1"), "train: no class folders in it"),
        (("a*1", "b*1", "test/a*1", "test/b*1"), r"test holds folders that are also beside it \(a, b\).*\n.*/train"),
        (("a/train*1", "a/test*1", "b/train*1", "b/test*1"), "2 class folders .* same folders: test, train\n"),
        (("train/a*1", "train/b*1", "test/c*1"), "class 'c' is not one of the 2 of the training part"),
        (
            ("a*2", "b*2", "a/1.md", "a/2.md", "a/3.md", "a/4.md", "b/4.md", "b/5.md"),
            "6 of 10 files are not used: a/2.md, .* 3 more",
        ),
        (
            ("training_set/a*1", "test_set/a*1", "single_prediction*1"),
            "test_set, training_set hold .*\n  rename .* test",
        ),
        (("seg_train/seg_train/a*1", "seg_test/seg_test/a*1"), "seg_test, seg_train hold folders, so they seem to be"),
        (("TrainImages/a*1", "ValImages/a*1"), "rename them: train, val"),
        (("train/a/x*1", "train/b*1", "bus*2", "car*2"), "4 of 6 files are not used: bus/0.txt"),  # train is a class
        (
            ("a*2", "b/1.md", "b/2.md"),
            r"b: no texts in this class folder \(looked for .txt; it has 2 other files: 1.md",
        ),
    ],
)
def test_layouts_that_are_refused(tmp_path, files, message):
    with pytest.raises(DataError, match=message):
        list_parts(make(tmp_path, *files), "texts")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((*("train/a*2", "train/b*2"), "test/1.md", "extra/x.md"), "2 folders not used: extra, test (splits: train)"),
        (("a*2", "b*2", "a/9.md"), "1 of 5 files are not used: a/9.md; texts end in .txt"),
        (("a*2", "b*2", "c.txt"), "1 of 5 files are not used: c.txt"),  # of no class
        (("train/a*2", "train/b*2", "c.txt"), "1 of 5 files are not used: c.txt"),
        (("train/a*2", "train/b*2", "train/c*2", "test/a*1"), "no examples of 2 of 3 classes: b, c"),
        (("cat*2", "Cat*2"), "'Cat' and 'cat' are two classes, whose names look the same"),
        (
            ("a*2", *("b*2", "a/0.xml", "a/1.xml"), *("b/0.xml", "b/1.xml", "b/1.json")),
            "5 of 9 files are not used: a/0",
        ),
        (("x/a*1", "x/b*1", "y/a*1", "y/b*1"), "its 2 class folders (x, y) all have the same folders: a, b; if those"),
    ],
)
def test_layouts_that_are_reported(tmp_path, caplog, files, message):
    list_parts(make(tmp_path, *files), "texts")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].removeprefix(str(tmp_path)).removeprefix("/test").startswith(f": {message}")


@pytest.mark.parametrize(("link", "to"), [("test", "train"), ("test/a", "train/a"), ("train/c", "train/a")])
def test_a_folder_that_links_put_into_two_splits_or_classes_is_reported(tmp_path, caplog, link, to):
    make(tmp_path, "train/a*2", "train/b*2")
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / to)
    list_parts(tmp_path, "texts")
    assert sum("are the same folder: their examples are in both" in message for message in caplog.messages) == 1


def test_a_link_to_nowhere_may_have_been_a_class(tmp_path, caplog):
    make(tmp_path, "a*2", "b*2").joinpath("c").symlink_to("gone")
    list_parts(tmp_path, "texts")
    assert caplog.messages == [f"{tmp_path}: 1 of 5 files are not used: c; texts end in .txt"]


def test_a_pipe_among_the_files_is_refused_as_it_might_never_answer(tmp_path):
    os.mkfifo(make(tmp_path, "a*2", "b*2") / "b/2.txt")
    with pytest.raises(DataError, match=r"b/2\.txt: cannot be read: it is no regular file"):
        list_parts(tmp_path, "texts")


@pytest.mark.parametrize(
    "file", [".DS_Store", "a/Thumbs.db", "a/desktop.ini", "__MACOSX/a/._0.txt", ".git/x.txt", "LICENSE"]
)
def test_what_systems_leave_behind_is_ignored(tmp_path, caplog, file):
    make(tmp_path, "a*2", "b*2", file)
    assert sizes(tmp_path) == {"train": 4}
    assert num_class_folders(tmp_path, "texts") == 2
    assert not caplog.messages


@pytest.mark.parametrize("forms", [(NFC, NFD), (NFD, NFC)])
def test_unicode_forms_of_a_name_are_one_class(tmp_path, forms):
    make(tmp_path, f"train/{forms[0]}*3", "train/tea*3", f"test/{forms[1]}*1")
    parts = list_parts(tmp_path, "texts")
    assert parts.classes == [forms[0], "tea"]  # as in the training part
    assert parts.test is not None
    assert parts.test.targets == [0]
    assert list_parts(tmp_path, "texts", classes=["tea", forms[1]]).train.targets == [1, 1, 1, 0, 0, 0]


def test_two_unicode_forms_side_by_side_are_merged(tmp_path):
    make(tmp_path, f"{NFC}*3", f"{NFD}*2", "tea*1")
    assert num_class_folders(tmp_path, "texts") == 2
    assert sorted(list_parts(tmp_path, "texts").train.targets) == [0, 0, 0, 0, 0, 1]


def test_a_folder_in_between_is_named(tmp_path):
    make(tmp_path, "unpacked/train/a*1", "unpacked/test/a*1")
    with pytest.raises(
        DataError, match=r"only one class folder, unpacked;.*\n  is it data.root=.*/unpacked, with test, tr"
    ):
        num_class_folders(tmp_path, "texts")


def test_running_text_knows_the_same_names(tmp_path, caplog):
    make(tmp_path, "Training/1.txt", "Training/2.txt", "Testing/1.txt", "valid/1.txt", "Training/notes.md")
    train, test = list_files(tmp_path)
    assert (len(train), len(test)) == (2, 1)
    assert caplog.messages == [
        f"{tmp_path / 'valid'} is not used: val is the end of the training text",
        f"{tmp_path}: 1 of 4 files are not used: Training/notes.md; texts end in .txt",
    ]
