"""What of the texts no model sees: reported once."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mlprun.data.text.tokenizer import PADDING, UNKNOWN, Tokenizer
from mlprun.formatting import first_few, format_share

log = logging.getLogger("mlprun")
MUCH_UNKNOWN = 0.1  # share of the training tokens that deserves a warning


def warn_of_cut(lengths: Tensor, max_length: int, names: Sequence[str]) -> None:
    """Warn of texts that are cut.

    Args:
        lengths: in tokens, (N,).
        names: of the texts.
    """
    longer = (lengths > max_length).nonzero().flatten().tolist()
    if longer:
        cut = float((lengths - max_length).clamp(min=0).sum() / lengths.sum())
        log.warning(
            "%d of %d texts are longer than data.text.max_length=%d (up to %d tokens): %s of all tokens are cut (%s)",
            len(longer),
            len(lengths),
            max_length,
            int(lengths.max()),
            format_share(cut),
            first_few([names[i] for i in longer], 2),
        )


def share_unknown(ids: Tensor) -> float:
    """The share of unknown tokens in ids of any shape, without padding."""
    return int((ids == UNKNOWN).sum()) / max(1, int((ids != PADDING).sum()))


def warn_of_unknown(share: float, tokenizer: Tokenizer, text: Mapping[str, Any]) -> None:
    """If many tokens are unknown, all these words are the same for a model, and easily predicted.

    Args:
        share: of the training tokens, in [0, 1].
        text: `data.text`.
    """
    if share <= MUCH_UNKNOWN:
        return
    if text["vocabulary"] is not None:
        remedy = "data.text.vocabulary is of other text"
    elif len(tokenizer) == text["vocab_size"]:
        remedy = f"data.text.vocab_size={len(tokenizer)} leaves no room for them: raise it"
    else:
        remedy = f"data.text.min_frequency={text['min_frequency']} leaves them out"
    log.warning("%.0f %% of the training tokens are unknown, and count as one token, [UNK]; %s", 100 * share, remedy)
