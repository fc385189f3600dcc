"""A recurrent layer from its equations: `model=lstm_by_hand`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMByHand(nn.LSTM):
    """A long short-term memory with explicit gates: the weights and values of `torch.nn.LSTM`, but slower.

    At each step, with `⊙` the elementwise product:

        i = σ(W_i x + U_i h + b_i)        input gate
        f = σ(W_f x + U_f h + b_f)        forget gate
        g = tanh(W_g x + U_g h + b_g)     candidate
        o = σ(W_o x + U_o h + b_o)        output gate
        c = f ⊙ c + i ⊙ g                 cell state: a sum, through which gradients pass undamped where f is 1
        h = o ⊙ tanh(c)                   hidden state

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", section 4; the forget gate is from Gers, Schmidhuber &
    Cummins 2000, "Learning to Forget".
    """

    # those of i, f, g and o stacked, with one bias for W and one for U
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    # nn.LSTM's takes a state too
    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        """(batch, length, input_size) -> (batch, length, hidden_size) and the last h and c, (1, batch, hidden_size)."""
        # W x + b of all steps at once
        from_inputs = inputs @ self.weight_ih_l0.T + self.bias_ih_l0 + self.bias_hh_l0  # (batch, length, 4 · hidden)
        hidden = from_inputs.new_zeros(inputs.shape[0], self.hidden_size)  # (batch, hidden)
        cell = torch.zeros_like(hidden)
        states = []
        for x in from_inputs.unbind(dim=1):  # (batch, 4 · hidden)
            i, f, g, o = (x + hidden @ self.weight_hh_l0.T).chunk(4, dim=1)  # (batch, hidden) each
            cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
            hidden = torch.sigmoid(o) * torch.tanh(cell)
            states.append(hidden)
        return torch.stack(states, dim=1), (hidden[None], cell[None])
