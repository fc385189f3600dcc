"""Made-up reviews: balanced, varied, and beyond a bag of words."""

from __future__ import annotations

import numpy as np

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.instantiate import construct
from mlprun.course.reviews import reviews, sentences_and_targets
from mlprun.data.source import Examples
from mlprun.data.text.tokenizer import PADDING, UNKNOWN
from tests.helpers.texts import TEXT


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
            return csr_matrix((np.ones(len(ids)), (row.numpy(), ids)), (len(part), len(source.inputs.tokenizer)))

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
    assert len(source.inputs.tokenizer) <= config.data.text.vocab_size
    assert (source.train.inputs[:, -1] == PADDING).all()  # none is cut
    assert (source.train.inputs == UNKNOWN).float().mean() < 0.001
    assert source.class_names == ("neg", "pos")
