"""The weights that a run starts from, and whether their tokens are those of the data."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from mlprun.config.schema import Config
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError
from mlprun.runs.checkpoint import Checkpoint
from mlprun.training import finetune


def initial_weights(
    config: Config, module: nn.Module, tokenizer: Tokenizer | None
) -> tuple[finetune.Weights, finetune.MatchedWeights] | None:
    """What `trainer.weights` names, and what of it the model takes; None where it is null. Changes nothing.

    Raises:
        ConfigError: it cannot be used, or its token ids mean other tokens than those of `tokenizer`.
    """
    if config.trainer.weights is None:
        return None
    found = finetune.read(config.trainer.weights)
    if tokenizer is not None and found.tokenizer is not None and found.tokenizer != tokenizer.to_plain():
        raise ConfigError(
            "trainer.weights",
            config.trainer.weights,
            "was learnt with another vocabulary: its token ids mean other words than those of these data",
            f"take its vocabulary too: data.text.vocabulary={config.trainer.weights}",
        )
    taken = finetune.fit(found, module)
    if found.tokenizer is not None and tokenizer is not None:
        _check_rows(config, module, taken)
    return found, taken


def _check_rows(config: Config, module: nn.Module, taken: finetune.MatchedWeights) -> None:
    """Refuse to leave out all that was learnt of tokens or of places because one number differs."""
    embeddings = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.Embedding)}
    own = module.state_dict()
    for name, shape in taken.other_shapes.items():
        if name not in embeddings and name.rpartition(".")[2] != "positions":
            continue
        for key, value in (("vocab_size", config.data.text.vocab_size), ("max_length", config.data.text.max_length)):
            if len(own[name]) == value != shape[0]:
                raise ConfigError(
                    f"data.text.{key}",
                    value,
                    f"{config.trainer.weights} has {shape[0]:,}, so that none of its {name} would be taken",
                    f"write data.text.{key}={shape[0]}",
                )


def check_tokens(config: Config, tokenizer: Tokenizer | None, stored: Checkpoint, where: Path) -> None:
    """Refuse data whose token ids mean other tokens than those of a checkpoint of the run: all scores would be wrong.

    Args:
        config: of the run.
        tokenizer: of the data as they are now.
        stored: the checkpoint.
        where: it lies.

    Raises:
        ConfigError: they do.
    """
    if stored.tokenizer is not None and tokenizer is not None and stored.tokenizer != tokenizer.to_plain():
        typed = config.data.text.vocabulary
        changed = "the texts of the training part have" if typed is None else "the run that it names has"
        raise ConfigError(
            "data.text.vocabulary",
            typed,
            f"{changed} changed since {where} was written: token ids mean other tokens than those that were learnt",
            "bring back what was there; or start a new run",
        )
