"""Recurrent networks: plain, GRU and LSTM."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mlprun.errors import ConfigError
from mlprun.models.mlp import check_dropout, check_size
from mlprun.models.sequences import (
    BY_TOKEN,
    PADDING,
    POOLINGS,
    check_choice,
    check_ids,
    check_task,
    last,
    mask_of,
    pool,
    reverse,
)

# (features of an input, of a state) -> a module: (batch, length, inputs) -> (batch, length, states), and anything
Cell = Callable[[int, int], nn.Module]
_CELLS: dict[str, Cell] = {
    "gru": lambda inputs, hidden: nn.GRU(inputs, hidden, batch_first=True),
    "lstm": lambda inputs, hidden: nn.LSTM(inputs, hidden, batch_first=True),
    "rnn": lambda inputs, hidden: nn.RNN(inputs, hidden, batch_first=True),
}


class Layer(nn.Module):
    """One recurrent layer, over the tokens from the first to the last, and with `bidirectional` back as well.

    Padding lies behind the end, where the way forward only comes when all tokens are read; the way back starts at each
    sequence's own last token. So it is what torch computes of a packed sequence, without the lengths on the CPU.

    Args:
        cell: makes what goes one way.
        input_size: features of an input.
        hidden_size: features of a state, of each direction.
        bidirectional: whether there is a way back (Schuster & Paliwal 1997).
    """

    def __init__(self, cell: Cell, input_size: int, hidden_size: int, bidirectional: bool) -> None:
        super().__init__()
        self.onward = cell(input_size, hidden_size)
        self.back = cell(input_size, hidden_size) if bidirectional else None

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
        cell: as `Layer` takes it.
        width: length of an embedding.
        hidden_size: features of a state, of each direction.
        num_layers: layers, each reading the states of the one below.
        bidirectional: whether each layer also reads back.
        dropout: of the embeddings and of the states between layers, in [0, 1).
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

    The plain cell is `h = tanh(W x + U h + b)` (Elman 1990); `lstm` that of Hochreiter & Schmidhuber 1997 with the
    forget gate of Gers, Schmidhuber & Cummins 2000; `gru` that of Cho et al. 2014, section 2.3, with the reset gate
    after the product, as torch has it. The encoder has the same names and shapes for every task: `encoder.…`, and the
    head `head.…`, so that a language model's weights start a classifier.

    Embeddings start as U(-0.1, 0.1), the rest as torch's U(-1/√hidden_size, 1/√hidden_size): Merity, Keskar & Socher
    2018, "Regularizing and Optimizing LSTM Language Models", experiment details.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        num_outputs: number of classes, or of values to predict.
        task: classification, regression, token_classification or language_modeling.
        cell: gru, lstm or rnn; or a class like torch's, see `Cell`.
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
        self.task = check_task(task, "rnn")
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
        """(batch, length) token ids -> (batch, num_outputs), or for tasks of tokens (batch, length, num_outputs)."""
        check_ids(ids)
        states, final = self.encoder(ids)  # (batch, length, directions · hidden), (batch, directions · hidden)
        if self.task not in BY_TOKEN:
            states = final if self.pooling == "last" else pool(states, mask_of(ids), self.pooling)
        outputs: Tensor = self.head(self.dropout(states))
        return outputs
