"""A digest tells any change of examples, and no change of the batches that they come in."""

from __future__ import annotations

import pytest
import torch

from mlprun.data.digest import Digest, digest
from mlprun.data.source import Examples

INPUTS, TARGETS = torch.arange(24, dtype=torch.uint8).reshape(8, 3), torch.arange(8) % 2


def of_batches(inputs, targets, size):
    made = Digest()
    for batch in zip(inputs.split(size), targets.split(size), strict=True):
        made.update({"any": [*batch], "name": "no tensor"})
    return str(made)


@pytest.mark.parametrize("size", [1, 3, 8])
def test_batches_of_any_size_and_structure_give_the_digest_of_the_whole(size):
    assert of_batches(INPUTS, TARGETS, size) == digest(Examples(INPUTS, TARGETS))


@pytest.mark.parametrize(
    "change",
    [
        lambda x, y: (x.index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(0, dtype=torch.uint8)), y),
        lambda x, y: (x, y.index_put((torch.tensor(3),), torch.tensor(0))),
        lambda x, y: (x.flip(0), y.flip(0)),
        lambda x, y: (x[:-1], y[:-1]),
        lambda x, y: (x.reshape(8, 1, 3), y),
        lambda x, y: (x.view(torch.int8), y),
    ],
)
def test_any_change_is_told(change):
    assert digest(Examples(*change(INPUTS, TARGETS))) != digest(Examples(INPUTS, TARGETS))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.bool, torch.complex64, torch.int32, torch.float64])
def test_any_type_and_layout_has_one(dtype):
    inputs = INPUTS.to(dtype)
    assert digest(Examples(inputs.T.contiguous().T, TARGETS)) == digest(Examples(inputs, TARGETS))
    assert digest(Examples(inputs[:0], TARGETS[:0])) != digest(Examples(inputs, TARGETS))
