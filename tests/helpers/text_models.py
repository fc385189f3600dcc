"""Small models of text, and sentences for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mlprun.models.embedding_average import EmbeddingAverage
from mlprun.models.rnn import RNN
from mlprun.models.transformer import Transformer

VOCABULARY, OUTPUTS, LONGEST = 20, 5, 12


Make = Callable[..., nn.Module]


def average(task: str, **arguments: Any) -> nn.Module:
    return EmbeddingAverage(VOCABULARY, OUTPUTS, task, **({"width": 8} | arguments))


def rnn(task: str, **arguments: Any) -> RNN:
    return RNN(VOCABULARY, OUTPUTS, task, **({"width": 8, "hidden_size": 6} | arguments))


def transformer(task: str, **arguments: Any) -> Transformer:
    small = {"width": 8, "num_heads": 2, "num_layers": 2}
    return Transformer(VOCABULARY, OUTPUTS, task, LONGEST, **(small | arguments))


def sentences(*lengths: int, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in lengths]


def padded(texts: list[Tensor], length: int | None = None) -> Tensor:
    length = length or max(map(len, texts))
    return torch.stack([F.pad(text, (0, length - len(text))) for text in texts])


def made(make: Make, task: str, **arguments: Any) -> Any:
    """A model in evaluation mode, with weights large enough that everything in it tells."""
    torch.manual_seed(0)
    model = make(task, **arguments).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.5)
    return model
