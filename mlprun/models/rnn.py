"""Recurrent networks: plain, GRU and LSTM, torch's and written out."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.mlp import check_dropout, check_size
from mlprun.models.sequences import (
    BY_TOKEN,
    POOLINGS,
    check_choice,
    check_ids,
    check_task,
    last,
    mask_of,
    pool,
    reverse,
)


class LSTMByHand(nn.Module):
    """A long short-term memory, its gates written out: the values of `torch.nn.LSTM`, whose weights it takes.

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

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        # Names, shapes and first values are those of torch: i, f, g, o one below the other, a bias for W and one for U.
        self.weight_ih_l0 = nn.Parameter(torch.empty(4 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.empty(4 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias_hh_l0 = nn.Parameter(torch.empty(4 * hidden_size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -1 / math.sqrt(hidden_size), 1 / math.sqrt(hidden_size))

    def forward(self, inputs: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, length, input_size) floats -> the states, and the last state and memory, as `torch.nn.LSTM` does.

        Returns:
            (batch, length, hidden_size), and a pair of (1, batch, hidden_size).
        """
        # W x + b of all steps at once: it needs no state
        from_inputs = inputs @ self.weight_ih_l0.T + self.bias_ih_l0 + self.bias_hh_l0  # (batch, length, 4 · hidden)
        state = from_inputs.new_zeros(inputs.shape[0], self.weight_hh_l0.shape[1])  # h, (batch, hidden)
        memory = torch.zeros_like(state)  # c, (batch, hidden)
        states = []
        for x in from_inputs.unbind(dim=1):  # (batch, 4 · hidden)
            let_in, kept, new, shown = (x + state @ self.weight_hh_l0.T).chunk(4, dim=1)  # (batch, hidden) each
            memory = torch.sigmoid(kept) * memory + torch.sigmoid(let_in) * torch.tanh(new)
            state = torch.sigmoid(shown) * torch.tanh(memory)
            states.append(state)
        return torch.stack(states, dim=1), (state[None], memory[None])


_CELLS: dict[str, Callable[[int, int], nn.Module]] = {
    "gru": lambda inputs, hidden: nn.GRU(inputs, hidden, batch_first=True),
    "lstm": lambda inputs, hidden: nn.LSTM(inputs, hidden, batch_first=True),
    "lstm_by_hand": LSTMByHand,
    "rnn": lambda inputs, hidden: nn.RNN(inputs, hidden, batch_first=True),
}


class Layer(nn.Module):
    """One recurrent layer, over the tokens from the first to the last, and with `bidirectional` back as well.

    Padding lies behind the end, where the way forward only comes when all tokens are read; the way back starts at each
    sequence's own last token. So it is what torch computes of a packed sequence, without the lengths on the CPU.

    Args:
        cell: a key of `_CELLS`.
        input_size: features of an input.
        hidden_size: features of a state, of each direction.
        bidirectional: whether there is a way back (Schuster & Paliwal 1997).
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.onward = _CELLS[cell](input_size, hidden_size)
        self.back = _CELLS[cell](input_size, hidden_size) if bidirectional else None

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length, input_size) floats and (batch, length) bool -> the states, and the last of each direction.

        Returns:
            (batch, length, directions · hidden_size) and (batch, directions · hidden_size). The last state of the way
            back is that at the first token. Behind the end the states are finite, and of no meaning.
        """
        states, _ = self.onward(inputs)
        final = last(states, mask)
        if self.back is None:
            return states, final
        reversed_states, _ = self.back(reverse(inputs, mask))
        backward_states = reverse(reversed_states, mask)
        return (
            torch.cat([states, backward_states], dim=2),
            torch.cat([final, backward_states[:, 0]], dim=1),
        )


class Encoder(nn.Module):
    """Embeddings and recurrent layers: a state of each token.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        cell: a key of `_CELLS`.
        width: length of an embedding.
        hidden_size: features of a state, of each direction.
        num_layers: layers, each reading the states of the one below.
        bidirectional: whether each layer also reads back.
        dropout: of the embeddings and of the states between layers, in [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        cell: str,
        width: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.width = (2 if bidirectional else 1) * hidden_size  # of what it gives
        sizes = [width] + [self.width] * (num_layers - 1)
        self.layers = nn.ModuleList(Layer(cell, size, hidden_size, bidirectional) for size in sizes)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length) token ids -> the states of the last layer and the last of them, as `Layer` gives them."""
        mask = mask_of(ids)
        states: Tensor = self.embedding(ids)  # (batch, length, width)
        final = states[:, 0]
        for layer in self.layers:
            states, final = layer(self.dropout(states), mask)
        return states, final


class RNN(nn.Module):
    """A recurrent network for a whole text or each of its tokens: an `Encoder`, and one linear layer as its head.

    Maps (batch, length) token ids, padded with 0 at the end, to floats:

    - classification, regression: (batch, num_outputs), from the states of all tokens, pooled.
    - token_classification: (batch, length, num_outputs).
    - language_modeling: (batch, length, num_outputs), each from the tokens up to its own.

    The plain cell is `h = tanh(W x + U h + b)` (Elman 1990); `lstm` see `LSTMByHand`; `gru` that of Cho et al. 2014,
    section 2.3, with the reset gate after the product, as torch has it. The encoder has the same names and shapes for
    every task: `encoder.…`, and the head `head.…`, so that a language model's weights start a classifier.

    Embeddings start as U(-0.1, 0.1), the rest as torch's U(-1/√hidden_size, 1/√hidden_size): Merity, Keskar & Socher
    2018, "Regularizing and Optimizing LSTM Language Models", experiment details.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        num_outputs: number of classes, or of values to predict.
        task: classification, regression, token_classification or language_modeling.
        cell: gru, lstm, lstm_by_hand (the equations, slow) or rnn.
        width: length of an embedding.
        hidden_size: features of a state, of each direction.
        num_layers: layers, each reading the states of the one below.
        bidirectional: each layer also reads from the last token to the first. Not for language_modeling.
        dropout: of the embeddings, between layers and before the head, never from step to step, in [0, 1); Zaremba,
            Sutskever & Vinyals 2014, "Recurrent Neural Network Regularization".
        pooling: last (the state when all is read; of the way back, that at the first token), max or mean: how the
            states of a text become one, for a task of whole texts.
        forget_bias: first bias of the forget gate of an LSTM; other cells have none. At 1 it starts by keeping most
            of its memory; Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network
            Architectures".

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """

    def __init__(
        self,
        vocab_size: int,
        num_outputs: int,
        task: str,
        cell: str = "lstm",
        width: int = 64,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        pooling: str = "mean",
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        self.task = check_task(task, "rnn")
        check_choice("cell", cell, _CELLS)
        check_size("vocab_size", vocab_size)
        check_size("num_outputs", num_outputs)
        check_size("width", width)
        check_size("hidden_size", hidden_size)
        check_size("num_layers", num_layers)
        check_dropout(dropout)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        if not isinstance(forget_bias, int | float) or not math.isfinite(forget_bias):
            raise ConfigError("forget_bias", forget_bias, "must be a finite number")
        if bidirectional and task == "language_modeling":
            problem = "on its way back the model would see the tokens that it is to predict"
            raise ConfigError("bidirectional", bidirectional, problem, "write model.bidirectional=false")

        self.encoder = Encoder(vocab_size, cell, width, hidden_size, num_layers, bidirectional, dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.width, num_outputs)
        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)
        for module in self.modules():
            if isinstance(module, nn.LSTM | LSTMByHand):
                for bias, value in ((module.bias_ih_l0, forget_bias), (module.bias_hh_l0, 0.0)):  # the two are added
                    assert isinstance(bias, Tensor)
                    nn.init.constant_(bias[hidden_size : 2 * hidden_size], value)  # f is the second of i, f, g, o

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, num_outputs), or for tasks of tokens (batch, length, num_outputs)."""
        check_ids(ids)
        states, final = self.encoder(ids)  # (batch, length, directions · hidden), (batch, directions · hidden)
        if self.task not in BY_TOKEN:
            states = final if self.pooling == "last" else pool(states, mask_of(ids), self.pooling)
        outputs: Tensor = self.head(self.dropout(states))
        return outputs
