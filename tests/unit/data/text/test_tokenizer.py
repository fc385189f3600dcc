"""Text to token ids and back."""

from __future__ import annotations

import pickle
import random
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlprun.data.text.tokenizer import (
    MASK,
    PADDING,
    SPECIAL,
    UNKNOWN,
    Tokenizer,
    encode_all,
    make_tokenizer,
    portions,
)
from mlprun.errors import ConfigError, DataError

FILM = ["the film was good", "the film was not good", "the plot was not bad"]


def make(texts, kind="words", **changes):
    options = {"lowercase": False, "vocab_size": 1000, "min_frequency": 1, "ngrams": 1} | changes
    return make_tokenizer(texts, kind=kind, **options)


# ------------------------------------------------------------------------------------------------ cutting


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("The film was good.", ["The", "film", "was", "good", "."]),
        ("It didn't work, did it?!", ["It", "didn't", "work", ",", "did", "it", "?", "!"]),
        ("the actors' own", ["the", "actors", "'", "own"]),
        ("3.14 of 1,000 in 1999.", ["3.14", "of", "1,000", "in", "1999", "."]),
        ("a well-made mp3", ["a", "well", "-", "made", "mp3"]),
        ("snake_case", ["snake", "_", "case"]),
        ("Größe naïve 北京", ["Größe", "naïve", "北京"]),
        ("the [MASK] was good", ["the", "[MASK]", "was", "good"]),
        ("[PAD] [UNK]", ["[", "PAD", "]", "[", "UNK", "]"]),
        (" \n\t", []),
        # accents and vowel signs, which are characters of their own, and what varies an emoji
        ("cafe\u0301", ["caf\u00e9"]),
        ("x\u0302\u0301s", ["x\u0302\u0301s"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("good\u2764\ufe0f!", ["good", "\u2764\ufe0f", "!"]),
    ],
)
def test_words_are_words_numbers_and_single_marks(text, tokens):
    assert Tokenizer("words", False, 1, SPECIAL).cut(text) == tokens


@pytest.mark.parametrize(
    ("ngrams", "tokens"),
    [
        (1, ["not", "so", "bad"]),
        (2, ["not", "not_so", "so", "so_bad", "bad"]),
        (3, ["not", "not_so", "not_so_bad", "so", "so_bad", "bad"]),
    ],
)
def test_ngrams_stand_where_they_begin(ngrams, tokens):
    assert Tokenizer("words", False, ngrams, SPECIAL).cut("not so bad") == tokens


def test_lowercase_makes_the_and_the_one_token_and_keeps_the_mask():
    tokenizer = make(["The the THE"], lowercase=True)
    assert tokenizer.tokens == (*SPECIAL, "the")
    assert tokenizer.encode("THE [MASK]") == [3, MASK]


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_a_typed_mask_is_the_mask_and_nothing_typed_is_padding(kind):
    tokenizer = make(["a [MASK] b [PAD] [UNK]"], kind)
    ids = tokenizer.encode("a [MASK] b [PAD]")
    assert ids.count(MASK) == 1
    assert PADDING not in ids
    assert UNKNOWN not in ids
    assert tokenizer.tokens.count("[MASK]") == 1


# --------------------------------------------------------------------------------------------- vocabulary


@pytest.mark.parametrize(
    ("changes", "tokens"),
    [
        ({}, ["the", "was", "film", "good", "not", "bad", "plot"]),  # 3 3 2 2 2 1 1; ties by the alphabet
        ({"min_frequency": 2}, ["the", "was", "film", "good", "not"]),
        ({"vocab_size": 5}, ["the", "was"]),
        ({"ngrams": 2, "min_frequency": 2}, ["the", "was", "film", "film_was", "good", "not", "the_film", "was_not"]),
    ],
)
def test_the_vocabulary_is_the_most_frequent_tokens(changes, tokens):
    assert make(FILM, **changes).tokens == (*SPECIAL, *tokens)


def test_what_the_vocabulary_lacks_is_unknown_but_a_missing_ngram_is_left_out():
    assert make(FILM).encode("a good film") == [UNKNOWN, 6, 5]
    tokenizer = make(FILM, ngrams=2, min_frequency=2)
    assert [tokenizer.tokens[i] for i in tokenizer.encode("the film was great")] == [
        *("the", "the_film", "film", "film_was", "was", "[UNK]")
    ]


def test_a_capital_whose_small_letter_has_an_accent_of_its_own_stays_in_its_word():
    assert Tokenizer("words", True, 1, SPECIAL).cut("İstanbul") == ["i\u0307stanbul"]


@pytest.mark.parametrize(("kind", "hidden"), [("words", 1), ("bpe", 1), ("characters", 4)])
def test_what_is_typed_with_a_mask_is_what_masking_makes_of_the_whole(kind, hidden):
    """The text of a mask is one token, where masking puts one for each that it hides."""
    tokenizer = make(["the film was good and the film was bad"] * 20, kind, vocab_size=400)
    whole, ids = tokenizer.encode("the film was good"), tokenizer.encode("the [MASK] was good")
    place = ids.index(MASK)
    assert ids == [*whole[:place], MASK, *whole[place + hidden :]]


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_a_book_is_cut_portion_by_portion_into_the_tokens_of_the_whole(kind, monkeypatch):
    draw = random.Random(0)
    pieces = ["the", "film", " ", "  ", "\n", "\n\n", " \n", "\t", "\u00a0", "'s", "don't", "1,000.5", "[MASK]", "ΟΔΟΣ"]
    pieces += ["\u0301", "é", "北京", "!", "\x1c"]
    book = "".join(draw.choices(pieces, k=3000))
    whole = make([book], kind, lowercase=True, vocab_size=400)
    tokens, ids = whole.cut(book), whole.encode(book)
    monkeypatch.setattr("mlprun.data.text.tokenizer._PORTION", 20)
    parts = list(portions(book))
    assert len(parts) > 100
    assert "".join(parts) == book
    assert (whole.cut(book), whole.encode(book)) == (tokens, ids)
    assert make([book], kind, lowercase=True, vocab_size=400) == whole


def test_bytes_leave_nothing_unknown():
    tokenizer = make(["abc"], "bpe")
    assert len(tokenizer) >= 259
    assert UNKNOWN not in tokenizer.encode("北京 😀")
    assert tokenizer.decode(tokenizer.encode("北京 😀")) == "北京 😀"


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_an_empty_text_is_one_unknown(kind):
    assert make(FILM, kind).encode("") == [UNKNOWN]


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"kind": "syllables"}, "data.text.tokens"),
        ({"kind": "bpe", "ngrams": 2}, "data.text.ngrams"),
        ({"kind": "bpe", "vocab_size": 258}, "data.text.vocab_size"),
        ({"vocab_size": 3}, "data.text.vocab_size"),
        ({"min_frequency": 4}, "data.text.min_frequency"),
        ({"min_frequency": 0}, "data.text.min_frequency"),
        ({"ngrams": 0}, "data.text.ngrams"),
    ],
)
def test_what_cannot_work_names_its_key(changes, key):
    with pytest.raises(ConfigError) as refused:
        make(FILM, **changes)
    assert refused.value.key == key


def test_empty_texts_are_refused():
    with pytest.raises(DataError, match="empty"):
        make(["", "  "])


def test_byte_pairs_without_their_library_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ConfigError, match=r"pip install 'mlprun\[text\]'"):
        make(FILM, "bpe")


# ----------------------------------------------------------------------------------------------- decoding


@pytest.mark.parametrize(
    "text",
    ["it wasn't good, was it?", "(no) [good] film: 3.14!", "a [MASK] film"],
)
def test_words_decode_to_readable_text(text):
    for ngrams in (1, 2, 3):
        tokenizer = make([text], ngrams=ngrams)
        assert tokenizer.decode([*tokenizer.encode(text), PADDING, PADDING]) == text


def test_an_id_that_no_token_has_is_refused():
    with pytest.raises(DataError, match="id 99"):
        make(FILM).decode([3, 99])


# ------------------------------------------------------------------------------------------------ whole sets


def test_texts_of_a_set_are_cut_and_padded_at_their_end():
    tokenizer = make(FILM)
    ids = encode_all(["the film was not good", "good", ""], tokenizer, max_length=3)
    assert ids.dtype == torch.int32
    assert ids.tolist() == [[3, 5, 4], [6, PADDING, PADDING], [UNKNOWN, PADDING, PADDING]]
    assert encode_all([], tokenizer, 3).shape == (0, 3)


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_a_tokenizer_travels_as_plain_values(kind, tmp_path):
    tokenizer = make(FILM, kind)
    torch.save(tokenizer.to_plain(), tmp_path / "plain.pt")
    again = Tokenizer.from_plain(torch.load(tmp_path / "plain.pt", weights_only=True))
    text = "the plot was good, though"
    ids = tokenizer.encode(text)
    assert again == tokenizer
    assert again.encode(text) == ids
    assert pickle.loads(pickle.dumps(tokenizer)).encode(text) == ids  # to a worker, after its first use


@pytest.mark.parametrize("plain", [{}, {"kind": "words"}, make(FILM).to_plain() | {"tokens": ["a", "b", "c"]}])
def test_other_values_are_no_tokenizer(plain):
    with pytest.raises(DataError, match="no tokenizer"):
        Tokenizer.from_plain(plain)


# ------------------------------------------------------------------------------------------------ properties

# No halves of surrogate pairs; and no `[MASK]`, which hypothesis reads in the source and which is no word.
ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40).filter(lambda text: "[MASK]" not in text.upper())
TEXTS = st.lists(ANY, min_size=1, max_size=8).filter(lambda texts: any(text.strip() for text in texts))
KINDS = st.sampled_from(["words", "characters", "bpe"])


@settings(max_examples=30)
@given(TEXTS, st.sampled_from(["characters", "bpe"]))
def test_characters_and_byte_pairs_decode_exactly(texts, kind):
    tokenizer = make(texts, kind, vocab_size=10_000)
    for text in filter(None, texts):
        assert tokenizer.decode(tokenizer.encode(text)) == text


@settings(max_examples=30)
@given(TEXTS, ANY, KINDS, st.booleans(), st.integers(1, 3))
def test_every_id_is_one_of_the_vocabulary_and_none_is_padding(texts, other, kind, lowercase, ngrams):
    tokenizer = make(texts, kind, lowercase=lowercase, ngrams=1 if kind == "bpe" else ngrams, vocab_size=300)
    ids = tokenizer.encode(other)
    assert len(tokenizer) == len(set(tokenizer.tokens)) <= 300
    assert ids
    assert all(PADDING < i < len(tokenizer) for i in ids)
    tokenizer.decode(ids)


@settings(max_examples=30)
@given(TEXTS, KINDS, st.randoms(use_true_random=False))
def test_the_order_of_the_texts_does_not_matter(texts, kind, rng: random.Random):
    shuffled = [*texts]
    rng.shuffle(shuffled)
    assert make(shuffled, kind, vocab_size=280) == make(texts, kind, vocab_size=280)
