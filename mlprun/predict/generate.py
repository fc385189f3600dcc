"""Continue a text with a finished language model, or fill in its hidden words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.errors import ConfigError, DataError, RunError
from mlprun.predict.finished import load

if TYPE_CHECKING:
    import torch

    from mlprun.training.learner import Learner

NUM_GUESSES = 5  # for each hidden token


def completes(data: dict[str, Any]) -> bool:
    """Whether `mlprun predict` completes texts with a run on such `data`: continues them or fills in hidden tokens."""
    return data.get("task") in ("token_classification", "language_modeling")


def unused_options(data: dict[str, Any]) -> dict[str, str]:
    """Options of `mlprun predict` that have no effect with a run on such `data`, and what they are for."""
    has_images = len(data.get("input_shape") or []) == 3 and data.get("audio") is None
    unused = {} if has_images else {"range": "images", "invert": "images"}
    if data.get("task") != "language_modeling":
        unused |= dict.fromkeys(("length", "temperature", "seed"), "language models")
    return unused


@dataclass(frozen=True)
class Completion:
    """The completion of one text."""

    text: str
    continued: str | None  # the text that follows; None for a masked language model
    filled: list[list[tuple[str, float]]]  # (token, probability) of the most likely tokens, for each hidden token
    notes: tuple[str, ...] = ()  # how the text was changed


def complete(
    path: Path,
    texts: Sequence[str],
    *,
    length: int,
    temperature: float,
    seed: int,
    trust: bool = False,
    checkpoint: str = "best",
) -> list[Completion]:
    """Continue texts, or fill in `[MASK]`, with the best checkpoint of a run; its task decides which.

    Args:
        texts: DataError for one without tokens, or without a hidden one.
        length: number of tokens to add.
        temperature: divides the logits; 0 takes the most likely token.
        seed: of the sampling; each text is sampled as if it were alone.
        trust, checkpoint: as for `load`.
    """
    if length < 1:
        raise ConfigError("--length", length, "must be 1 or more", "it counts tokens")
    if not 0 <= temperature < float("inf"):
        raise ConfigError("--temperature", temperature, "must be a number, 0 or more", "0 takes the likeliest token")
    run = load(path, trust=trust, checkpoint=checkpoint)

    from mlprun import randomness
    from mlprun.data.text.tokenizer import MASK, Tokenizer
    from mlprun.predict.inputs import token_ids

    if run.state.tokenizer is None:
        raise RunError(
            f"the data set, {run.config.data.dataset['_target_']}, has token ids without a tokenizer"
            "\n  a data set that returns mlprun.data.source.Source may give its tokenizer"
        )
    tokenizer = Tokenizer.from_plain(run.state.tokenizer)
    num_outputs, context_length = run.config.data.num_outputs, run.config.data.text.max_length
    if num_outputs < len(tokenizer):
        raise RunError(
            f"the run predicts {num_outputs} classes for each token, not tokens"
            "\n  mlprun eval scores it; predict continues a text or fills in [MASK]"
        )
    continues = run.config.data.task == "language_modeling"
    # A text to continue may be longer than the model's context; a text with hidden tokens may not.
    encoded = [(text, *token_ids(text, tokenizer, None if continues else context_length)) for text in texts]
    completions = []
    for text, ids, notes in encoded:
        if continues:
            generator = randomness.generator(seed, "completion")
            new = _continue(run.learner, ids, length, context_length, len(tokenizer), temperature, generator)
            added = tokenizer.decode([*ids, *new]).removeprefix(tokenizer.decode(ids))
            completions.append(Completion(text, added, [], notes))
        else:
            if MASK not in ids:
                raise DataError(f"'{text}': has no [MASK]\n  write [MASK] for each word to fill in")
            guesses = _fill(run.learner, ids, len(tokenizer))
            filled = [[(tokenizer.decode([token]), chance) for token, chance in each] for each in guesses]
            completions.append(Completion(text, None, filled, notes))
    return completions


def _logits(learner: Learner, ids: list[int], positions: list[int], num_tokens: int) -> torch.Tensor:
    """Float64 (positions, num_outputs), -inf for special tokens and from `num_tokens`, the size of the vocabulary."""
    import torch

    from mlprun.data.text.tokenizer import SPECIAL

    logits = learner.outputs(torch.tensor([ids], device=learner.device))[0, positions].double().cpu()
    logits[:, : len(SPECIAL)] = -torch.inf
    logits[:, num_tokens:] = -torch.inf
    return logits


def _continue(
    learner: Learner,
    ids: list[int],
    length: int,
    context_length: int,
    num_tokens: int,
    temperature: float,
    generator: torch.Generator,
) -> list[int]:
    """`length` new tokens, each sampled given the last `context_length` before it."""
    import torch

    text = list(ids)
    for _ in range(length):
        logits = _logits(learner, text[-context_length:], [-1], num_tokens)[0]
        if temperature == 0:
            text.append(int(logits.argmax()))
        else:
            chances = ((logits - logits.max()) / temperature).softmax(0)  # stable for the smallest temperatures, too
            text.append(int(torch.multinomial(chances, 1, generator=generator)))
    return text[len(ids) :]


def _fill(learner: Learner, ids: list[int], num_tokens: int) -> list[list[tuple[int, float]]]:
    """(token, probability) of the most likely tokens, for each `MASK` in `ids`."""
    from mlprun.data.text.tokenizer import MASK, SPECIAL

    hidden = [i for i, token in enumerate(ids) if token == MASK]
    logits = _logits(learner, ids, hidden, num_tokens)
    best = logits.softmax(1).topk(min(NUM_GUESSES, num_tokens - len(SPECIAL)))
    return [list(zip(*pair, strict=True)) for pair in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
