"""The initial weights of a run, and whether their tokens are those of the data."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mlprun.config.schema import Config
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError
from mlprun.runs.checkpoint import Checkpoint
from mlprun.training import finetune


def initial_weights(config: Config, module: nn.Module, tokenizer: Tokenizer | None) -> finetune.MatchedWeights | None:
    """The weights of `trainer.weights` that fit the model, which is not changed; None if it is null.

    Raises:
        ConfigError: they cannot be used, or their token ids mean other tokens than those of `tokenizer`.
    """
    if config.trainer.weights is None:
        return None
    weights = finetune.read(config.trainer.weights)
    has_tokens = weights.tokenizer is not None
    if tokenizer is not None and has_tokens and weights.tokenizer != tokenizer.to_plain():
        problem = "was trained with another vocabulary: its token ids mean other words than those of these data"
        remedy = f"use its vocabulary too: data.text.vocabulary={config.trainer.weights}"
        raise ConfigError("trainer.weights", config.trainer.weights, problem, remedy)
    matched = finetune.fit(weights, module)
    if tokenizer is not None and has_tokens:
        _check_rows(config, module, matched)
    return matched


def _check_rows(config: Config, module: nn.Module, matched: finetune.MatchedWeights) -> None:
    """Refuse to drop all trained embeddings of tokens or positions because of one different size."""
    embeddings = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Embedding)}
    state = module.state_dict()
    for name, shape in matched.other_shapes.items():
        if name not in embeddings and name.rpartition(".")[2] != "positions":
            continue
        for key, value in (("vocab_size", config.data.text.vocab_size), ("max_length", config.data.text.max_length)):
            if len(state[name]) == value != shape[0]:
                problem = f"{config.trainer.weights} has {shape[0]:,}, so that none of its {name} would be used"
                raise ConfigError(f"data.text.{key}", value, problem, f"write data.text.{key}={shape[0]}")


def check_tokens(config: Config, tokenizer: Tokenizer | None, stored: Checkpoint, path: Path) -> None:
    """Raise ConfigError if token ids of the data mean other tokens than in the run's checkpoint at `path`."""
    if stored.tokenizer is not None and tokenizer is not None and stored.tokenizer != tokenizer.to_plain():
        vocabulary = config.data.text.vocabulary
        changed = "the training texts have" if vocabulary is None else "the run that it names has"
        problem = f"{changed} changed since {path} was written: token ids mean other tokens than in training"
        raise ConfigError("data.text.vocabulary", vocabulary, problem, "restore the original; or start a new run")
