"""Transformers: attention written out and fused, blocks, an encoder, and heads for each task."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.errors import ConfigError
from mlprun.models.mlp import check_dropout, check_size
from mlprun.models.sequences import BY_TOKEN, PADDING, POOLINGS, check_choice, check_ids, check_task, mask_of, pool

ATTENTIONS = ("fused", "written_out")
POSITIONS = ("learned", "sinusoidal", "none")
STD = 0.02  # of the initial weights


class MultiHeadAttention(nn.Module):
    """Self-attention with several heads: each token looks up what it needs among the others.

    `head = softmax(Q Kᵀ / √d) V` with `d = width / num_heads`, and `output = [head₁ … head_h] W`; Vaswani et al. 2017,
    "Attention Is All You Need", sections 3.2.1 (equation 1) and 3.2.2. Q, K and V are linear in the inputs.

    Args:
        width: features of a token, inputs and outputs.
        num_heads: heads, each with `width / num_heads` features.
        dropout: probability that an attention weight is dropped while training, in [0, 1).
        written_out: compute by the formula, step by step, and not with torch's fused kernel. The values are the same
            but for rounding; the fused one is faster and never holds the (length, length) weights.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, written_out: bool = False) -> None:
        super().__init__()
        check_heads(width, num_heads)
        check_dropout(dropout)
        self.num_heads, self.dropout, self.written_out = num_heads, dropout, written_out
        self.query_key_value = nn.Linear(width, 3 * width)  # the three maps in one matrix, one below the other
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """Attend, and bring the heads together.

        Args:
            states: (batch, length, width) floats.
            mask: (batch, length) bool, true at the tokens that may be looked at; None: all.
            causal: a token looks at itself and those before it alone.

        Returns:
            (batch, length, width) floats. A token that may look at none gets the bias of the output layer.
        """
        if self.written_out:
            _, _, value = self._heads(states)  # (batch, heads, length, d)
            weights = F.dropout(self.weights(states, mask, causal), self.dropout, self.training)
            mixed = weights @ value  # (batch, heads, length, d)
        else:
            query, key, value = self._heads(states)
            seen = self._seen(states, mask, causal) if mask is not None else None
            mixed = F.scaled_dot_product_attention(
                query,
                key,
                value,
                attn_mask=seen,
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=causal and mask is None,
            )
        outputs: Tensor = self.output(mixed.transpose(1, 2).flatten(start_dim=2))  # heads side by side
        return outputs

    def weights(self, states: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """The attention weights, without dropout; arguments as `forward` has them.

        Returns:
            (batch, heads, length, length) floats: how much the token of a row looks at that of a column. A row sums to
            1, or to 0 where a token may look at none.
        """
        query, key, _ = self._heads(states)  # (batch, heads, length, d) each
        # Divided by √d, the scores of features of variance 1 have variance 1 at any d: softmax is not saturated.
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (batch, heads, length, length)
        seen = self._seen(states, mask, causal)  # broadcasts to that shape
        # The smallest finite number and not -∞: of a row of -∞ alone, softmax is 0/0.
        weights = scores.masked_fill(~seen, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return weights.masked_fill(~seen, 0)

    def _heads(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, width) -> query, key and value, (batch, heads, length, d) each."""
        whole: Tensor = self.query_key_value(states)  # (batch, length, 3 · width)
        split = whole.unflatten(2, (3, self.num_heads, -1))  # (batch, length, 3, heads, d)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (3, batch, heads, length, d)
        return query, key, value

    @staticmethod
    def _seen(states: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Which token (row) may look at which (column): bool that broadcasts to (batch, heads, length, length)."""
        all_seen = torch.ones(states.shape[1], states.shape[1], dtype=torch.bool, device=states.device)
        if mask is None:
            return all_seen.tril() if causal else all_seen
        return mask[:, None, None, :] & all_seen.tril() if causal else mask[:, None, None, :]


class Block(nn.Module):
    """One layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`, the perceptron being linear, GELU, linear.

    The norm comes first, Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture", figure 1b, and
    not after the sum as in Vaswani et al. 2017: so gradients are well sized from the start, and training needs no
    warmup. GELU: Hendrycks & Gimpel 2016, as in GPT and BERT.

    Args:
        width: features of a token.
        num_heads: attention heads.
        mlp_ratio: the perceptron is so many times as wide.
        dropout: of what each half adds to its inputs, in [0, 1); Vaswani et al. 2017, section 5.4.
        attention_dropout, written_out: see `MultiHeadAttention`.
    """

    def __init__(
        self, width: int, num_heads: int, mlp_ratio: int, dropout: float, attention_dropout: float, written_out: bool
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = MultiHeadAttention(width, num_heads, attention_dropout, written_out)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, states: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """(batch, length, width) floats -> the same shape; `mask` and `causal` as `MultiHeadAttention` has them."""
        states = states + self.dropout(self.attention(self.attention_norm(states), mask, causal))
        after: Tensor = states + self.dropout(self.mlp(self.mlp_norm(states)))
        return after


class Encoder(nn.Module):
    """Embeddings and positions, blocks, and a last norm: a state of each token.

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        max_length: tokens of the longest sequence.
        width: features of a token.
        num_heads: attention heads.
        num_layers: blocks.
        mlp_ratio: the perceptron of a block is so many times as wide.
        dropout: of the first sum and of what each half of a block adds, in [0, 1).
        attention_dropout: of the attention weights, in [0, 1).
        positions: learned (an embedding of each place), sinusoidal (`sinusoids`) or none.
        written_out: see `MultiHeadAttention`.
    """

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        width: int,
        num_heads: int,
        num_layers: int,
        mlp_ratio: int,
        dropout: float,
        attention_dropout: float,
        positions: str,
        written_out: bool,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.embedding = nn.Embedding(vocab_size, width)
        self.scale = 1.0
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(max_length, width))
        elif positions == "none":
            self.register_buffer("positions", torch.zeros(max_length, width), persistent=False)
        else:
            self.register_buffer("positions", sinusoids(max_length, width), persistent=False)
            self.scale = math.sqrt(width)  # Vaswani et al. 2017, section 3.4: not to be lost beside the sinusoids
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(width, num_heads, mlp_ratio, dropout, attention_dropout, written_out) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor, causal: bool) -> Tensor:
        """(batch, length) token ids -> (batch, length, width) floats; at padding finite, and of no meaning.

        Raises:
            ConfigError: the sequences are longer than `max_length`.
        """
        mask = self._mask(ids, causal)
        states = self._embedded(ids)
        for block in self.blocks:
            states = block(states, mask, causal)
        outputs: Tensor = self.norm(states)
        return outputs

    def attention_weights(self, ids: Tensor, causal: bool) -> list[Tensor]:
        """(batch, length) token ids -> the `MultiHeadAttention.weights` of each block."""
        mask = self._mask(ids, causal)
        states = self._embedded(ids)
        found = []
        for block in self.blocks:
            assert isinstance(block, Block)
            found.append(block.attention.weights(block.attention_norm(states), mask, causal))
            states = block(states, mask, causal)
        return found

    @staticmethod
    def _mask(ids: Tensor, causal: bool) -> Tensor | None:
        """The keys that may be looked at. Padding lies behind all tokens: who looks back alone never sees it."""
        return None if causal else mask_of(ids)

    def _embedded(self, ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, length, width) floats: what the first block gets."""
        length = ids.shape[1]
        if length > self.max_length:
            raise ConfigError(
                "max_length",
                self.max_length,
                f"the model has no position for a text of {length} tokens",
                "give model and data the same data.text.max_length",
            )
        states: Tensor = self.dropout(self.embedding(ids) * self.scale + self.positions[:length])
        return states


class Transformer(nn.Module):
    """A transformer for a whole text or each of its tokens: an `Encoder`, and one linear layer as its head.

    Maps (batch, length) token ids, padded with 0 at the end, to floats:

    - classification, regression: (batch, num_outputs), from the states of all tokens, pooled.
    - token_classification: (batch, length, num_outputs); each token sees those on both sides.
    - language_modeling: (batch, length, num_outputs); each token sees itself and those before it alone.

    The encoder has the same names and shapes for every task: `encoder.…`, and the head `head.…`. So
    `trainer.weights=RUN` of a language model, or of one that fills masked words in, starts a classifier.

    Initial weights are those of GPT-2 (Radford et al. 2019, section 2.3, and their program): N(0, 0.02²), biases zero,
    and N(0, 0.02² / (2 · num_layers)) for the last layer of each half of a block, so that the sum which the blocks add
    to does not grow with their number. torch's own N(0, 1) for embeddings would start a tied language model with
    logits of ±√width, far worse than guessing; with 0.02 its loss starts at about log(vocab_size).

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        num_outputs: number of classes, or of values to predict.
        task: classification, regression, token_classification or language_modeling.
        max_length: tokens of the longest text.
        width: features of a token, a multiple of `num_heads`.
        num_heads: attention heads of a block.
        num_layers: blocks.
        mlp_ratio: the perceptron of a block is so many times as wide.
        dropout: of the embeddings and of what each half of a block adds, in [0, 1); Vaswani et al. 2017, section 5.4.
        attention_dropout: of the attention weights, in [0, 1); not in that paper, but in GPT-2 and BERT. On a CPU
            drawing so many random numbers takes as long as the attention itself.
        positions: learned (an embedding of each place), sinusoidal (fixed, Vaswani et al. 2017, section 3.5) or none:
            then tokens that see both sides are a set, without order.
        pooling: mean, max or last: how the states of a text become one, for a task of whole texts.
        tie_weights: the head's matrix is the embedding's, where it tells tokens; Press & Wolf 2017, "Using the Output
            Embedding to Improve Language Models".
        attention: fused (torch's kernel) or written_out (the formula, step by step).

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
    """

    padding = PADDING

    def __init__(
        self,
        vocab_size: int,
        num_outputs: int,
        task: str,
        max_length: int,
        width: int = 128,
        num_heads: int = 4,
        num_layers: int = 2,
        mlp_ratio: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        positions: str = "learned",
        pooling: str = "mean",
        tie_weights: bool = False,
        attention: str = "fused",
    ) -> None:
        super().__init__()
        self.task = check_task(task, "transformer")
        check_size("vocab_size", vocab_size)
        check_size("num_outputs", num_outputs)
        check_size("max_length", max_length)
        check_heads(width, num_heads)
        check_size("num_layers", num_layers)
        check_size("mlp_ratio", mlp_ratio)
        check_dropout(dropout)
        check_dropout(attention_dropout, key="attention_dropout")
        check_choice("positions", positions, POSITIONS)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        check_choice("attention", attention, ATTENTIONS)
        if tie_weights and (task not in BY_TOKEN or num_outputs != vocab_size):
            problem = f"the head tells {num_outputs} outputs of task={task}, not the {vocab_size} tokens"
            raise ConfigError("tie_weights", tie_weights, problem, "write tie_weights=false")

        self.encoder = Encoder(
            vocab_size,
            max_length,
            width,
            num_heads,
            num_layers,
            mlp_ratio,
            dropout,
            attention_dropout,
            positions,
            written_out=attention == "written_out",
        )
        self.head = nn.Linear(width, num_outputs)
        self._initialize(num_layers)
        if tie_weights:
            self.head.weight = self.encoder.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, num_outputs), or for tasks of tokens (batch, length, num_outputs).

        Raises:
            ConfigError: the sequences are longer than `max_length`.
        """
        check_ids(ids)
        states = self.encoder(ids, causal=self.task == "language_modeling")  # (batch, length, width)
        if self.task not in BY_TOKEN:
            states = pool(states, mask_of(ids), self.pooling)  # (batch, width)
        outputs: Tensor = self.head(states)
        return outputs

    def attention_weights(self, ids: Tensor) -> list[Tensor]:
        """What looks at what: (batch, length) token ids -> of each block (batch, heads, length, length) floats.

        Row i of a matrix tells how much token i looks at each token: it sums to 1. Call it in evaluation mode.
        """
        return self.encoder.attention_weights(ids, causal=self.task == "language_modeling")

    def _initialize(self, num_layers: int) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=STD)
                nn.init.zeros_(module.bias)
        for block in self.encoder.blocks:
            assert isinstance(block, Block)
            for layer in (block.attention.output, block.mlp[2]):
                assert isinstance(layer, nn.Linear)
                nn.init.normal_(layer.weight, std=STD / math.sqrt(2 * num_layers))
        nn.init.normal_(self.encoder.embedding.weight, std=STD)
        if isinstance(self.encoder.positions, nn.Parameter):
            nn.init.normal_(self.encoder.positions, std=STD)


def sinusoids(max_length: int, width: int) -> Tensor:
    """Fixed positions: sines and cosines of wavelengths from 2π to 10000 · 2π, a geometric series.

    `P[t, 2i] = sin(t / 10000^(2i / width))` and `P[t, 2i + 1] = cos(t / 10000^(2i / width))`; Vaswani et al. 2017,
    section 3.5. A shift by k tokens is a rotation of each pair, the same at every t.

    Returns:
        (max_length, width) float32.
    """
    times = torch.arange(max_length)[:, None]  # (max_length, 1)
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)  # (⌈width / 2⌉,)
    waves = torch.stack([torch.sin(times * rates), torch.cos(times * rates)], dim=2)  # (max_length, ⌈width / 2⌉, 2)
    return waves.flatten(start_dim=1)[:, :width]


def check_heads(width: int, num_heads: int) -> None:
    """ConfigError unless both are sizes and the heads share the width evenly."""
    check_size("width", width)
    check_size("num_heads", num_heads)
    if width % num_heads:
        fitting = [heads for heads in range(1, width + 1) if width % heads == 0]
        closest = min(fitting, key=lambda heads: abs(heads - num_heads))
        raise ConfigError(
            "num_heads",
            num_heads,
            f"does not divide width={width}: each head gets width / num_heads features",
            f"num_heads={closest} does",
        )
