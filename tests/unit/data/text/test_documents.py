"""Text as data: class folders, IMDB's archive, running text, masked words, made-up reviews."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import logging
import pickle
import tarfile
import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.instantiate import construct
from mlprun.course.reviews import reviews, sentences_and_targets
from mlprun.data.source import IGNORED, Examples
from mlprun.data.text import imdb as imdb_module
from mlprun.data.text.documents import TextFiles, TextStream, text_folder
from mlprun.data.text.files import cut_pieces, read_text
from mlprun.data.text.imdb import imdb, imdb_masked
from mlprun.data.text.language_model import language_model, masked, python_docs
from mlprun.data.text.masking import mask_tokens
from mlprun.data.text.tokenizer import MASK, PADDING, SPECIAL, UNKNOWN
from mlprun.errors import ConfigError, DataError
from mlprun.runs import checkpoint
from tests.helpers.files import write

TEXT = {
    "tokens": "words",
    "lowercase": True,
    "vocab_size": 1000,
    "min_frequency": 1,
    "ngrams": 1,
    "max_length": 8,
    "vocabulary": None,
    "bucketing": 0,
}
CHARACTERS = TEXT | {"tokens": "characters", "lowercase": False}


@pytest.fixture
def films(tmp_path):
    """Two classes, three training and one test review each."""
    files = {f"train/neg/{i}.txt": f"A dull film {word}." for i, word in enumerate(("really", "truly", "indeed"))}
    files |= {f"train/pos/{i}.txt": f"A lovely film {word}." for i, word in enumerate(("really", "truly", "indeed"))}
    return write(tmp_path / "films", files | {"test/neg/0.txt": "A dull surprise.", "test/pos/0.txt": "Lovely!"})


# ------------------------------------------------------------------------------------------- class folders


def test_a_folder_of_texts_becomes_ids_and_classes(films):
    source = text_folder(films, TEXT)
    assert source.train.inputs.shape == (6, 8)
    assert source.train.inputs.dtype == torch.int32
    assert source.train.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.train.targets.dtype == torch.int64
    assert source.class_names == ("neg", "pos")
    assert source.padding == PADDING
    assert [source.tokenizer.decode(row.tolist()) for row in source.train.inputs[::3]] == [
        "a dull film really.",
        "a lovely film really.",
    ]
    assert set(source.fingerprints) == {str(films / "train"), str(films / "test")}


def test_the_test_part_does_not_reach_the_vocabulary(films):
    source = text_folder(films, TEXT)
    assert "surprise" not in source.tokenizer.tokens
    assert source.tokenizer.decode(source.test.inputs[0].tolist()) == "a dull [UNK]."


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
        ({"train/new/0.md": "x"}, "no texts in this class folder"),
        ({"test/new/0.txt": "x"}, "'new' is not one of the 2"),
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


# -------------------------------------------------------------------------------------------------- IMDB


def imdb_archive():
    files = {
        f"aclImdb/{part}/{name}/{i}_{stars}.txt": f"{word} film number {i}"
        for part in ("train", "test")
        for name, stars, word in (("neg", 1, "A dull"), ("pos", 10, "A lovely"))
        for i in range(4)
    }
    files |= {f"aclImdb/train/unsup/{i}_0.txt": f"Some odd film {i}" for i in range(3)}
    files |= {"aclImdb/train/urls_neg.txt": "http", "aclImdb/README": "x"}
    files |= {"../escaped.txt": "no", "aclImdb/train/neg/../../../escaped.txt": "no", "/tmp/escaped_imdb.txt": "no"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("aclImdb/train/pos/9_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The URL of a small archive of the same layout, whose checksum counts as the published one."""
    archive = imdb_archive()
    served = write(tmp_path / "served", {"aclImdb_v1.tar.gz": archive})
    monkeypatch.setattr(imdb_module, "IMDB_MD5", hashlib.md5(archive).hexdigest())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): ...

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_imdb_is_downloaded_unpacked_and_read_once_more_without_a_network(tmp_path, mirror, caplog):
    root = tmp_path / "root"
    with caplog.at_level(logging.WARNING):
        source = imdb(root, TEXT, mirrors=[mirror])
    assert "holds 4 reviews, the published one 12,500" in caplog.text
    assert source.class_names == ("neg", "pos")
    assert source.train.targets.tolist() == source.test.targets.tolist() == [0] * 4 + [1] * 4
    assert source.tokenizer.decode(source.train.inputs[4].tolist()) == "a lovely film number 0"
    assert "odd" not in source.tokenizer.tokens  # reviews without a class are not read
    assert sorted(p.name for p in root.iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz"]
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(root.rglob("9_9.txt"))
    (root / "aclImdb_v1.tar.gz").unlink()
    again = imdb(root, TEXT, mirrors=["http://127.0.0.1:9/"])
    assert torch.equal(again.train.inputs, source.train.inputs)
    assert again.fingerprints == source.fingerprints


def test_imdbs_reviews_without_a_class_serve_for_masked_words(tmp_path, mirror):
    source = imdb_masked(tmp_path / "root", TEXT, mirrors=[mirror])
    assert (len(source.train), len(source.test)) == (11, 8)
    assert "odd" in source.tokenizer.tokens
    assert source.perturb is not None


@pytest.mark.parametrize("content", [b"no archive", imdb_archive()[:-200], b""])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, content):
    write(tmp_path, {"aclImdb_v1.tar.gz": content})
    with pytest.raises(DataError, match=r"aclImdb_v1.tar.gz: (damaged|cannot be unpacked)"):
        imdb(tmp_path, TEXT)
    assert [p.name for p in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


def test_without_a_network_it_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"Put aclImdb_v1.tar.gz, or the folder aclImdb.*data=reviews"):
        imdb(tmp_path, TEXT, mirrors=["http://127.0.0.1:9/"])


# ------------------------------------------------------------------------------------------- running text

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
    assert source.tokenizer.decode(whole) == ALPHABET  # in a row: train, then val, then test
    assert len(source.val) == pytest.approx(0.2 * len(source.train) / 0.64, abs=2)
    assert source.perturb is None


def test_no_word_is_cut_in_two_between_the_parts():
    parts = cut_pieces("word " * 100, 0.13, 0.17)
    assert "".join(parts) == "word " * 100
    assert {word for part in parts for word in part.split()} == {"word"}


def test_a_folder_is_read_by_path_and_test_is_its_own_where_it_is(tmp_path):
    write(tmp_path, {"b/2.txt": "bbbb " * 20, "a.txt": "aaaa " * 20, "c.md": "no", ".hidden.txt": "no"})
    source = language_model(tmp_path, CHARACTERS)
    assert source.tokenizer.decode(source.train.inputs[0].tolist()) == "aaaa aaa"
    write(tmp_path, {"train/x.txt": "train " * 40, "test/x.txt": "test " * 20})
    source = language_model(tmp_path, CHARACTERS)
    assert source.tokenizer.decode(source.train.inputs[0].tolist()) == "train tr"
    assert source.tokenizer.decode(source.val.inputs[0].tolist()) == " train t"
    assert source.tokenizer.decode(source.test.inputs[0].tolist()) == "t[UNK][UNK]t t[UNK][UNK]"  # no e, no s in train


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


def test_pythons_own_reference_is_a_corpus():
    source = python_docs(CHARACTERS | {"max_length": 100})
    assert len(source.train) > 2000
    assert len(source.val) + len(source.test) > 500
    assert 50 < len(source.tokenizer) < 300
    assert all(mark.startswith("sha256:") for mark in source.fingerprints.values())
    words = python_docs(TEXT | {"max_length": 32}, masked=True)
    assert words.perturb is not None
    assert torch.equal(words.train.inputs, words.train.targets)


# ------------------------------------------------------------------------------------------- masked words


def batch(num_rows=2000, length=40, vocab_size=500, seed=0):
    """Rows of 1 to `length` ordinary ids, then padding; here and there an unknown one."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab_size, (num_rows, length), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < 0.05] = UNKNOWN
    lengths = torch.randint(1, length + 1, (num_rows, 1), generator=generator)
    ids = torch.where(torch.arange(length) < lengths, ids, PADDING)
    ids[:, 0] = 3
    return ids


def test_15_percent_are_chosen_and_of_those_80_10_and_10_percent_are_hidden_replaced_and_kept():
    ids = batch()
    inputs, targets = mask_tokens(ids, ids, torch.Generator().manual_seed(1), vocab_size=500)
    ordinary, chosen = ids >= len(SPECIAL), targets != IGNORED
    expected = (0.15 * ordinary.sum(1)).round().clamp(min=1)
    assert torch.equal(chosen.sum(1).float(), expected)  # a share of every sequence, at least one
    assert not (chosen & ~ordinary).any()  # never padding, nor what is unknown
    assert torch.equal(targets[chosen], ids[chosen])
    assert torch.equal(inputs[~chosen], ids[~chosen])
    count = int(chosen.sum())
    for found, share in (
        (inputs[chosen] == MASK, 0.8),
        ((inputs[chosen] != MASK) & (inputs[chosen] != ids[chosen]), 0.1 * 496 / 497),
        (inputs[chosen] == ids[chosen], 0.1 + 0.1 / 497),
    ):
        spread = (count * share * (1 - share)) ** 0.5
        assert abs(int(found.sum()) - count * share) < 4 * spread  # of the binomial distribution
    replaced = inputs[chosen & (inputs != MASK) & (inputs != ids)]
    assert int(replaced.min()) >= len(SPECIAL)
    assert int(replaced.max()) < 500


def test_the_places_are_equally_likely():
    ids = torch.full((4000, 20), 7)
    _, targets = mask_tokens(ids, ids, torch.Generator().manual_seed(0), vocab_size=10)
    counts = (targets != IGNORED).sum(0).double()
    assert ((counts - 600).abs() < 5 * (4000 * 0.15 * 0.85) ** 0.5).all()


def test_masking_is_a_function_of_the_generator_and_changes_nothing_given():
    ids = batch(8)
    before = ids.clone()
    first, second, other = (mask_tokens(ids, ids, torch.Generator().manual_seed(s), vocab_size=500) for s in (0, 0, 1))
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert not torch.equal(first[1], other[1])
    assert torch.equal(ids, before)
    assert first[0].dtype == first[1].dtype == torch.int64


def test_masking_never_waits_for_a_device():
    ids = batch(4).to("meta")  # has no values to look at
    inputs, targets = mask_tokens(ids, ids, torch.Generator(), vocab_size=500)
    assert inputs.device.type == targets.device.type == "meta"
    assert inputs.shape == targets.shape == ids.shape


def test_a_file_is_an_example_or_all_files_are_one_text(films):
    write(films, {"train/neg/empty.txt": ""})
    documents = masked(films, TEXT, documents=True)
    assert (len(documents.train), len(documents.test)) == (6, 2)  # nothing can be masked in an empty one
    assert torch.equal(documents.train.inputs, documents.train.targets)
    assert documents.tokenizer.decode(documents.train.inputs[0].tolist()) == "a dull film really."
    running = masked(write(films / "book", {"a.txt": "one two three four five six " * 30}), TEXT)
    assert running.val is not None
    assert (running.train.inputs[:-1] != PADDING).all()
    generator = torch.Generator().manual_seed(0)
    inputs, targets = running.perturb(running.train.inputs.long(), running.train.targets.long(), generator)
    assert ((targets != IGNORED).sum(1) >= 1).all()
    assert int(inputs.max()) < len(running.tokenizer)


# ------------------------------------------------------------------------------------- another run's tokens


def test_another_runs_tokens_are_taken(films, tmp_path):
    source = text_folder(films, TEXT)
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    config = {"data": {"text": TEXT}}
    checkpoint.save({"tokenizer": source.tokenizer.to_plain(), "config": config}, folder / "checkpoints" / "best.pt")
    write(
        tmp_path, {"other/a/1.txt": "new words", "other/a/2.txt": "lovely", "other/b/1.txt": "x", "other/b/2.txt": "y"}
    )
    for typed in (folder, folder / "checkpoints", folder / "checkpoints" / "best.pt"):
        found = text_folder(tmp_path / "other", TEXT | {"vocabulary": str(typed)})
        assert found.tokenizer == source.tokenizer
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


# ---------------------------------------------------------------------------------------- made-up reviews


def test_reviews_are_balanced_varied_and_the_same_for_a_seed():
    sentences, targets = sentences_and_targets(4000, seed=0)
    assert sum(targets) == 2000
    assert len(set(sentences)) > 3950
    assert len({word for sentence in sentences for word in sentence.split()}) > 200
    assert sentences_and_targets(100, seed=0)[0] == sentences[:100]
    assert sentences_and_targets(100, seed=1)[0] != sentences[:100]


def test_a_bag_of_words_cannot_tell_reviews_as_well_as_pairs_can():
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

    def accuracy(ngrams):
        text = TEXT | {"vocab_size": 6000, "min_frequency": 2, "ngrams": ngrams, "max_length": 96}
        source = reviews(10_000, text)

        def bag(part):
            row, place = part.inputs.nonzero(as_tuple=True)
            ids = part.inputs[row, place].numpy()
            return csr_matrix((np.ones(len(ids)), (row.numpy(), ids)), (len(part), len(source.tokenizer)))

        model = LogisticRegression(max_iter=1000).fit(bag(source.train), source.train.targets)
        return model.score(bag(source.test), source.test.targets)

    words, pairs = accuracy(1), accuracy(2)
    assert 0.70 < words < 0.80
    assert 0.84 < pairs < 0.95


def test_reviews_fit_the_defaults_of_their_file():
    config = check(Composer().compose(["data=reviews"]))
    source = construct(config.data.dataset, "data.dataset")
    assert isinstance(source.train, Examples)
    assert (len(source.train), len(source.test)) == (8000, 2000)
    assert len(source.tokenizer) <= config.data.text.vocab_size
    assert (source.train.inputs[:, -1] == PADDING).all()  # none is cut
    assert (source.train.inputs == UNKNOWN).float().mean() < 0.001
    assert source.class_names == ("neg", "pos")


# ----------------------------------------------------------------------------------------------- the config


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
