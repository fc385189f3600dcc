"""What the models of text share: which ids are padding, and how the states of a sequence become one.

A batch of text is token ids (batch, length), each sequence padded at its end. The mask is made of the ids, and nothing
here has a shape that depends on their values or asks for them on the CPU: a GPU is never waited for.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from mlprun.errors import ConfigError, suggestion

PADDING = 0  # the id of no token, at the end of a sequence that is shorter than others of its batch

# One output of a whole sequence, or one at each token: told from all tokens, or from those up to it alone.
OF_THE_WHOLE = ("classification", "multi_label", "regression", "custom")
BY_TOKEN = ("token_classification", "language_modeling")
POOLINGS = ("last", "max", "mean")


def check_ids(ids: Tensor) -> None:
    """TypeError unless `ids` are (batch, length) whole numbers: pictures and tables are not read as text."""
    if ids.dim() != 2 or ids.is_floating_point():
        raise TypeError(f"it reads token ids, (batch, length) whole numbers, not {ids.dtype}")


def mask_of(ids: Tensor) -> Tensor:
    """(batch, length) token ids -> (batch, length) bool, true where there is a token."""
    return ids != PADDING


def lengths_of(mask: Tensor) -> Tensor:
    """(batch, length) bool -> (batch,) int64, the number of tokens; of an empty sequence 1, so that it has a last."""
    return mask.sum(dim=1).clamp(min=1)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens, `Σₜ mₜ xₜ / Σₜ mₜ`; zero where there is none.

    Args:
        states: (batch, length, width) floats.
        mask: (batch, length), true or a weight where there is a token, else 0.

    Returns:
        (batch, width) floats.
    """
    weights = mask.to(states.dtype)
    total = torch.einsum("nl,nlw->nw", weights, states)
    count = weights.sum(dim=1, keepdim=True)
    return total / torch.where(count == 0, 1, count)


def masked_max(states: Tensor, mask: Tensor) -> Tensor:
    """The largest of each feature over the tokens: (batch, length, width) and (batch, length) bool -> (batch, width).

    Zero where there is no token.
    """
    largest = states.masked_fill(~mask[:, :, None], torch.finfo(states.dtype).min).amax(dim=1)
    return largest.masked_fill(~mask.any(dim=1, keepdim=True), 0)


def last(states: Tensor, mask: Tensor) -> Tensor:
    """The state at the last token: (batch, length, width) and (batch, length) bool -> (batch, width)."""
    index = (lengths_of(mask) - 1)[:, None, None].expand(-1, 1, states.shape[2])  # (batch, 1, width)
    return states.gather(1, index).squeeze(1)


def pool(states: Tensor, mask: Tensor, pooling: str) -> Tensor:
    """One state of each sequence, `pooling` being one of `POOLINGS`; shapes as `last` has them."""
    functions = {"last": last, "max": masked_max, "mean": masked_mean}
    return functions[pooling](states, mask)


def reverse(states: Tensor, mask: Tensor) -> Tensor:
    """Each sequence back to front within its own length, the padding where it was; its own inverse.

    Args:
        states: (batch, length, width).
        mask: (batch, length) bool, true where there is a token.

    Returns:
        (batch, length, width): `x[n, length of n - 1 - t]` at position t before the end.
    """
    steps = torch.arange(states.shape[1], device=states.device)  # (length,)
    mirrored = lengths_of(mask)[:, None] - 1 - steps  # (batch, length), negative behind the end
    index = torch.where(mirrored >= 0, mirrored, steps)
    return states.gather(1, index[:, :, None].expand_as(states))


def check_choice(key: str, value: str, known: Collection[str]) -> str:
    """`value` itself; ConfigError under `key` unless it is one of `known`."""
    if not isinstance(value, str) or value not in known:
        raise ConfigError(key, value, f"there is no such {key}", suggestion(str(value), known))
    return value


def check_task(task: str, model: str, able: Collection[str] = OF_THE_WHOLE + BY_TOKEN) -> str:
    """`task` itself; ConfigError unless there is such a task and `model` is able to do it."""
    check_choice("task", task, OF_THE_WHOLE + BY_TOKEN)
    if task not in able:
        problem = f"model={model} gives one output for a whole text, none for each token"
        raise ConfigError("task", task, problem, "use model=transformer or model=lstm")
    return task
