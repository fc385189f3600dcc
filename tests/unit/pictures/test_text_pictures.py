"""Pictures and histograms of runs on text."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.data.nested import Batch
from mlprun.data.source import IGNORED
from mlprun.job.build_data import build_splits
from mlprun.job.build_task import build_task
from mlprun.job.figures import PROBE_OUTPUTS, _probe_batch
from mlprun.pictures.images import misclassified
from mlprun.pictures.text import MAX_LABELS, _frequent, attention, embeddings
from mlprun.training.histograms import probe
from tests.helpers.learners import built

REVIEWS = ["data=reviews", "data.dataset.num_examples=120", "data.text.max_length=24", "epochs=1"]
SMALL = ["model=transformer", "model.width=16", "model.num_heads=2"]
PROSE = "The cat sat on the mat, and $5 was all it had. Nobody_knew why the dog slept so long by the door.\n" * 40


@pytest.fixture
def prose(tmp_path):
    (tmp_path / "prose.txt").write_text(PROSE)
    return f"data.root={tmp_path / 'prose.txt'}"


KINDS = {  # of text that a transformer reads
    "classes": REVIEWS,
    "next character": ["data=corpus", "data.text.max_length=32", "epochs=1"],
    "masked words": ["data=corpus_masked", "data.text.max_length=16", "data.text.vocab_size=64", "epochs=1"],
}


def texts_in(figure) -> list[str]:
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    ticks = [text.get_text() for axes in figure.axes for text in axes.get_yticklabels()]
    return [text for text in (*found, *ticks) if text]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_on_text_is_drawn_and_probed_and_learns_the_same(mlprun, tmp_path, prose, kind):
    words = [*KINDS[kind], *SMALL, *([] if kind == "classes" else [prose])]
    names = ["attention", "embeddings", *(["misclassified"] if kind == "classes" else [])]
    looking = [f"logging.pictures=[{','.join(names)}]", "logging.histograms=true"]
    blind, looked = mlprun(*words, "hydra.run.dir=blind"), mlprun(*words, *looking, "hydra.run.dir=looked")
    assert (blind.status, looked.status) == (0, 0), looked.err
    assert "Warning" not in looked.err
    for name in names:
        first, *_, last = sorted((tmp_path / "looked" / "pictures").glob(f"{name}_*.png"))
        assert np.asarray(Image.open(last)).std() > 10
        assert first.read_bytes() != last.read_bytes()
    one, other = (
        torch.load(tmp_path / run / "checkpoints" / "last.pt", weights_only=True)["model"]
        for run in ("blind", "looked")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    start = json.loads((tmp_path / "looked" / "metrics.jsonl").read_text().splitlines()[0])
    assert start["activation_norm/encoder.embedding"] > 0
    assert start["gradient_norm/head.weight"] > 0


def test_attention_hides_words_only_where_the_run_does(prose):
    for kind, hidden in (("classes", False), ("masked words", True)):
        learner, _, parts = built(*KINDS[kind], *SMALL, *([] if kind == "classes" else [prose]))
        shown = texts_in(attention(learner, parts))
        assert ("[MASK]" in shown) == hidden
        assert not any(text.startswith("[PAD]") for text in shown)


def test_attention_leaves_the_model_in_its_mode():
    learner, _, parts = built(*REVIEWS, *SMALL)
    for mode in (True, False):
        learner.model.train(mode)
        attention(learner, parts)
        assert {module.training for module in learner.model.modules()} == {mode}


def test_a_causal_model_looks_back_alone_in_the_picture(prose):
    learner, _, parts = built(*KINDS["next character"], *SMALL, prose)
    for axes in attention(learner, parts).axes:
        (image,) = axes.images
        assert np.triu(image.get_array(), 1).max() == 0


def test_a_word_is_coloured_by_what_it_adds_alone():
    """Of a linear model of words that is its vector times the weights, and the far words are named."""
    learner, _, parts = built(*REVIEWS, "model=embedding_average")
    figure = embeddings(learner, parts)
    ids = _frequent(parts)
    head = learner.model.head.output
    with torch.no_grad():
        logits = head(learner.model.embedding.weight[ids])
    (points,) = figure.axes[0].collections
    np.testing.assert_allclose(points.get_array(), (logits[:, 1] - logits[:, 0]).numpy(), rtol=1e-4, atol=1e-6)
    named = texts_in(figure)
    assert 20 < len(set(named) & set(parts.inputs.tokenizer.tokens)) <= MAX_LABELS
    assert not {"[UNK]", ".", ","} & set(named)


def test_components_do_not_turn_with_the_vectors_signs():
    learner, _, parts = built(*REVIEWS, "model=embedding_average")

    def places():
        return np.asarray(embeddings(learner, parts).axes[0].collections[0].get_offsets())

    before = places()
    with torch.no_grad():  # the same model in another basis
        learner.model.embedding.weight.neg_()
        learner.model.head.output.weight.neg_()
    np.testing.assert_allclose(places(), before, atol=1e-6)


def test_the_surest_wrong_texts_are_listed_first():
    learner, _, parts = built(*REVIEWS, "model=embedding_average")
    lines = texts_in(misclassified(learner, parts))
    captions = [line for line in lines if "%" in line]
    chances = [float(line.split(" %")[0]) for line in captions]
    assert captions
    assert chances == sorted(chances, reverse=True)
    assert all(line.endswith(("neg, is pos", "pos, is neg")) for line in captions)


def test_the_surest_of_many_classes_are_those_of_the_captions(tmp_path):
    for name in "abcdef":
        (tmp_path / name).mkdir()
        for i in range(40):
            (tmp_path / name / f"{i}.txt").write_text(" ".join(f"w{(i * k + ord(name)) % 13}" for k in range(1, 6)))
    learner, _, parts = built("data=text_folder", f"data.root={tmp_path}", "model=embedding_average", "epochs=1")
    with torch.no_grad():
        learner.model.embedding.weight.mul_(100)
    chances = [float(line.split(" %")[0]) for line in texts_in(misclassified(learner, parts)) if " %" in line]
    assert len(chances) > 5
    assert chances == sorted(chances, reverse=True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*REVIEWS, "model=gru", "logging.pictures=[attention]"], "it works with model=transformer"),
        (["data=digits", "logging.pictures=[embeddings]"], "shows the vectors of tokens"),
        ([*KINDS["next character"], *SMALL, "logging.pictures=[misclassified]"], "each token of an example has one"),
        *(
            ([*REVIEWS, "data.text.max_length=2", *SMALL, f"logging.pictures=[{name}]"], f"logging.pictures={name}: ")
            for name in ("boundary", "filters")
        ),
    ],
)
def test_what_a_picture_is_not_for_is_said_at_once(mlprun, prose, words, said):
    result = mlprun(*words, *([prose] if "data=corpus" in words else []))
    assert result.status == 2
    assert said in result.err
    assert not result.runs


MODELS = {
    "embedding_average": ["model=embedding_average", "model.hidden=[8]"],
    "rnn": ["model=rnn"],
    "lstm both ways": ["model=lstm", "model.bidirectional=true", "model.num_layers=2"],
    "gru": ["model=gru"],
    "transformer": [*SMALL, "model.dropout=0"],
}


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_no_number_of_a_probe(name):
    learner, batch, _ = built(*REVIEWS, "data.text.max_length=60", *MODELS[name])
    wider = Batch(F.pad(batch.inputs, (0, 60 - batch.inputs.shape[1])), batch.targets)
    found, again = (probe(learner, each, padding=0) for each in (batch, wider))
    for tag, value in found.values.items():  # Adam makes a step even of what rounding leaves of a gradient of 0
        if not tag.startswith("update_ratio/"):
            assert again.values[tag] == pytest.approx(value, rel=1e-3, abs=1e-6), tag
    assert any(tag.startswith("activation_norm/") for tag in found.values)
    num_tokens, tag = int((batch.inputs != 0).sum()), next(t for t in found.histograms if t.endswith("embedding"))
    assert found.histograms[tag][:, 2].sum() == num_tokens * learner.model.get_submodule(tag[12:]).embedding_dim
    if "rnn" in name or "lstm" in name or "gru" in name:  # the states, of the tuple that such a layer gives
        assert "activation_norm/encoder.layers.0.onward" in found.values


def test_the_probe_of_a_large_vocabulary_takes_fewer_texts(prose):
    words = [*KINDS["next character"], *SMALL, prose, "data.text.vocab_size=60000"]
    checked = check(Composer().compose(words))
    learner = SimpleNamespace(task=build_task(checked), device=torch.device("cpu"))
    batch = _probe_batch(checked, build_splits(checked), learner)
    assert 0 < batch.inputs.numel() * 60000 <= PROBE_OUTPUTS
    assert (batch.targets != IGNORED).any()
