"""What a finished language model says: a text goes on, and words that are hidden in one are filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.errors import ConfigError, DataError, RunError
from mlprun.predict.finished import Finished, load

if TYPE_CHECKING:
    import torch

    from mlprun.data.text.tokenizer import Tokenizer
    from mlprun.training.learner import Learner

NUM_GUESSES = 5  # tokens shown for a hidden one


@dataclass(frozen=True)
class Completion:
    """What the model makes of one text.

    Attributes:
        text: as given.
        continued: what follows it, of a language model; else None.
        filled: for each hidden token of the text, in order, (token, probability) of the likeliest.
        notes: what was done to the text.
    """

    text: str
    continued: str | None
    filled: list[list[tuple[str, float]]]
    notes: tuple[str, ...] = ()


def complete(
    path: Path, texts: Sequence[str], *, length: int, temperature: float, seed: int, trust: bool = False
) -> list[Completion]:
    """What the best checkpoint of a run makes of texts: it continues them, or fills in what is `[MASK]`.

    Args:
        path: of the run, whose task tells which.
        texts: as typed.
        length: tokens to add.
        temperature: 1 draws by the model's probabilities, lower ones by sharper, 0 takes the likeliest.
        seed: of the draws; text i of several draws the same alone.
        trust: as for `load`.

    Raises:
        RunError: as `load`; the run did not make its token ids of text, or tells other classes of them.
        DataError: a text without tokens, or without a hidden one where that is asked.
        ConfigError: `length` or `temperature` cannot be.
    """
    if length < 1:
        raise ConfigError("--length", length, "must be 1 or more", "it counts tokens")
    if not 0 <= temperature < float("inf"):
        raise ConfigError("--temperature", temperature, "must be a number, 0 or more", "0 takes the likeliest token")
    run = load(path, trust=trust)

    from mlprun import randomness
    from mlprun.predict.inputs import token_ids

    tokenizer = _tokenizer(run)
    longest = run.config.data.text.max_length
    tells_next = run.config.data.task == "language_modeling"
    if run.config.data.num_outputs < len(tokenizer):
        raise RunError(
            f"the run tells one of {run.config.data.num_outputs} classes of each token, and no tokens of its vocabulary"
            "\n  mlprun eval says how well; predict is for tokens that follow or are hidden"
        )
    # What is to go on may be longer than what the model looks back on; what is to be filled in may not.
    given = [(text, *token_ids(text, tokenizer, None if tells_next else longest)) for text in texts]
    found = []
    for text, ids, notes in given:
        if tells_next:
            new = continued(
                run.learner, ids, num_tokens=length, max_length=longest, num_known=len(tokenizer),
                temperature=temperature, generator=randomness.generator(seed, "completion"),
            )  # fmt: skip
            whole, before = tokenizer.decode([*ids, *new]), tokenizer.decode(ids)
            found.append(Completion(text, whole.removeprefix(before), [], notes))
        else:
            guesses = filled(run.learner, ids, num_known=len(tokenizer), name=text)
            named = [[(tokenizer.decode([token]), chance) for token, chance in each] for each in guesses]
            found.append(Completion(text, None, named, notes))
    return found


def _tokenizer(run: Finished) -> Tokenizer:
    """The run's own, out of its checkpoint.

    Raises:
        RunError: it has none.
    """
    from mlprun.data.text.tokenizer import Tokenizer

    if run.state.tokenizer is None:
        raise RunError(
            f"the data set, {run.config.data.dataset['_target_']}, gives token ids and does not say of which text"
            "\n  a data set that returns mlprun.data.source.Source may give its tokenizer"
        )
    return Tokenizer.from_plain(run.state.tokenizer)


def continued(
    learner: Learner,
    ids: Sequence[int],
    *,
    num_tokens: int,
    max_length: int,
    num_known: int,
    temperature: float,
    generator: torch.Generator,
) -> list[int]:
    """Tokens that a language model adds to `ids`, one by one, each drawn given the last `max_length` before it.

    Args:
        learner: outputs logits (1, L, K) for ids (1, L).
        ids: one or more.
        num_tokens: to add.
        max_length: as many tokens the model can look back on.
        num_known: tokens in the vocabulary; ids beyond it and special tokens are never drawn.
        temperature: divides the logits; 0 takes the largest.
        generator: on the CPU.
    """
    import torch

    from mlprun.data.text.tokenizer import SPECIAL

    found = list(ids)
    for _ in range(num_tokens):
        window = torch.tensor([found[-max_length:]], device=learner.device)
        logits = learner.outputs(window)[0, -1].double().cpu()
        logits[: len(SPECIAL)] = -torch.inf
        logits[num_known:] = -torch.inf
        if temperature == 0:
            found.append(int(logits.argmax()))
        else:
            chances = ((logits - logits.max()) / temperature).softmax(0)  # by the smallest of temperatures, too
            found.append(int(torch.multinomial(chances, 1, generator=generator)))
    return found[len(ids) :]


def filled(learner: Learner, ids: Sequence[int], *, num_known: int, name: str) -> list[list[tuple[int, float]]]:
    """For each `MASK` among `ids`, the likeliest tokens with their probabilities.

    Args:
        learner: outputs logits (1, L, K) for ids (1, L).
        ids: at most as many as the model takes.
        num_known: tokens in the vocabulary; ids beyond it and special tokens are no guesses.
        name: of the text, for messages.

    Raises:
        DataError: nothing is hidden.
    """
    import torch

    from mlprun.data.text.tokenizer import MASK, SPECIAL

    hidden = [place for place, token in enumerate(ids) if token == MASK]
    if not hidden:
        raise DataError(f"'{name}': hides no word\n  write [MASK] for each that is to be filled in")
    logits = learner.outputs(torch.tensor([list(ids)], device=learner.device))[0].double().cpu()
    logits[:, : len(SPECIAL)] = -torch.inf
    logits[:, num_known:] = -torch.inf
    best = logits[hidden].softmax(1).topk(min(NUM_GUESSES, num_known - len(SPECIAL)))
    return [
        list(zip(tokens, chances, strict=True))
        for tokens, chances in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
