"""Running text, cut into blocks of which every token is a target once."""

from __future__ import annotations

import pytest
import torch

from mlprun.data.source import IGNORED
from mlprun.data.text.files import cut_pieces
from mlprun.data.text.language_model import language_model, masked
from mlprun.data.text.tokenizer import PADDING
from mlprun.errors import ConfigError, DataError
from tests.helpers.files import write
from tests.helpers.texts import TEXT

CHARACTERS = TEXT | {"tokens": "characters", "lowercase": False}


ALPHABET = "".join(chr(97 + i % 26) + " " * (i % 5 == 4) for i in range(200))


def test_every_token_but_the_first_is_a_target_once(tmp_path):
    write(tmp_path, {"book.txt": ALPHABET})
    source = language_model(tmp_path / "book.txt", CHARACTERS, val_fraction=0.2, test_fraction=0.2)
    whole = []
    for part in (source.train, source.val, source.test):
        assert part.inputs.shape == part.targets.shape == (len(part), 8)
        assert part.inputs.dtype == torch.int32
        real = part.targets != IGNORED
        assert torch.equal(real, part.inputs != PADDING)
        assert torch.equal(part.inputs.flatten()[1:][real.flatten()[1:]], part.targets[real][:-1])  # one ahead
        whole += [int(part.inputs[0, 0]), *part.targets[real].tolist()]
    assert source.inputs.tokenizer.decode(whole) == ALPHABET  # in a row: train, then val, then test
    assert len(source.val) == pytest.approx(0.2 * len(source.train) / 0.64, abs=2)
    assert source.perturb is None


def test_no_word_is_cut_in_two_between_the_parts():
    parts = cut_pieces("word " * 100, 0.13, 0.17)
    assert "".join(parts) == "word " * 100
    assert {word for part in parts for word in part.split()} == {"word"}


def test_a_folder_is_read_by_path_and_test_is_its_own_where_it_is(tmp_path):
    write(tmp_path, {"b/2.txt": "bbbb " * 20, "a.txt": "aaaa " * 20, "c.md": "no", ".hidden.txt": "no"})
    source = language_model(tmp_path, CHARACTERS)
    assert source.inputs.tokenizer.decode(source.train.inputs[0].tolist()) == "aaaa aaa"
    write(tmp_path, {"train/x.txt": "train " * 40, "test/x.txt": "test " * 20})
    source = language_model(tmp_path, CHARACTERS)
    assert source.inputs.tokenizer.decode(source.train.inputs[0].tolist()) == "train tr"
    assert source.inputs.tokenizer.decode(source.val.inputs[0].tolist()) == " train t"
    assert (
        source.inputs.tokenizer.decode(source.test.inputs[0].tolist()) == "t[UNK][UNK]t t[UNK][UNK]"
    )  # no e, no s in train


@pytest.mark.parametrize(
    ("content", "text", "error", "problem"),
    [
        ("too short", CHARACTERS, DataError, "do not fill a block of data.text.max_length=8"),
        ("", CHARACTERS, DataError, "they are empty"),
        ("one " * 150 + "two " * 50, TEXT, DataError, "no token of the test part is in the vocabulary"),
        ("one " * 100, TEXT | {"ngrams": 2}, ConfigError, "data.text.ngrams=2"),
    ],
)
@pytest.mark.parametrize("function", [language_model, masked])
def test_text_that_teaches_nothing_is_refused(tmp_path, function, content, text, error, problem):
    write(tmp_path, {"book.txt": content})
    with pytest.raises(error, match=problem):
        function(tmp_path / "book.txt", text, val_fraction=0.2, test_fraction=0.2)


@pytest.mark.parametrize(
    ("root", "problem"), [(None, "data.root has no value"), ("nowhere", "no such file"), (".", "no texts")]
)
def test_a_root_without_text_is_refused(tmp_path, monkeypatch, root, problem):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=problem):
        language_model(root, CHARACTERS)


def test_a_text_that_goes_from_train_to_test_changes_the_fingerprint(tmp_path):
    for name in ("train/a.txt", "train/b.txt", "test/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"the text called {name} is about nothing at all")
    before = masked(tmp_path, TEXT, documents=True).fingerprints
    (tmp_path / "train/b.txt").rename(tmp_path / "test/b.txt")
    assert masked(tmp_path, TEXT, documents=True).fingerprints != before
