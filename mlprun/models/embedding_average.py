"""Bags of words: the mean of learnt word vectors, then a perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.errors import ConfigError
from mlprun.models.activations import Layer
from mlprun.models.arguments import check_dropout, check_positive
from mlprun.models.mlp import MLP
from mlprun.models.sequences import PADDING, check_ids, is_per_token, mask_of, masked_mean


class EmbeddingAverage(nn.Module):
    """`outputs = MLP(mean of the tokens' embeddings)`: ignores word order, and is a strong baseline all the same.

    Maps (batch, length) token ids, padded with 0 at the end, to (batch, num_outputs) floats. With `hidden=[]` it is
    the linear model of fastText, Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", section 2
    (bigrams as tokens are its bigrams); with hidden layers and `word_dropout` the deep averaging network of Iyyer
    et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", section 3.

    The embeddings start as those of fastText's program, U(-1/width, 1/width): small, so that rare words, which
    hardly move from there, contribute next to nothing.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        task: any but those with an output per token, which this model does not have.
        width: length of an embedding.
        hidden, activation: as for `MLP`, after the mean.
        dropout: of the mean and of the hidden layers.
        word_dropout: probability of leaving a token out of the mean during training; Iyyer et al. 2015, section 3.1.
    """

    padding = PADDING

    def __init__(
        self,
        vocab_size: int,
        num_outputs: int,
        task: str,
        width: int = 64,
        hidden: Sequence[int] = (),
        activation: str | Layer = "relu",
        dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if is_per_token(task):
            raise ConfigError("task", task, "this model gives one output per sequence, none per token")
        check_positive(vocab_size=vocab_size, width=width)
        check_dropout(dropout=dropout, word_dropout=word_dropout)
        self.word_dropout = word_dropout
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.uniform_(self.embedding.weight, -1 / width, 1 / width)
        self.dropout = nn.Dropout(dropout)
        self.head = MLP([width], num_outputs, hidden=hidden, activation=activation, dropout=dropout)

    def forward(self, ids: Tensor) -> Tensor:
        check_ids(ids)
        embedded: Tensor = self.embedding(ids)  # (batch, length, width)
        # One weight per token: 1, or during training 0 if left out. The mean divides by the sum of the weights.
        weights = F.dropout(mask_of(ids).to(embedded.dtype), self.word_dropout, self.training)
        outputs: Tensor = self.head(self.dropout(masked_mean(embedded, weights)))
        return outputs
