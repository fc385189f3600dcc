"""An average of embeddings."""

from __future__ import annotations

import torch
from torch import nn

from tests.helpers.text_models import average, made


def test_the_average_is_the_mean_of_the_embeddings_and_a_linear_layer() -> None:
    model = made(average, "classification")
    head = model.head.output
    expected = model.embedding.weight[[3, 4, 4]].mean(dim=0) @ head.weight.T + head.bias
    torch.testing.assert_close(model(torch.tensor([[3, 4, 4, 0, 0]]))[0], expected)


def test_word_dropout_leaves_whole_tokens_out_of_the_mean() -> None:
    torch.manual_seed(0)
    model = average("classification", word_dropout=0.5)
    model.head = nn.Identity()
    both = model.embedding.weight[[3, 4]]
    possible = torch.stack([torch.zeros(8), both[0], both[1], both.mean(dim=0)])
    found = model(torch.tensor([[3, 4, 0]]).repeat(400, 1))
    distances = torch.cdist(found, possible, compute_mode="donot_use_mm_for_euclid_dist")
    assert distances.min(dim=1).values.max() < 1e-6
    counts = distances.argmin(dim=1).bincount(minlength=4)
    assert ((counts - 100).abs() < 40).all()  # four standard errors are 35
    assert torch.equal(model.eval()(torch.tensor([[3, 4, 0]])), both.mean(dim=0, keepdim=True))
