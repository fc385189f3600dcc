"""Texts on the command line: what `inspect` tells of them, `predict` of a class, a continuation and a hidden word."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers.files import write
from tests.helpers.lines import finish
from tests.helpers.runs import record_of

GOOD, BAD = ["good", "great", "fine", "lovely"], ["bad", "awful", "poor", "dull"]
THINGS = ["film", "plot", "cast", "music", "end"]
CLASSIFIER = [
    "data=text_folder", "data.root=texts", "data.text.max_length=16", "model=embedding_average", "epochs=30",
    "optim.lr=0.01", "batch_size=16", "hydra.run.dir=run",
]  # fmt: skip
COUNT = [
    "data=corpus", "data.root=count.txt", "data.text.max_length=21", "model=lstm", "steps=120", "optim.lr=0.02",
    "hydra.run.dir=run",
]  # fmt: skip


def write_reviews(folder: Path) -> None:
    """A folder of 80 texts, `texts/pos/0.txt` …: `the film was good .`"""
    texts = {
        f"{name}/{i:02}.txt": f"The {THINGS[i % 5]} was {words[i % 4]}. " * (1 + i % 3)
        for name, words in (("neg", BAD), ("pos", GOOD))
        for i in range(40)
    }
    write(folder / "texts", texts)


@pytest.fixture
def reviews(tmp_path):
    write_reviews(tmp_path)
    return tmp_path / "texts"


@pytest.fixture(scope="module")
def classifier_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classifier")
    write_reviews(folder)
    finish(folder, *CLASSIFIER)
    return folder


@pytest.fixture
def run(classifier_in, tmp_path):
    """A run that has learnt the reviews in `texts`."""
    shutil.copytree(classifier_in, tmp_path, dirs_exist_ok=True)
    return "run"


@pytest.fixture
def counting(tmp_path):
    """A text in which every next character is certain."""
    (tmp_path / "count.txt").write_text("0123456789" * 400)
    return tmp_path / "count.txt"


@pytest.fixture(scope="module")
def counter_in(tmp_path_factory):
    folder = tmp_path_factory.mktemp("counter")
    write(folder, {"count.txt": "0123456789" * 400})
    finish(folder, *COUNT, "data.root=count.txt")
    return folder


@pytest.fixture
def counter(counter_in, tmp_path):
    """A run that has learnt to count."""
    shutil.copytree(counter_in, tmp_path, dirs_exist_ok=True)
    return "run"


def answers(result) -> list[dict]:
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


# --------------------------------------------------------------------------------------------------- classes


def test_a_text_is_typed_or_in_a_file(mlprun, run, tmp_path):
    (tmp_path / "mine.txt").write_text("the plot was dull.\n")
    good, bad, of_file = answers(
        mlprun("predict", run, "the film was great", "The plot was dull.", "mine.txt", "--json")
    )
    assert (good["predicted"], bad["predicted"]) == ("pos", "neg")
    assert of_file["probabilities"] == bad["probabilities"]
    assert of_file["input"] == "mine.txt"


def test_of_many_files_each_is_named_as_typed(mlprun, run, tmp_path):
    files = [tmp_path / folder / "0.txt" for folder in ("first", "second")]
    for file, text in zip(files, ("the film was great.", "the plot was strange."), strict=True):
        file.parent.mkdir()
        file.write_text(text)
    result = mlprun("predict", run, "first/0.txt", "second/0.txt")
    assert [line.split(":")[0] for line in result.out.splitlines() if not line.startswith(" ")] == [
        "first/0.txt",
        "second/0.txt",
    ]
    assert result.err == "note: second/0.txt: 1 of 5 tokens are not in the run's vocabulary of 19\n"


def test_a_file_is_read_as_the_data_set_reads_it(mlprun, reviews, tmp_path):
    """Its last line end and its blanks are characters too."""
    for part in ("train", "test"):
        shutil.copytree(reviews, tmp_path / "parts" / part)
    file = tmp_path / "parts/test/neg/00.txt"
    file.write_bytes(b"\xef\xbb\xbf  The film was bad.\r\n\r\n")
    line = [*CLASSIFIER, "data.root=parts", "data.text.tokens=characters", "epochs=1", "data.text.max_length=40"]
    assert mlprun(*line).status == 0
    (of_file,) = answers(mlprun("predict", "run", str(file), "--json"))
    (of_test,) = answers(mlprun("predict", "run", "--index", "0", "--json"))
    assert of_file["probabilities"] == pytest.approx(of_test["probabilities"], abs=1e-6)


def test_unknown_words_and_a_cut_are_noted(mlprun, run):
    result = mlprun("predict", run, "the zither was great " * 5)
    assert "note: 5 of 20 tokens are not in the run's vocabulary of" in result.err
    assert "note: cut to the first 16 of 20 tokens (data.text.max_length)" in result.err
    assert mlprun("predict", run, "the film was great").err == ""


def test_examples_of_the_test_part_are_shown_as_text(mlprun, run):
    found = answers(mlprun("predict", run, "--index", *map(str, range(16)), "--json"))
    right = sum(each["predicted"] == each["true"] for each in found)
    assert right / 16 == record_of(Path(run))["metrics"]["test/accuracy"]
    assert re.fullmatch(r"test 0: the \w+ was \w+\..*", found[0]["input"])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["  "], "has no tokens"),
        (["gone.txt"], "gone.txt: cannot be read: No such file or directory"),
        (["latin.txt"], "latin.txt: not UTF-8: byte 0xe9 at position 3"),
        (["empty.txt"], "empty.txt: has no tokens: the file is empty"),
        (["./none"], "./none: has no texts in it\n  looked for .txt"),
        (["notes.md"], "notes.md: is no .txt file: copy it to one"),
        (["caf\udce9"], "'caf\\udce9': is no UTF-8 text: character 4"),  # what a shell hands over of Latin-1
    ],
)
def test_texts_that_cannot_be_read(mlprun, run, tmp_path, words, says):
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "notes.md").write_text("the film was great")
    (tmp_path / "none").mkdir()
    result = mlprun("predict", run, *words)
    assert result.status == 1
    assert says in result.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--length", "5"], "--length=5: is for language models; this run is text_folder"),
        (["--temperature", "0.5"], "leave out --temperature"),
        (["--seed", "0"], "--seed=0: is for language models"),
        (["--invert"], "--invert=true: is for images"),
        (["--range", "0,1"], "--range=0,1: is for images"),
    ],
)
def test_options_of_other_runs_are_refused(mlprun, run, words, says):
    result = mlprun("predict", run, "the film was great", *words)
    assert (result.status, says in result.err) == (2, True), result.err


def test_inspect_tells_of_the_tokens(mlprun, reviews):
    result = mlprun("inspect", *CLASSIFIER, "model=lstm", "batch_size=4")
    assert result.status == 0, result.err
    assert "tokens            words, lower case; 19 in the vocabulary (of data.text.vocab_size=10000)" in result.out
    assert "lengths           5 to 15 tokens, median 10" in result.out
    # sorted by length, a batch of four holds texts of one: nothing is to be filled up
    tight = mlprun("inspect", *CLASSIFIER, "model=lstm", "batch_size=2", "data.text.bucketing=50")
    found = re.search(r"padding           (\d+\.\d)% of the first batches' ", tight.out)
    assert found
    assert float(found[1]) < 5
    masked = mlprun(
        "inspect", "data=corpus_masked", "data.dataset.documents=true", f"data.root={reviews}", "model=lstm"
    )
    assert re.search(r"targets of train  (1\d|20)% of the tokens, others in every batch", masked.out)
    assert re.search(r"the first text    the \w+ was \w+\..*  -> (neg|pos)", result.out)
    assert re.search(r"encoder.layers.0.onward\s+LSTM .* 33,280 +524,288\n", result.out), "16 tokens of 32,768 products"


# --------------------------------------------------------------------------------------------- continuations


def test_a_language_model_goes_on(mlprun, counter):
    line = mlprun("predict", "run", "567", "--length", "12", "--temperature", "0")
    assert line.out == "567890123456789\n"
    long = "0123456789" * 5  # longer than the 21 that it looks back on
    (after,) = answers(mlprun("predict", "run", long, "--length", "4", "--temperature", "0", "--json"))
    assert after == {"input": long, "continued": "0123"}


def test_its_draws_follow_from_the_seed(mlprun, counting):
    assert mlprun(*COUNT, "steps=5").status == 0

    def drawn(*words: str) -> list[str]:
        return [each["continued"] for each in answers(mlprun("predict", "run", *words, "--length=30", "--json"))]

    assert drawn("12", "7") == [*drawn("12"), *drawn("7")]
    assert drawn("12") != drawn("12", "--seed", "1")
    assert drawn("12", "--temperature", "0") != drawn("12")
    assert drawn("12", "--temperature", "1e-320") == drawn("12", "--temperature", "0")
    assert set(drawn("12")[0]) <= set("0123456789"), "neither special tokens nor rows that are not used"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--index", "3"], "--index=[3]: test examples have one class per token"),
        (["12", "--length", "0"], "--length=0: must be 1 or more"),
        (["12", "--temperature", "-1"], "--temperature=-1.0: must be a number, 0 or more"),
        (["12", "--temperature", "nan"], "--temperature=nan: must be a number, 0 or more"),
    ],
)
def test_what_cannot_be_continued(mlprun, counter, words, says):
    result = mlprun("predict", "run", *words)
    assert (result.status, says in result.err) == (2, True), result.err


def test_a_model_that_sees_what_it_is_to_predict_is_refused(mlprun, counting, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\n"
        "class Cheat(nn.Module):\n"
        "    def __init__(self, backwards):\n"
        "        super().__init__()\n"
        "        self.embedding, self.head = nn.Embedding(256, 8), nn.Linear(16, 256)\n"
        "        self.reader = nn.GRU(8, 8, batch_first=True, bidirectional=True)\n"
        "    def forward(self, ids):\n"
        "        return self.head(self.reader(self.embedding(ids))[0])\n"
    )
    line = [
        "data=corpus",
        f"data.root={counting}",
        "model=custom",
        "model._target_=mine.Cheat",
        "+model.backwards=true",
    ]
    result = mlprun(*line)
    assert result.status == 2
    assert "sees the tokens that it is to predict" in result.err
    assert "data.task=token_classification" in result.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["data.text.vocab_size=8"], "50 % of the training tokens are unknown"),
        (["data.text.vocab_size=8"], "data.text.vocab_size=8 leaves no room for them: raise it"),
        (["data.text.vocab_size=50", "data.text.min_frequency=500"], "data.text.min_frequency=500 leaves them out"),
        (["data.text.vocab_size=13"], None),
    ],
)
def test_a_language_model_of_much_that_is_unknown_says_so(mlprun, counting, words, says):
    if "data.text.min_frequency=500" in words:
        counting.write_text("0123401234567890123401234" * 160)  # of which 5 to 9 are rarer than that
    result = mlprun(*COUNT, *words, "steps=1")
    assert result.status == 0, result.err
    assert says in result.err if says else "unknown" not in result.err


# ---------------------------------------------------------------------------------------------- hidden words


def test_a_masked_model_fills_in(mlprun, counting):
    line = ["data=corpus_masked", f"data.root={counting}", "data.text.tokens=characters", "data.text.vocab_size=20"]
    more = ["model=lstm", "model.bidirectional=true", "steps=150", "optim.lr=0.02", "hydra.run.dir=run"]
    # not 20: every block would begin with the same digit, and a digit's place tell which it is
    assert mlprun(*line, *more, "data.text.max_length=21").status == 0
    (found,) = answers(mlprun("predict", "run", "567[MASK]9012[mask]4", "--json"))
    first, second = found["filled"]
    assert [first[0][0], second[0][0]] == ["8", "3"]
    for guesses in found["filled"]:
        chances = [chance for _, chance in guesses]
        assert chances == sorted(chances, reverse=True)
        assert 0.9 < sum(chances) <= 1 + 1e-9
        assert len({token for token, _ in guesses} & set("0123456789")) == 5
    shown = mlprun("predict", "run", "567[MASK]9").out.splitlines()
    assert shown[0] == "567[MASK]9"
    assert re.fullmatch(r"  \[MASK\]  8 0\.\d{4}  (\d 0\.\d{4}  ){3}\d 0\.\d{4}", shown[1])
    result = mlprun("predict", "run", "56789")
    assert "has no [MASK]\n  write [MASK] for each" in result.err


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["data=iris", "data.text.max_length=5"], "data.text.max_length=5: is for text, and iris is none"),
        (["data.text.vocab=5"], "data.text.vocab_size"),
        (["data.text.tokens=word"], "did you mean 'words'?"),
        (["data=python_docs", "model=embedding_average"], "model.task=language_modeling"),
        (["data=python_docs", "model=lstm", "model.bidirectional=true"], "set bidirectional=false"),
        (["data=python_docs", "model=lstm", "data.text.tokens=bpe"], "for example 1000 in total"),
        (["data=python_docs", "model=mlp"], "choose from embedding_average, rnn, gru, lstm, transformer"),
        (["data=python_docs", "model=lstm", "loss=mse"], "loss=cross_entropy"),
        (["data=python_docs", "model=lstm", "monitor=val/macro_f1"], "val/perplexity"),
        (["data=python_docs", "model=lstm", "data.augment.flip=true"], "is for images"),
        (["data=reviews", "model=lstm", "data.augment.crop=2"], "data.augment.crop=2: is for images, and these"),
        (["data=reviews", "model=lstm", "data.transforms.train=[RandAugment]"], "and these are token ids"),
        (["data=python_docs", "model=lstm", "data.transforms.eval=[RandAugment]"], "and these are token ids"),
        (["data=reviews", "model=lstm", "data.normalize=standardize"], "data.normalize=standardize: is for quantities"),
        (["data=reviews", "model=cnn"], "rnn, gru, lstm and transformer read text; model=mlp"),
        (["data=iris", "model=lstm"], "the inputs of iris are not token ids"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_line_that_cannot_work(mlprun, line, says):
    result = mlprun(*line)
    assert result.status == 2, result.err
    assert says in result.err
    assert "Traceback" not in result.err


IDS = """
import torch


class Ids(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, i):
        return torch.tensor([i % 7 + 90, 5, 6, 0]), i % 2
"""


def test_token_ids_of_ones_own(mlprun, tmp_path):
    (tmp_path / "mine.py").write_text(IDS)
    line = ["data=custom", "data.dataset._target_=mine.Ids", "data.input_shape=[4]", "data.num_outputs=2", "epochs=1"]
    assert mlprun(*line, "model=lstm", "data.text.vocab_size=97").status == 0
    result = mlprun(*line, "model=lstm", "data.text.vocab_size=90")
    assert result.status == 2
    assert "set data.text.vocab_size to the largest id plus one" in result.err
    result = mlprun(*line, "model=transformer", "data.text.max_length=3")
    assert (result.status, "give model and data the same data.text.max_length" in result.err) == (2, True)


FAULTS = {  # what gives the ids and targets of an example
    "padding before a token": (
        "torch.tensor([5, 0, 6, 0]), torch.tensor([0, 1, 1, -100])",
        "validation example 0 has the id 0 at place 1, before a token: 0 is padding",
    ),
    "not filled up": (
        "torch.tensor([5, 6, 7]), torch.tensor([0, 1, 1])",
        "pad texts of different lengths with 0",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_token_ids_that_are_no_text(mlprun, tmp_path, fault):
    gives, says = FAULTS[fault]
    (tmp_path / "mine.py").write_text(IDS.replace("torch.tensor([i % 7 + 90, 5, 6, 0]), i % 2", gives))
    line = ["data=custom", "data.dataset._target_=mine.Ids", "data.input_shape=[4]", "data.num_outputs=2", "epochs=1"]
    result = mlprun(*line, "data.task=token_classification", "model=lstm", "data.text.vocab_size=97")
    assert (result.status, says in result.err) == (2, True), result.err


def test_a_model_that_gives_one_output_for_a_whole_text(mlprun, tmp_path):
    (tmp_path / "mine.py").write_text(
        IDS.replace("i % 2", "torch.tensor([0, 1, 1, -100])") + "\n\nclass Whole(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.embedding = torch.nn.Embedding(97, 2)\n\n"
        "    def forward(self, ids):\n"
        "        return self.embedding(ids).mean(1)\n"
    )
    line = ["data=custom", "data.dataset._target_=mine.Ids", "data.input_shape=[4]", "data.num_outputs=2", "epochs=1"]
    result = mlprun(*line, "data.task=token_classification", "model=custom", "model._target_=mine.Whole")
    assert result.status == 2
    assert "gives outputs of shape [2, 2] for 2 examples, not [2, 4, 2]" in result.err
    assert "data.task=token_classification needs data.num_outputs=2 outputs at each token" in result.err


TAGS = """
import torch
from mlprun.data.source import IGNORED, Examples, Source
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.tokenizer import PADDING, encode_all, make_tokenizer

def tags():
    texts = ["the film was good", "a plot is bad"] * 20
    tokenizer = make_tokenizer(texts, kind="words", lowercase=True, vocab_size=50, min_frequency=1, ngrams=1)
    ids = encode_all(texts, tokenizer, 6)
    classes = torch.where(ids == PADDING, IGNORED, ids % 2).long()
    return Source(train=Examples(ids, classes), inputs=TokenIds(tokenizer))
"""


def test_classes_of_tokens_are_no_tokens_to_fill_in(mlprun, tmp_path):
    (tmp_path / "mine.py").write_text(TAGS)
    line = ["data=custom", "data.dataset._target_=mine.tags", "data.input_shape=[6]", "data.num_outputs=2", "epochs=1"]
    tagged = mlprun(*line, "data.task=token_classification", "model=lstm", "hydra.run.dir=run")
    assert tagged.status == 0, tagged.err
    result = mlprun("predict", "run", "the [MASK] was good")
    assert result.status == 1
    assert "the run predicts 2 classes for each token" in result.err


def test_sorting_needs_lengths(mlprun, reviews):
    line = [*CLASSIFIER, "data.dataset.hold=files"]
    result = mlprun(*line)
    assert (result.status, "write data.text.bucketing=0" in result.err) == (2, True)
    assert mlprun(*line, "data.text.bucketing=0", "epochs=1").status == 0
