"""Recurrent networks: plain, GRU and LSTM."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.arguments import check_choice, check_dropout, check_positive
from mlprun.models.sequences import PADDING, POOLINGS, check_ids, is_per_token, last, mask_of, pool, reverse

# (input size, hidden size) -> a module: (batch, length, input size) -> (batch, length, hidden size), and anything
Cell = Callable[[int, int], nn.Module]
_CELLS: dict[str, Cell] = {
    "gru": partial(nn.GRU, batch_first=True),
    "lstm": partial(nn.LSTM, batch_first=True),
    "rnn": partial(nn.RNN, batch_first=True),
}


class Layer(nn.Module):
    """One recurrent layer: from first to last token, and if `bidirectional` also back (Schuster & Paliwal 1997).

    Padding comes after the tokens, so the forward direction reads it only when all tokens are read; the backward
    direction starts at each sequence's own last token. This is what torch computes for a packed sequence, without the
    lengths on the CPU.
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.onward = cell(input_size, hidden_size)
        self.back = cell(input_size, hidden_size) if bidirectional else None

    def forward(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length, input_size) floats and (batch, length) bool -> all states, and the last of each direction.

        Returns:
            (batch, length, directions · hidden_size) and (batch, directions · hidden_size). The last state of the
            backward direction is that at the first token. States at padding are finite, and meaningless.
        """
        states, _ = self.onward(inputs)
        final = last(states, mask)
        if self.back is None:
            return states, final
        reversed_states, _ = self.back(reverse(inputs, mask))
        backward_states = reverse(reversed_states, mask)
        return torch.cat([states, backward_states], dim=2), torch.cat([final, backward_states[:, 0]], dim=1)


class Encoder(nn.Module):
    """Embeddings and recurrent layers, each reading the states of the one below: one state per token.

    `dropout` acts on the embeddings and between layers.
    """

    def __init__(
        self,
        vocab_size: int,
        cell: Cell,
        width: int,
        hidden_size: int,
        num_layers: int,
        bidirectional: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, width)
        self.dropout = nn.Dropout(dropout)
        self.width = (2 if bidirectional else 1) * hidden_size  # of its outputs
        sizes = [width] + [self.width] * (num_layers - 1)
        self.layers = nn.ModuleList(Layer(cell, size, hidden_size, bidirectional) for size in sizes)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, length) token ids -> all states of the last layer and its last ones, see `Layer`."""
        mask = mask_of(ids)
        states: Tensor = self.embedding(ids)  # (batch, length, width)
        final = states[:, 0]
        for layer in self.layers:
            states, final = layer(self.dropout(states), mask)
        return states, final


class RNN(nn.Module):
    """A recurrent network with an output per sequence or per token: an `Encoder` and a linear `head`.

    Maps (batch, length) token ids, padded with 0 at the end, to floats: (batch, length, num_outputs) for
    `token_classification` and `language_modeling`, for any other task (batch, num_outputs), from the pooled states of
    all tokens. The encoder's weights have the same names and shapes for every task, so that those of a language model
    can start a classifier.

    The plain cell is `h = tanh(W x + U h + b)` (Elman 1990); `lstm` that of Hochreiter & Schmidhuber 1997 with the
    forget gate of Gers, Schmidhuber & Cummins 2000; `gru` that of Cho et al. 2014, section 2.3, with the reset gate
    after the product, as in torch.

    Embeddings start as U(-0.1, 0.1), the rest as torch's U(-1/√hidden_size, 1/√hidden_size): Merity, Keskar & Socher
    2018, "Regularizing and Optimizing LSTM Language Models", experiment details.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        cell: gru, lstm or rnn; or a class like torch's, see `Cell`.
        width: length of an embedding.
        hidden_size: features of a state, per direction.
        bidirectional: each layer also reads from the last token to the first. Not for language_modeling.
        dropout: of the embeddings, between layers and before the head, never from token to token; Zaremba, Sutskever
            & Vinyals 2014, "Recurrent Neural Network Regularization".
        pooling: last (the final state; of the backward direction, that at the first token), max or mean.
        forget_bias: initial bias of the forget gate of an LSTM. At 1 it starts by keeping most of its memory;
            Jozefowicz, Zaremba & Sutskever 2015, "An Empirical Exploration of Recurrent Network Architectures".
    """

    padding = PADDING

    def __init__(
        self,
        vocab_size: int,
        num_outputs: int,
        task: str,
        cell: str | Cell = "lstm",
        width: int = 64,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        pooling: str = "mean",
        forget_bias: float = 1.0,
    ) -> None:
        super().__init__()
        check_positive(
            vocab_size=vocab_size, num_outputs=num_outputs, width=width, hidden_size=hidden_size, num_layers=num_layers
        )
        check_dropout(dropout=dropout)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        if not isinstance(forget_bias, int | float) or not math.isfinite(forget_bias):
            raise ConfigError("forget_bias", forget_bias, "must be a finite number")
        if bidirectional and task == "language_modeling":
            problem = "the backward direction would see the tokens that the model is to predict"
            raise ConfigError("bidirectional", bidirectional, problem, "set bidirectional=false")

        self.per_token = is_per_token(task)
        make_cell = cell if callable(cell) else _CELLS[check_choice("cell", cell, _CELLS)]
        self.encoder = Encoder(vocab_size, make_cell, width, hidden_size, num_layers, bidirectional, dropout)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(self.encoder.width, num_outputs)
        nn.init.uniform_(self.encoder.embedding.weight, -0.1, 0.1)
        for module in self.modules():
            if isinstance(module, nn.LSTM):
                for bias, value in ((module.bias_ih_l0, forget_bias), (module.bias_hh_l0, 0.0)):  # the two are added
                    assert isinstance(bias, Tensor)
                    nn.init.constant_(bias[hidden_size : 2 * hidden_size], value)  # f is the second of i, f, g, o

    def forward(self, ids: Tensor) -> Tensor:
        check_ids(ids)
        states, final = self.encoder(ids)  # (batch, length, directions · hidden), (batch, directions · hidden)
        if not self.per_token:
            states = final if self.pooling == "last" else pool(states, mask_of(ids), self.pooling)
        outputs: Tensor = self.head(self.dropout(states))
        return outputs
