"""Text as data: class folders, in memory, read lazily or as a stream."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch.utils.data import DataLoader

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.instantiate import construct
from mlprun.data.text.documents import TextFiles, TextStream, text_folder
from mlprun.data.text.files import read_text
from mlprun.data.text.tokenizer import PADDING, UNKNOWN
from mlprun.errors import ConfigError, DataError
from mlprun.runs import checkpoint
from tests.helpers.files import write
from tests.helpers.texts import TEXT


def test_a_folder_of_texts_becomes_ids_and_classes(films):
    source = text_folder(films, TEXT)
    assert source.train.inputs.shape == (6, 8)
    assert source.train.inputs.dtype == torch.int32
    assert source.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.train.targets.dtype == torch.int64
    assert source.class_names == ("neg", "pos")
    assert source.inputs.padding == PADDING
    assert [source.inputs.tokenizer.decode(row.tolist()) for row in source.train.inputs[::3]] == [
        "a dull film really.",
        "a lovely film really.",
    ]
    assert set(source.fingerprints) == {str(films / "train"), str(films / "test")}


def test_the_test_part_does_not_reach_the_vocabulary(films):
    source = text_folder(films, TEXT)
    assert "surprise" not in source.inputs.tokenizer.tokens
    assert source.inputs.tokenizer.decode(source.test.inputs[0].tolist()) == "a dull [UNK]."


def test_without_a_test_part_one_is_carved_before_the_vocabulary_is_made(tmp_path):
    root = write(tmp_path, {f"{c}/{i}.txt": f"{c}{i} word" for c in ("a", "b") for i in range(10)})
    source = text_folder(root, TEXT, test_fraction=0.3)
    assert (len(source.train), len(source.test)) == (14, 6)
    assert source.test.targets.tolist() == [0, 0, 0, 1, 1, 1]  # of each class
    assert (source.test.inputs[:, 0] == UNKNOWN).all()
    assert (source.train.inputs != UNKNOWN).all()
    assert torch.equal(text_folder(root, TEXT, test_fraction=0.3).test.inputs, source.test.inputs)


@pytest.mark.parametrize("tokens", ["words", "characters", "bpe"])
def test_memory_files_and_stream_give_the_same_ids(films, tokens):
    text = TEXT | {"tokens": tokens}
    memory, files, stream = (text_folder(films, text, hold) for hold in ("memory", "files", "stream"))
    assert isinstance(files.train, TextFiles)
    assert isinstance(stream.train, TextStream)
    assert isinstance(stream.test, TextFiles)
    for held, lazy in ((memory.train, files.train), (memory.test, files.test)):
        assert torch.equal(torch.stack([lazy[i][0] for i in range(len(lazy))]), held.inputs)
        assert torch.equal(lazy.targets, held.targets)
    rows = [(ids.tolist(), target) for ids, target in stream.train]
    assert [target for _, target in rows] != sorted(target for _, target in rows)  # shuffled
    assert rows == [(ids.tolist(), target) for ids, target in stream.train]  # once
    assert sorted(rows) == sorted(zip(memory.train.inputs.tolist(), memory.train.targets.tolist(), strict=True))


@pytest.mark.parametrize("tokens", ["words", "bpe"])
def test_workers_read_files_as_the_run_does(films, tokens):
    files = text_folder(films, TEXT | {"tokens": tokens}, "files").train
    files[0]  # what has been used is sent as well
    (inputs, targets), *_ = DataLoader(files, batch_size=6, num_workers=2)
    assert torch.equal(inputs, text_folder(films, TEXT | {"tokens": tokens}).train.inputs)
    assert targets.tolist() == files.targets.tolist()
    assert torch.equal(pickle.loads(pickle.dumps(files))[1][0], files[1][0])


def test_chosen_classes_leave_the_other_folders_out(films):
    write(films, {"train/unsup/0.txt": "?", "test/other/0.txt": "?"})
    assert text_folder(films, TEXT, classes=["pos", "neg"]).class_names == ("pos", "neg")
    with pytest.raises(DataError, match="'other' is not one of the 3"):
        text_folder(films, TEXT)


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"train/neg/0.txt": b"caf\xe9 was"}, r"0.txt: not UTF-8: byte 0xe9 at position 3\n.*iconv -f latin1"),
        ({"train/neg/0.txt": "caf\xe9 was".encode("utf-16")}, r"0.txt: not UTF-8: byte 0xff .*\n.*iconv -f utf-16"),
    ],
)
def test_files_that_cannot_be_used_are_named(films, files, problem):
    write(films, files)
    with pytest.raises(DataError, match=problem):
        text_folder(films, TEXT)


def test_a_mark_at_the_start_and_windows_lines_are_not_text(tmp_path):
    write(tmp_path, {"a.txt": b"\xef\xbb\xbfone\r\ntwo\rthree\n"})
    assert read_text(tmp_path / "a.txt") == "one\ntwo\nthree\n"


def test_an_unknown_way_of_holding_is_refused(films):
    with pytest.raises(ConfigError, match="hold=disk"):
        text_folder(films, TEXT, "disk")


def test_another_runs_tokens_are_taken(films, tmp_path):
    source = text_folder(films, TEXT)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    config = {"data": {"text": TEXT}}
    checkpoint.save(
        {"tokenizer": source.inputs.tokenizer.to_plain(), "config": config}, folder / "checkpoints" / "best.pt"
    )
    write(
        tmp_path, {"other/a/1.txt": "new words", "other/a/2.txt": "lovely", "other/b/1.txt": "x", "other/b/2.txt": "y"}
    )
    for typed in (folder, folder / "checkpoints", folder / "checkpoints" / "best.pt"):
        found = text_folder(tmp_path / "other", TEXT | {"vocabulary": str(typed)})
        assert found.inputs.tokenizer == source.inputs.tokenizer
    named = TEXT | {"vocabulary": str(folder)}
    with pytest.raises(ConfigError, match=r"data.text.vocab_size=5: .* tokens\n  set data.text.vocab_size=1000"):
        text_folder(films, named | {"vocab_size": 5})
    with pytest.raises(ConfigError, match=r"data.text.lowercase=false: .*\n  set data.text.lowercase=true"):
        text_folder(films, named | {"lowercase": False})


def test_a_vocabulary_that_is_not_there_is_named(films, tmp_path):
    with pytest.raises(ConfigError, match=r"data.text.vocabulary=.*nowhere: there is no file"):
        text_folder(films, TEXT | {"vocabulary": str(tmp_path / "nowhere")})
    checkpoint.save({"model": {}}, tmp_path / "digits.pt")
    with pytest.raises(ConfigError, match="no run on text"):
        text_folder(films, TEXT | {"vocabulary": str(tmp_path / "digits.pt")})
    write(tmp_path, {"broken.pt": "x"})
    with pytest.raises(ConfigError, match="damaged"):
        text_folder(films, TEXT | {"vocabulary": str(tmp_path / "broken.pt")})


def test_a_config_says_what_a_folder_holds(films):
    config = check(Composer().compose(["data=text_folder", f"data.root={films}", "data.text.max_length=7"]))
    assert (config.data.num_outputs, config.data.input_shape) == (2, [7])
    source = construct(config.data.dataset, "data.dataset")
    assert source.train.inputs.shape == (6, 7)


def test_a_value_that_cannot_work_is_named_by_the_key_that_was_typed(films):
    line = ["data=text_folder", f"data.root={films}", "data.text.tokens=bpe", "data.text.vocab_size=100"]
    config = check(Composer().compose(line))
    with pytest.raises(ConfigError) as refused:
        construct(config.data.dataset, "data.dataset")
    assert str(refused.value).startswith("data.text.vocab_size=100: is too small for")
    with pytest.raises(ConfigError, match=r"^data.text.max_length=0: must be 1 or more"):
        check(Composer().compose(["data=reviews", "data.text.max_length=0"]))
