"""Bags of words: the mean of learnt word vectors, then a perceptron."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.models.activations import Layer
from mlprun.models.mlp import MLP, check_dropout, check_size
from mlprun.models.sequences import OF_THE_WHOLE, PADDING, check_ids, check_task, mask_of, masked_mean


class EmbeddingAverage(nn.Module):
    """`outputs = MLP(mean of the tokens' embeddings)`: no order of words, and a strong baseline all the same.

    Maps (batch, length) token ids, padded with 0 at the end, to (batch, num_outputs) floats. With `hidden=[]` it is
    the linear model of fastText, Joulin et al. 2017, "Bag of Tricks for Efficient Text Classification", section 2
    (`data.text.ngrams=2` adds its bigrams); with hidden layers and `word_dropout` the deep averaging network of Iyyer
    et al. 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification", section 3.

    The embeddings start as those of fastText's program, U(-1/width, 1/width): small, so that what a word adds was
    learnt, and a rare word adds next to nothing.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        num_outputs: number of classes, or of values to predict.
        task: classification or regression; there is no output for each token.
        width: length of an embedding.
        hidden: width of each hidden layer after the mean; [] is one linear layer.
        activation: of the hidden layers, see `make_activation`.
        dropout: probability that a value of the mean or of a hidden layer is dropped while training, in [0, 1).
        word_dropout: probability that a token is left out of the mean while training, in [0, 1); Iyyer et al. 2015,
            section 3.1.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
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
        check_task(task, "embedding_average", OF_THE_WHOLE)
        check_size("vocab_size", vocab_size)
        check_size("width", width)
        check_dropout(dropout)
        check_dropout(word_dropout, key="word_dropout")
        self.word_dropout = word_dropout
        self.embedding = nn.Embedding(vocab_size, width)
        nn.init.uniform_(self.embedding.weight, -1 / width, 1 / width)
        self.dropout = nn.Dropout(dropout)
        self.head = MLP([width], num_outputs, hidden=hidden, activation=activation, dropout=dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, num_outputs) logits or predictions."""
        check_ids(ids)
        embedded: Tensor = self.embedding(ids)  # (batch, length, width)
        # A weight of each token: 1, or while training 0 for those left out. The mean divides by the sum of the weights.
        weights = F.dropout(mask_of(ids).to(embedded.dtype), self.word_dropout, self.training)
        outputs: Tensor = self.head(self.dropout(masked_mean(embedded, weights)))
        return outputs
