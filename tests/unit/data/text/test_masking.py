"""Masked words: which are chosen, and what becomes of them."""

from __future__ import annotations

import torch

from mlprun.data.source import IGNORED
from mlprun.data.text.language_model import masked
from mlprun.data.text.masking import mask_tokens
from mlprun.data.text.tokenizer import MASK, PADDING, SPECIAL, UNKNOWN
from tests.helpers.files import write
from tests.helpers.texts import TEXT


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
    assert documents.inputs.tokenizer.decode(documents.train.inputs[0].tolist()) == "a dull film really."
    running = masked(write(films / "book", {"a.txt": "one two three four five six " * 30}), TEXT)
    assert running.val is not None
    assert (running.train.inputs[:-1] != PADDING).all()
    generator = torch.Generator().manual_seed(0)
    inputs, targets = running.perturb(running.train.inputs.long(), running.train.targets.long(), generator)
    assert ((targets != IGNORED).sum(1) >= 1).all()
    assert int(inputs.max()) < len(running.inputs.tokenizer)
