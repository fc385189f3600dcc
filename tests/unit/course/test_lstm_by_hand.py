"""The LSTM written out is torch's."""

from __future__ import annotations

import torch
from torch import nn

from mlprun.course.lstm_by_hand import LSTMByHand


def test_the_lstm_written_out_is_that_of_torch_in_values_and_gradients() -> None:
    torch.manual_seed(0)
    theirs, by_hand = nn.LSTM(4, 6, batch_first=True), LSTMByHand(4, 6)
    torch.manual_seed(0)
    assert all(map(torch.equal, theirs.parameters(), LSTMByHand(4, 6).parameters()))  # it also starts as torch's does
    by_hand.load_state_dict(theirs.state_dict())
    results = []
    for model in (theirs, by_hand):
        inputs = torch.randn(3, 10, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        states, (hidden, memory) = model(inputs)
        (states.square().sum() + hidden.sum() + memory.square().sum()).backward()
        results.append([states, hidden, memory, inputs.grad, *[p.grad for p in model.parameters()]])
    torch.testing.assert_close(results[0], results[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(results[0][:3], results[1][:3], atol=1e-6, rtol=0)
