"""Transformers: attention written out and fused, blocks, an encoder, and heads for each task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.errors import ConfigError
from mlprun.models.arguments import check_choice, check_dropout, check_positive
from mlprun.models.sequences import PADDING, POOLINGS, check_ids, is_per_token, mask_of, pool

ATTENTIONS = ("fused", "written_out")
POSITIONS = ("learned", "sinusoidal", "none")
STD = 0.02  # of the initial weights


class MultiHeadAttention(nn.Module):
    """Self-attention with several heads.

    `head = softmax(Q Kᵀ / √d) V` with `d = width / num_heads`, and `output = [head₁ … head_h] W`; Vaswani et al. 2017,
    "Attention Is All You Need", sections 3.2.1 (equation 1) and 3.2.2. Q, K and V are linear in the inputs.

    Args:
        width: features of a token, inputs and outputs; a multiple of `num_heads`.
        dropout: probability of dropping an attention weight during training.
        written_out: compute the formula step by step, not with torch's fused kernel. The values are equal up to
            rounding; the fused kernel is faster and never holds the (length, length) weights.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0, written_out: bool = False) -> None:
        super().__init__()
        check_positive(width=width, num_heads=num_heads)
        if width % num_heads:
            divisors = [heads for heads in range(1, width + 1) if width % heads == 0]
            closest = min(divisors, key=lambda heads: abs(heads - num_heads))
            problem = f"does not divide width={width}: each head gets width / num_heads features"
            raise ConfigError("num_heads", num_heads, problem, f"num_heads={closest} does")
        check_dropout(dropout=dropout)
        self.num_heads, self.dropout, self.written_out = num_heads, dropout, written_out
        self.query_key_value = nn.Linear(width, 3 * width)  # the three maps in one matrix, one below the other
        self.output = nn.Linear(width, width)

    def forward(self, states: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """(batch, length, width) floats -> the same shape.

        A token that may attend to none gets the bias of the output layer.

        Args:
            mask: (batch, length) bool, true at the tokens that may be attended to; None: all.
            causal: a token attends only to itself and the tokens before it.
        """
        if self.written_out:
            _, _, value = self._heads(states)  # (batch, heads, length, d)
            weights = F.dropout(self.weights(states, mask, causal), self.dropout, self.training)
            mixed = weights @ value  # (batch, heads, length, d)
        else:
            mixed = F.scaled_dot_product_attention(
                *self._heads(states),
                attn_mask=None if mask is None else self._visible(states, mask, causal),
                dropout_p=self.dropout if self.training else 0.0,
                is_causal=causal and mask is None,
            )
        outputs: Tensor = self.output(mixed.transpose(1, 2).flatten(start_dim=2))  # concatenates the heads
        return outputs

    def weights(self, states: Tensor, mask: Tensor | None = None, causal: bool = False) -> Tensor:
        """The attention weights, without dropout: (batch, heads, length, length) floats.

        Entry (i, j) is how much token i attends to token j. A row sums to 1, or to 0 for a token that may attend to
        none.
        """
        query, key, _ = self._heads(states)  # (batch, heads, length, d) each
        # Divided by √d, the scores of features of variance 1 have variance 1 at any d: softmax is not saturated.
        scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])  # (batch, heads, length, length)
        visible = self._visible(states, mask, causal)  # broadcasts to that shape
        # The smallest finite number and not -∞: of a row of -∞ alone, softmax is 0/0.
        weights = scores.masked_fill(~visible, torch.finfo(scores.dtype).min).softmax(dim=-1)
        return weights.masked_fill(~visible, 0)

    def _heads(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, width) -> query, key and value, (batch, heads, length, d) each."""
        joined: Tensor = self.query_key_value(states)  # (batch, length, 3 · width)
        split = joined.unflatten(2, (3, self.num_heads, -1))  # (batch, length, 3, heads, d)
        query, key, value = split.permute(2, 0, 3, 1, 4)  # (3, batch, heads, length, d)
        return query, key, value

    @staticmethod
    def _visible(states: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """Which token (row) may attend to which (column): bool that broadcasts to (batch, heads, length, length)."""
        visible = torch.ones(states.shape[1], states.shape[1], dtype=torch.bool, device=states.device)
        if mask is None:
            return visible.tril() if causal else visible
        return mask[:, None, None, :] & visible.tril() if causal else mask[:, None, None, :]


class Block(nn.Module):
    """One layer: `x + attention(norm(x))`, then `x + mlp(norm(x))`, where the perceptron is linear, GELU, linear.

    The norm comes first, as in Xiong et al. 2020, "On Layer Normalization in the Transformer Architecture",
    figure 1b, not after the sum as in Vaswani et al. 2017: gradients are well scaled from the start, and training
    needs no warmup. GELU: Hendrycks & Gimpel 2016, as in GPT and BERT.
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
        """(batch, length, width) floats -> the same shape; `mask` and `causal` as for `MultiHeadAttention`."""
        states = states + self.dropout(self.attention(self.attention_norm(states), mask, causal))
        outputs: Tensor = states + self.dropout(self.mlp(self.mlp_norm(states)))
        return outputs


class Encoder(nn.Module):
    """Embeddings and positions, blocks, and a final norm: one state per token. Arguments as for `Transformer`."""

    def __init__(
        self,
        vocab_size: int,
        max_length: int,
        width: int,
        num_layers: int,
        make_block: Callable[[], Block],
        dropout: float,
        positions: str,
        causal: bool,
    ) -> None:
        super().__init__()
        self.max_length, self.causal = max_length, causal
        self.embedding = nn.Embedding(vocab_size, width)
        self.scale = 1.0
        if positions == "learned":
            self.positions = nn.Parameter(torch.empty(max_length, width))
        elif positions == "none":
            self.register_buffer("positions", torch.zeros(max_length, width), persistent=False)
        else:
            self.register_buffer("positions", sinusoids(max_length, width), persistent=False)
            self.scale = math.sqrt(width)  # Vaswani et al. 2017, section 3.4: else the sinusoids would dominate
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(make_block() for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) token ids -> (batch, length, width) floats; finite but meaningless at padding."""
        states, mask = self._embed(ids)
        for block in self.blocks:
            states = block(states, mask, self.causal)
        outputs: Tensor = self.norm(states)
        return outputs

    def attention_weights(self, ids: Tensor) -> list[Tensor]:
        """(batch, length) token ids -> the `MultiHeadAttention.weights` of each block."""
        states, mask = self._embed(ids)
        weights = []
        for block in self.blocks:
            assert isinstance(block, Block)
            weights.append(block.attention.weights(block.attention_norm(states), mask, self.causal))
            states = block(states, mask, self.causal)
        return weights

    def _embed(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """(batch, length) token ids -> the inputs of the first block, and the mask."""
        length = ids.shape[1]
        if length > self.max_length:
            problem = f"the model has no position for a sequence of {length} tokens"
            raise ConfigError("max_length", self.max_length, problem)
        states: Tensor = self.dropout(self.embedding(ids) * self.scale + self.positions[:length])
        # Padding comes after all tokens: causal attention never sees it.
        return states, None if self.causal else mask_of(ids)


class Transformer(nn.Module):
    """A transformer with an output per sequence or per token: an `Encoder` and a linear `head`.

    Maps (batch, length) token ids, padded with 0 at the end, to floats: (batch, length, num_outputs) for
    `token_classification`, where each token sees both sides, and `language_modeling`, where it sees itself and the
    tokens before it; for any other task (batch, num_outputs), from the pooled states of all tokens. The encoder's
    weights have the same names and shapes for every task, so that those of a language model can start a classifier.

    Initial weights are those of GPT-2 (Radford et al. 2019, section 2.3, and their program): N(0, 0.02²), biases zero,
    and N(0, 0.02² / (2 · num_layers)) for the last layer of each half of a block, so that the sum which the blocks add
    to does not grow with their number. torch's own N(0, 1) for embeddings would start a tied language model with
    logits of ±√width, far worse than guessing; with 0.02 its loss starts at about log(vocab_size).

    Args:
        vocab_size: number of token ids, 0 (padding) included.
        width: features of a token, a multiple of `num_heads`.
        num_layers: number of blocks.
        mlp_ratio: width of a block's perceptron, as a multiple of `width`.
        dropout: of the embeddings and of what each half of a block adds; Vaswani et al. 2017, section 5.4.
        attention_dropout: of the attention weights; not in that paper, but in GPT-2 and BERT. On a CPU drawing so many
            random numbers takes as long as the attention itself.
        positions: learned (an embedding per place), sinusoidal (fixed, see `sinusoids`) or none: then, unless
            causal, the order of the tokens is lost.
        pooling: mean, max or last, for one output per sequence.
        tie_weights: use the embedding's matrix in the head of a language model; Press & Wolf 2017, "Using the Output
            Embedding to Improve Language Models".
        attention: fused (torch's kernel) or written_out (the formula, step by step).

    Raises:
        ConfigError: also from `forward`, for sequences longer than `max_length`.
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
        check_positive(vocab_size=vocab_size, num_outputs=num_outputs, max_length=max_length, width=width)
        check_positive(num_layers=num_layers, mlp_ratio=mlp_ratio)
        check_dropout(dropout=dropout, attention_dropout=attention_dropout)
        check_choice("positions", positions, POSITIONS)
        self.pooling = check_choice("pooling", pooling, POOLINGS)
        check_choice("attention", attention, ATTENTIONS)
        self.per_token = is_per_token(task)
        if tie_weights and (not self.per_token or num_outputs != vocab_size):
            problem = f"the {num_outputs} outputs are not one for each of the {vocab_size} tokens"
            raise ConfigError("tie_weights", tie_weights, problem, "set tie_weights=false")

        written_out, causal = attention == "written_out", task == "language_modeling"
        make_block = partial(Block, width, num_heads, mlp_ratio, dropout, attention_dropout, written_out)
        self.encoder = Encoder(vocab_size, max_length, width, num_layers, make_block, dropout, positions, causal)
        self.head = nn.Linear(width, num_outputs)
        self._initialize(num_layers)
        if tie_weights:
            self.head.weight = self.encoder.embedding.weight

    def forward(self, ids: Tensor) -> Tensor:
        check_ids(ids)
        states = self.encoder(ids)  # (batch, length, width)
        if not self.per_token:
            states = pool(states, mask_of(ids), self.pooling)  # (batch, width)
        outputs: Tensor = self.head(states)
        return outputs

    def attention_weights(self, ids: Tensor) -> list[Tensor]:
        """(batch, length) token ids -> for each block (batch, heads, length, length) floats; for evaluation mode.

        Row i of a matrix is how much token i attends to each token: it sums to 1.
        """
        return self.encoder.attention_weights(ids)

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
    """Fixed positions, (max_length, width) float32: sines and cosines of wavelengths from 2π to 10000 · 2π.

    `P[t, 2i] = sin(t / 10000^(2i / width))` and `P[t, 2i + 1] = cos(t / 10000^(2i / width))`; Vaswani et al. 2017,
    section 3.5. A shift by k tokens rotates each pair by the same angle at every t.
    """
    times = torch.arange(max_length)[:, None]  # (max_length, 1)
    rates = 10000.0 ** (-torch.arange(0, width, 2) / width)  # (⌈width / 2⌉,)
    waves = torch.stack([torch.sin(times * rates), torch.cos(times * rates)], dim=2)  # (max_length, ⌈width / 2⌉, 2)
    return waves.flatten(start_dim=1)[:, :width]
