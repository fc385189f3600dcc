"""What of the texts no model sees."""

from __future__ import annotations

import random

import pytest

from mlprun.data.text.documents import text_folder
from mlprun.data.text.language_model import masked
from tests.helpers.files import write
from tests.helpers.texts import TEXT

LONG = {"a/0.txt": "one " * 12, "a/1.txt": "one two", "b/0.txt": "two " * 20, "b/1.txt": "two", "b/2.txt": "two"}
CHINESE = (
    ("这部", "那个", "整个"),
    ("电影", "演员", "故事", "画面"),
    ("其实", "一直", ""),
    ("很好看", "太棒了", "非常无聊"),
)
THAI = (("หนัง", "เพลง", "อาหาร"), ("เรื่องนี้", "ของเขา"), ("สนุก", "น่าเบื่อ", "แพง"), ("มาก", "จริงๆ"))


def clauses(parts, separator: str = "", count: int = 40) -> dict[str, str]:
    """Texts of three clauses each, whose words are joined by `separator`."""
    draw = random.Random(0)

    def clause() -> str:
        return separator.join(word for words in parts if (word := draw.choice(words)))

    return {f"{'ab'[i % 2]}/{i}.txt": "。".join(clause() for _ in range(3)) for i in range(count)}


@pytest.mark.parametrize("read", [text_folder, lambda root, text: masked(root, text, documents=True)])
def test_texts_that_are_cut_are_counted_and_named(tmp_path, caplog, read):
    ends = {"train": "", "test": " "}  # no file is a copy
    read(write(tmp_path, {f"{part}/{name}": LONG[name] + ends[part] for part in ends for name in LONG}), TEXT)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith("4 of 10 texts are longer than data.text.max_length=8 (up to 20 tokens): 44 % of all")
    assert str(tmp_path / "train" / "a" / "0.txt") in message


def test_texts_that_fit_are_not_reported(tmp_path, caplog):
    text_folder(write(tmp_path, dict.fromkeys(LONG, "one two three four five six seven eight")), TEXT)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("parts", "separator", "options", "warned"),
    [
        (CHINESE, "", {"min_frequency": 1}, "whole clauses of 9 letters on average"),
        (
            CHINESE,
            "",
            {"min_frequency": 9, "ngrams": 2},
            "a script without spaces between words, and are whole clauses",
        ),
        (CHINESE, " ", {}, ""),  # cut into words before
        (CHINESE, "", {"tokens": "characters"}, ""),
        (THAI, "", {"min_frequency": 1}, "(or bpe) cuts such texts"),
        (THAI, " ", {}, ""),
        ((("This film", "That play"), ("was fine", "is awful")), " ", {}, ""),
        ((tuple(f"word{i}" for i in range(100)),), "", {"min_frequency": 4}, "data.text.min_frequency=4 leaves them"),
        ((tuple(f"word{i}" for i in range(100)),), "", {"vocab_size": 9}, "data.text.vocab_size=9 leaves no room"),
    ],
)
@pytest.mark.parametrize("hold", ["memory", "files"])
def test_words_that_no_model_tells_apart_are_reported(tmp_path, caplog, parts, separator, options, warned, hold):
    text_folder(write(tmp_path, clauses(parts, separator)), {**TEXT, "max_length": 50, **options}, hold)
    seen = " ".join(record.getMessage() for record in caplog.records)
    if hold == "memory" or "data.text" not in warned:  # what is unknown in files is counted as they are read
        assert warned in seen
        assert bool(warned) == bool(seen)
