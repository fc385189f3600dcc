"""Text from end to end, as a user types it: what the models reach on small text that these tests write.

The corpora are made of seeded random draws, so that every number is the same each time. Models are tiny.
"""

from __future__ import annotations

import dataclasses
import math
import random
import re
import shutil
import signal
from collections import Counter
from pathlib import Path

import pytest
import torch

from mlprun.config.schema import Text
from mlprun.course.reviews import reviews
from mlprun.data.source import IGNORED
from mlprun.errors import ConfigError
from mlprun.models.transformer import POSITIONS, Transformer
from mlprun.runs import checkpoint
from tests.helpers.lines import Line, finish, wait_until
from tests.helpers.runs import RUN, assert_identical, last_step, record_of

NEUTRAL = "the film a plot was and it of music this scene for two hours we saw in an old cinema".split()
TELLING = {"neg": "bad dull awful boring weak poor".split(), "pos": "good great fine superb moving clever".split()}


def review(draw: random.Random, name: str) -> str:
    """Words in any order: two that tell the class, or in one text of twenty the other, among 4 to 24 that do not."""
    of = name if draw.random() > 0.1 else draw.choice(list(TELLING))
    words = draw.choices(NEUTRAL, k=draw.randint(4, 24)) + draw.choices(TELLING[of], k=2)
    draw.shuffle(words)
    return " ".join(words)


@pytest.fixture(scope="session")
def texts(tmp_path_factory) -> Path:
    """A folder of 2 x 240 texts to learn from and 2 x 100 to be tested on."""
    root, draw = tmp_path_factory.mktemp("language") / "texts", random.Random(0)
    for part, count in (("train", 240), ("test", 100)):
        for name in TELLING:
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                (root / part / name / f"{number:03}.txt").write_text(review(draw, name))
    return root


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> Path:
    """Running text of some 13,000 characters."""
    draw = random.Random(1)
    lines = (f"The {draw.choice(NEUTRAL)} was {draw.choice(TELLING['pos'])}." for _ in range(600))
    file = tmp_path_factory.mktemp("language") / "book.txt"
    file.write_text("\n".join(lines))
    return file


def classified(root: Path, *words: str) -> list[str]:
    tiny = ["data.text.vocab_size=100", "data.text.max_length=32", "optim.lr=0.01", "trainer.num_threads=1"]
    return ["data=text_folder", f"data.root={root}", *tiny, *words]


def running(book: Path, data: str = "corpus", *words: str) -> list[str]:
    return [f"data={data}", f"data.root={book}", "data.text.max_length=32", "trainer.num_threads=1", *words]


TRANSFORMER = ["model=transformer", "model.width=16", "model.num_heads=2", "model.num_layers=1", "model.dropout=0"]
GRU = ["model=gru", "model.width=16", "model.hidden_size=16"]


# ------------------------------------------------------------------------------------------ what they reach


def parts(root: Path) -> dict[str, tuple[list[str], list[str]]]:
    files = {part: sorted((root / part).glob("*/*.txt")) for part in ("train", "test")}
    return {part: ([f.read_text() for f in found], [f.parent.name for f in found]) for part, found in files.items()}


@pytest.fixture(scope="session")
def bag_of_words(texts) -> float:
    """The test accuracy of scikit-learn's counts of words and logistic regression."""
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    split = parts(texts)
    model = make_pipeline(CountVectorizer(), LogisticRegression()).fit(*split["train"])
    accuracy = float(model.score(*split["test"]))
    assert 0.85 < accuracy < 1.0, "the corpus tells models apart from guessing, and has texts that nobody can tell"
    return accuracy


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(["model=embedding_average", "model.width=16"], id="embedding average"),
        pytest.param(["model=lstm", *GRU[1:]], id="lstm"),
        pytest.param([*TRANSFORMER, "optim.lr=0.003"], id="transformer"),
    ],
)
def test_every_classifier_reaches_what_a_bag_of_words_reaches(mlprun, texts, bag_of_words, model):
    result = mlprun(*classified(texts, "epochs=8", "batch_size=16", *model))
    assert result.status == 0, result.err
    assert result.record()["metrics"]["test/accuracy"] >= bag_of_words - 0.03


def test_a_language_model_falls_below_the_unigram_entropy(mlprun, book):
    """No model that tells each character by its frequency alone has a lower loss than that entropy."""
    result = mlprun(*running(book, "corpus", "epochs=4", "batch_size=16", "optim.lr=0.01", *TRANSFORMER))
    assert result.status == 0, result.err
    whole = book.read_text()
    counts = Counter(whole[: round(0.81 * len(whole))])
    entropy = -sum(n / counts.total() * math.log(n / counts.total()) for n in counts.values())
    metrics = result.record()["metrics"]
    assert metrics["test/loss"] < 0.75 * entropy
    assert metrics["test/perplexity"] == pytest.approx(math.exp(metrics["test/loss"]))


def test_masked_words_are_told_better_than_by_their_frequency(mlprun, book):
    """`The … was … .`: three tokens in five are certain from their neighbours."""
    masked = ["data.text.vocab_size=100", "epochs=25", "batch_size=16", "optim.lr=0.01"]
    result = mlprun(*running(book, "corpus_masked", *masked, *TRANSFORMER))
    assert result.status == 0, result.err
    counts = Counter(book.read_text().lower().replace(".", " .").split())
    assert result.record()["metrics"]["test/accuracy"] > 1.5 * max(counts.values()) / counts.total()


def test_reviews_without_classes_are_the_reviews_with_their_tokens():
    text = dataclasses.asdict(Text(vocab_size=1000, max_length=48))
    plain, hidden = (reviews(50, text, masked=masked) for masked in (False, True))
    assert hidden.inputs == plain.inputs
    assert torch.equal(hidden.train.inputs, plain.train.inputs)
    assert torch.equal(hidden.test.targets, hidden.test.inputs)
    assert (hidden.class_names, plain.perturb) == ((), None)
    inputs, targets = hidden.perturb(hidden.train.inputs.long(), hidden.train.targets.long(), torch.Generator())
    assert torch.equal(inputs[targets == IGNORED], plain.train.inputs[targets == IGNORED].long())
    with pytest.raises(ConfigError, match="ngrams"):
        reviews(50, {**text, "ngrams": 2}, masked=True)


def test_without_positions_a_transformer_sees_a_set_of_tokens():
    torch.manual_seed(0)
    ids, size = torch.tensor([[3, 4, 5, 6]]), {"width": 16, "num_heads": 2, "num_layers": 2}
    same = {}
    for positions in POSITIONS:
        model = Transformer(10, 2, "classification", 8, positions=positions, **size).eval()
        same[positions] = torch.allclose(model(ids), model(ids.flip(1)), atol=1e-6)
    assert same == {"learned": False, "sinusoidal": False, "none": True}


# ------------------------------------------------------------------------------------------------- resume


OFTEN = [f"hydra.run.dir={RUN}", "batch_size=16", "logging.every=3 steps", "checkpoint.every=7 steps"]
OFTEN += ["eval_every=11 steps"]
AVERAGE = ["model=embedding_average", "model.word_dropout=0.2"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(lambda f: classified(f / "texts", *GRU, "data.text.bucketing=4", "epochs=4"), id="bucketing"),
        pytest.param(
            lambda f: running(
                f / "book.txt", "corpus_masked", "data.text.vocab_size=100", *TRANSFORMER, "epochs=8"
            ),
            id="masked words",
        ),
        pytest.param(
            lambda f: classified(
                f / "texts", *AVERAGE, "data.dataset.hold=stream", "data.text.bucketing=0", "data.num_workers=1",
                "steps=60",
            ),
            id="a stream with a worker",
        ),
    ],
)  # fmt: skip
def test_a_killed_run_on_text_is_resumed_to_the_same_bits(tmp_path, texts, book, words):
    (tmp_path / "texts").symlink_to(texts)
    (tmp_path / "book.txt").symlink_to(book)
    words = [*OFTEN, *words(tmp_path)]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    finish(whole, *words)
    steps = record_of(whole / RUN)["steps"]
    with Line(broken, *words) as line:
        wait_until(lambda: last_step(broken) >= 0.4 * steps)
        line.signal(signal.SIGKILL)
        assert line.wait() == -signal.SIGKILL, line.output
    finish(broken, "resume", RUN)
    assert_identical(broken / RUN, whole / RUN)


# -------------------------------------------------------------------------------- sweeps and fine-tuning


def test_models_are_swept_with_a_key_that_they_share_and_the_default_model_lacks(mlprun, texts):
    sweep = ["-m", "model=lstm,gru", "model.hidden_size=8", "model.width=6,8", "sweep.name=models"]
    result = mlprun(*classified(texts, "epochs=1", "batch_size=64", *sweep))
    assert result.status == 0, result.err
    records = [record_of(run) for run in result.runs]
    models = [record["config"]["model"] for record in records]
    assert {record["status"] for record in records} == {"completed"}
    assert {model["hidden_size"] for model in models} == {8}
    assert sorted((model["cell"], model["width"]) for model in models) == [
        ("gru", 6), ("gru", 8), ("lstm", 6), ("lstm", 8),
    ]  # fmt: skip


def test_a_key_that_one_of_the_swept_models_lacks_is_refused_before_any_runs(mlprun, texts):
    result = mlprun("-m", *classified(texts, "model=lstm,embedding_average", "model.hidden_size=8"))
    assert result.status == 2
    assert "model.hidden_size=8: there is no such key" in result.err
    assert not result.runs


@pytest.fixture
def pretrained(mlprun, texts):
    """A run on the masked words of the training texts."""
    masked = ["data=corpus_masked", f"data.root={texts}", "data.dataset.documents=true", "data.text.vocab_size=100"]
    masked += ["data.text.max_length=32", *TRANSFORMER, "epochs=2", "hydra.run.dir=pretrained"]
    assert mlprun(*masked).status == 0
    return "pretrained"


def test_a_classifier_starts_from_a_masked_run_with_its_tokens(mlprun, texts, pretrained):
    classifier = classified(texts, *TRANSFORMER, "epochs=1", f"trainer.weights={pretrained}")
    result = mlprun(*classifier, f"data.text.vocabulary={pretrained}", "hydra.run.dir=tuned")
    assert result.status == 0, result.err
    states = [checkpoint.load(result.folder / run / "checkpoints" / "best.pt") for run in (pretrained, "tuned")]
    assert states[0]["tokenizer"] == states[1]["tokenizer"]
    record = record_of(result.folder / "tuned")
    assert [name for name in states[1]["model"] if name in record["weights"]["new"]] == ["head.weight", "head.bias"]


def test_tokens_of_another_vocabulary_are_refused_with_the_remedy(mlprun, texts, pretrained):
    """A row of the embedding would stand for another word."""
    other = classified(texts, *TRANSFORMER, "data.text.min_frequency=200", f"trainer.weights={pretrained}")
    result = mlprun(*other, "hydra.run.dir=refused")
    assert result.status == 2
    assert "trainer.weights=pretrained" in result.err
    assert "data.text.vocabulary=pretrained" in result.err
    assert "Traceback" not in result.err
    assert not list((result.folder / "refused").glob("checkpoints/*.pt"))


@pytest.mark.parametrize(
    ("key", "learnt", "positions"),
    [
        ("data.text.vocab_size", 100, "sinusoidal"),
        ("data.text.max_length", 32, "learned"),
    ],
)
def test_rows_that_were_learnt_are_not_left_out_because_there_are_more_of_them(mlprun, texts, key, learnt, positions):
    """All of `encoder.embedding` or `encoder.positions` would start anew."""
    masked = ["data=corpus_masked", f"data.root={texts}", "data.dataset.documents=true", "data.text.vocab_size=100"]
    masked += ["data.text.max_length=32", *TRANSFORMER, f"model.positions={positions}", "hydra.run.dir=pretrained"]
    assert mlprun(*masked, "epochs=1").status == 0
    line = classified(texts, *TRANSFORMER, f"model.positions={positions}", "trainer.weights=pretrained")
    line += ["data.text.vocabulary=pretrained", "data.text.vocab_size=100", "data.text.max_length=32"]
    refused = mlprun(*line, f"{key}={learnt + 8}")
    assert refused.status == 2
    assert f"{key}={learnt + 8}: pretrained has {learnt}, so that none of its encoder." in refused.err
    assert f"write {key}={learnt}" in refused.err
    assert mlprun(*line, "epochs=1").status == 0


def test_a_run_is_neither_scored_nor_continued_on_other_tokens(mlprun, texts, tmp_path):
    """The vocabulary is made anew of the texts; if they have changed, ids stand for other words, and no one sees it."""
    copied = tmp_path / "copied"
    shutil.copytree(texts, copied)
    result = mlprun(*classified(copied, *AVERAGE, "epochs=1", "hydra.run.dir=run"))
    assert result.status == 0, result.err
    before = (result.folder / "run" / "run.json").read_text()
    for file in (copied / "train" / "neg").glob("*.txt"):
        file.write_text(f"zither zither {file.read_text()}")
    for line in (["eval", "run"], ["resume", "run", "epochs=2"], ["predict", "run", "--index", "0"]):
        refused = mlprun(*line)
        assert refused.status == 2, refused.out
        assert "token ids mean other tokens than in training" in refused.err
        assert "Traceback" not in refused.err
    assert (result.folder / "run" / "run.json").read_text() == before
    assert mlprun("predict", "run", "the film was good").status == 0  # with the tokens of the checkpoint


def test_reproduce_says_that_the_tokens_have_changed(mlprun, texts, pretrained):
    line = classified(texts, *AVERAGE, "epochs=1", f"data.text.vocabulary={pretrained}", "hydra.run.dir=run")
    result = mlprun(*line)
    assert result.status == 0, result.err
    masked = ["data=corpus_masked", f"data.root={texts}", "data.dataset.documents=true", "data.text.vocab_size=20"]
    shutil.rmtree(result.folder / pretrained)
    assert mlprun(*masked, *TRANSFORMER, "steps=1", f"hydra.run.dir={pretrained}").status == 0
    again = mlprun("reproduce", "run")
    assert again.status == 1
    assert re.search(r"possible causes:\n  data: tokens", again.out), again.out + again.err
