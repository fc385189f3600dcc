"""The reference that comes with Python, as running text and with masked words."""

from __future__ import annotations

import torch

from mlprun.course.python_docs import python_docs
from tests.helpers.texts import TEXT


def test_pythons_own_reference_is_a_corpus():
    source = python_docs(TEXT | {"tokens": "characters", "lowercase": False, "max_length": 100})
    assert len(source.train) > 2000
    assert len(source.val) + len(source.test) > 500
    assert 50 < len(source.inputs.tokenizer) < 300
    assert all(mark.startswith("sha256:") for mark in source.fingerprints.values())
    words = python_docs(TEXT | {"max_length": 32}, masked=True)
    assert words.perturb is not None
    assert torch.equal(words.train.inputs, words.train.targets)
