"""Token ids as inputs of a model: their vocabulary, their padding, and the messages that name `data.text`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mlprun.data.nested import Batch
from mlprun.data.sequences import lengths
from mlprun.data.source import Examples, Inputs, Part
from mlprun.data.text.losses import warn_of_unknown
from mlprun.data.text.tokenizer import PADDING, UNKNOWN, Tokenizer
from mlprun.errors import ConfigError
from mlprun.formatting import one_line

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class TokenIds(Inputs):
    """Sequences of token ids, (N, L).

    Attributes:
        tokenizer: converts between text and token ids, if they are of text.
    """

    section = "text"
    why_not_transform = "is for images and other quantities, and these are token ids"
    tokenizer: Tokenizer | None = None
    padding: int | None = field(default=PADDING, kw_only=True)

    @property
    def bucketing(self) -> int:  # type: ignore[override]  # a constant elsewhere
        return int(self.options["bucketing"])

    @property
    def why_not_folds(self) -> str:  # type: ignore[override]  # a constant elsewhere
        return "" if self.tokenizer is None else "the vocabulary is that of all folds, and must not know the val texts"

    def decode(self, ids: Tensor) -> str:
        """A text or, without a tokenizer, its ids."""
        numbers = ids.tolist()
        return self.tokenizer.decode(numbers) if self.tokenizer else " ".join(str(i) for i in numbers if i)

    def check(self, train: Part) -> None:
        if self.bucketing and not (isinstance(train, Examples) and self.padding is not None):
            problem = "sorts sequences by length, and these data have no known lengths"
            raise ConfigError("data.text.bucketing", self.bucketing, problem, "write data.text.bucketing=0")

    def stored(self) -> dict[str, Any]:
        return {} if self.tokenizer is None else {"tokenizer": self.tokenizer.to_plain()}

    def digests(self) -> dict[str, str]:
        return {} if self.tokenizer is None else {"tokens": self.tokenizer.digest()}

    def check_checkpoint(self, stored: Mapping[str, Any], path: Path) -> None:
        if self._same_tokens(stored) is False:
            vocabulary = self.options["vocabulary"]
            changed = "the training texts have" if vocabulary is None else "the run that it names has"
            problem = f"{changed} changed since {path} was written: token ids mean other tokens than in training"
            raise ConfigError("data.text.vocabulary", vocabulary, problem, "restore the original; or start a new run")

    def check_weights(
        self, stored: Mapping[str, Any], typed: str, module: nn.Module, other_shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        same = self._same_tokens(stored)
        if same is False:
            problem = "was trained with another vocabulary: its token ids mean other words than those of these data"
            remedy = f"use its vocabulary too: data.text.vocabulary={typed}"
            raise ConfigError("trainer.weights", typed, problem, remedy)
        if same is None:
            return
        # All trained embeddings of tokens or positions would be lost because of one different size.
        embeddings = {f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, nn.Embedding)}
        state = module.state_dict()
        for name, shape in other_shapes.items():
            if name not in embeddings and name.rpartition(".")[2] != "positions":
                continue
            for key in ("vocab_size", "max_length"):
                if len(state[name]) == self.options[key] != shape[0]:
                    problem = f"{typed} has {shape[0]:,}, so that none of its {name} would be used"
                    remedy = f"write data.text.{key}={shape[0]}"
                    raise ConfigError(f"data.text.{key}", self.options[key], problem, remedy)

    def _same_tokens(self, stored: Mapping[str, Any]) -> bool | None:
        """Whether the ids mean the same as those of a checkpoint; None if one of the two has no tokenizer."""
        other = stored.get("tokenizer")
        return None if self.tokenizer is None or not isinstance(other, dict) else other == self.tokenizer.to_plain()

    def remedy(self, name: str, inputs: Tensor, layer: nn.Module) -> str:
        if not isinstance(layer, nn.Embedding):
            kind = str(inputs.dtype).removeprefix("torch.")
            remedy = f"the inputs are whole numbers ({kind}), which are token ids"
            remedy += ": choose from embedding_average, rnn, gru, lstm, transformer"
            quantities = "; if they are quantities, the data set must give them as float32: x.float()"
            return remedy + quantities * (self.tokenizer is None)
        low, high = (0, 0) if inputs.is_meta else (int(inputs.min()), int(inputs.max()))
        if 0 <= low <= high < layer.num_embeddings:
            return ""
        return (
            f"it has {layer.num_embeddings} rows, and the ids of two examples range from {low} to {high}: "
            "set data.text.vocab_size to the largest id plus one"
        )

    def tally(self, inputs: Tensor) -> Tensor | None:
        """Numbers of unknown tokens, of tokens, of texts as long as allowed, and of texts."""
        if self.tokenizer is None:
            return None
        num_unknown, num_tokens = (inputs == UNKNOWN).sum(), (inputs != PADDING).sum()
        return torch.stack([num_unknown, num_tokens, (inputs[:, -1] != PADDING).sum(), torch.tensor(len(inputs))])

    def warn(self, tally: Tensor, of: str) -> None:
        assert self.tokenizer is not None
        num_unknown, num_tokens, num_full, num_texts = tally.tolist()
        warn_of_unknown(num_unknown / max(1, num_tokens), self.tokenizer, self.options)
        if num_full:
            length = self.options["max_length"]
            problem = f"fill data.text.max_length={length}: whatever is longer is cut there"
            log.warning("%d of the %d texts %s %s", num_full, num_texts, of, problem)

    def lines(self, train: Part, first: Batch, batch_size: int | str, label: str) -> list[str]:
        if self.tokenizer is None:
            return []
        text, tokenizer = self.options, self.tokenizer
        token_ids = train.inputs if isinstance(train, Examples) else first.inputs
        of = "train" if isinstance(train, Examples) else f"the first {len(token_ids)} examples of train"
        sizes = lengths(token_ids, PADDING)
        shortest, middle, longest = int(sizes.min()), int(sizes.median()), int(sizes.max())
        kind = {"bpe": "byte pairs"}.get(text["tokens"], text["tokens"])
        kind += f", up to {text['ngrams']} of them" * (text["ngrams"] > 1) + ", lower case" * text["lowercase"]
        unknown = int((token_ids == UNKNOWN).sum()) / int(sizes.sum())
        full = float((sizes == text["max_length"]).double().mean())
        # `first` is padded to its longest text, a batch to its own
        batches = lengths(first.inputs, PADDING).split(batch_size if isinstance(batch_size, int) else len(first.inputs))
        cells = sum(len(batch) * int(batch.max()) for batch in batches)
        padding = 1 - sum(int(batch.sum()) for batch in batches) / cells
        return [
            f"tokens            {kind}; {len(tokenizer):,} in the vocabulary"
            f" (of data.text.vocab_size={text['vocab_size']}); {unknown:.2%} of {of} are unknown",
            f"lengths           {shortest} to {longest} tokens, median {middle};"
            f" {full:.1%} fill data.text.max_length={text['max_length']} or are cut there  (of {of})",
            f"padding           {padding:.1%} of the first batches' {cells:,} tokens",
            f"the first text    {one_line(self.decode(first.inputs[0]))}{f'  -> {label}' if label else ''}",
        ]


def kind_of(inputs: Tensor | None) -> Inputs:
    """The kind of inputs of a data set that does not say: whole numbers other than bytes are token ids.

    None is a structure of tensors, which may hold token ids.
    """
    if inputs is None or not (inputs.is_floating_point() or inputs.dtype == torch.uint8):
        return TokenIds(padding=None)
    return Inputs()
