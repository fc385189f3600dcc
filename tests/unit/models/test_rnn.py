"""Recurrent layers equal torch's, packed; a cell of one's own too."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mlprun.course.lstm_by_hand import LSTMByHand
from mlprun.models import sequences
from mlprun.models.rnn import Cell
from tests.helpers.text_models import made, padded, rnn, sentences

TORCH = {"lstm": nn.LSTM, LSTMByHand: nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", TORCH)
def test_the_states_are_those_of_torch_for_packed_sequences(cell: str | Cell, bidirectional: bool) -> None:
    encoder = made(rnn, "token_classification", cell=cell, num_layers=2, bidirectional=bidirectional).encoder
    theirs = TORCH[cell](8, 6, num_layers=2, bidirectional=bidirectional, batch_first=True)
    weights = {}
    for number, layer in enumerate(encoder.layers):
        for name, value in layer.onward.named_parameters():
            weights[name.replace("_l0", f"_l{number}")] = value
        if bidirectional:
            for name, value in layer.back.named_parameters():
                weights[name.replace("_l0", f"_l{number}_reverse")] = value
    theirs.load_state_dict(weights)

    texts = sentences(4, 9, 1, 6)
    ids = padded(texts)
    packed = pack_padded_sequence(
        encoder.embedding(ids), torch.tensor([4, 9, 1, 6]), batch_first=True, enforce_sorted=False
    )
    found, last = theirs(packed)
    expected, _ = pad_packed_sequence(found, batch_first=True)
    states, final = encoder(ids)
    mask = (ids != 0)[:, :, None]
    torch.testing.assert_close(states * mask, expected * mask, atol=1e-6, rtol=0)
    hidden = last[0] if isinstance(last, tuple) else last  # (layers · directions, batch, hidden)
    torch.testing.assert_close(
        final, torch.cat(list(hidden[-2:] if bidirectional else hidden[-1:]), dim=1), atol=1e-6, rtol=0
    )


@pytest.mark.parametrize("cell", ["lstm", LSTMByHand])
def test_an_lstm_keeps_its_memory_at_first(cell: str | Cell) -> None:
    lstm = rnn("classification", cell=cell, forget_bias=1.5).encoder.layers[0].onward
    both = lstm.bias_ih_l0 + lstm.bias_hh_l0
    assert torch.equal(both[6:12], torch.full((6,), 1.5))
    assert not torch.isin(both[:6], torch.tensor([0.0, 1.5])).any()


def test_reversing_each_sequence_within_its_length() -> None:
    ids = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]])
    mask = sequences.mask_of(ids)
    there = sequences.reverse(ids[:, :, None], mask)
    assert there[:, :, 0].tolist() == [[4, 3, 2, 1], [6, 5, 0, 0], [7, 0, 0, 0], [0, 0, 0, 0]]
    assert torch.equal(sequences.reverse(there, mask)[:, :, 0], ids)


def test_pooling() -> None:
    states = torch.tensor([[[1.0, -5.0], [3.0, -7.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert sequences.pool(states, mask, "mean").tolist() == [[2, -6]]
    assert sequences.pool(states, mask, "max").tolist() == [[3, -5]]
    assert sequences.pool(states, mask, "last").tolist() == [[3, -7]]
