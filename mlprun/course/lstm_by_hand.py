"""A recurrent layer by its equations: `model=lstm_by_hand`."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSTMByHand(nn.LSTM):
    """A long short-term memory, its gates written out: the weights and values of `torch.nn.LSTM`.

    At each step t, with `⊙` the product of each feature:

        i = σ(W_i x + U_i h + b_i)        what is let in
        f = σ(W_f x + U_f h + b_f)        what is kept
        g = tanh(W_g x + U_g h + b_g)     what is new
        o = σ(W_o x + U_o h + b_o)        what is shown
        c = f ⊙ c + i ⊙ g                 the memory: a sum, through which a gradient passes undamped where f is 1
        h = o ⊙ tanh(c)                   the state

    Hochreiter & Schmidhuber 1997, "Long Short-Term Memory", section 4; the forget gate f is that of Gers, Schmidhuber
    & Cummins 2000, "Learning to Forget". A step is many small operations: slower than torch's.

    Args:
        input_size: features of an input.
        hidden_size: features of the state, and of the memory.
    """

    # those of i, f, g and o one below the other, with a bias for W and one for U
    weight_ih_l0: Tensor
    weight_hh_l0: Tensor
    bias_ih_l0: Tensor
    bias_hh_l0: Tensor

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:  # type: ignore[override]
        """(batch, length, input_size) floats -> the states, and the last state and memory, as `torch.nn.LSTM` does.

        Returns:
            (batch, length, hidden_size), and a pair of (1, batch, hidden_size).
        """
        # W x + b of all steps at once: it needs no state
        from_inputs = inputs @ self.weight_ih_l0.T + self.bias_ih_l0 + self.bias_hh_l0  # (batch, length, 4 · hidden)
        state = from_inputs.new_zeros(inputs.shape[0], self.hidden_size)  # h, (batch, hidden)
        memory = torch.zeros_like(state)  # c, (batch, hidden)
        states = []
        for x in from_inputs.unbind(dim=1):  # (batch, 4 · hidden)
            let_in, kept, new, shown = (x + state @ self.weight_hh_l0.T).chunk(4, dim=1)  # (batch, hidden) each
            memory = torch.sigmoid(kept) * memory + torch.sigmoid(let_in) * torch.tanh(new)
            state = torch.sigmoid(shown) * torch.tanh(memory)
            states.append(state)
        return torch.stack(states, dim=1), (state[None], memory[None])
