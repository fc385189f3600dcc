"""Text to token ids and back: words, characters or byte pairs, with a vocabulary that is made of the training part."""

from __future__ import annotations

from dataclasses import dataclass

PADDING, UNKNOWN, MASK = 0, 1, 2  # ids that every vocabulary has
SPECIAL = ("[PAD]", "[UNK]", "[MASK]")


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary, and the rule that cuts text into its tokens.

    Attributes:
        kind: `words`, `characters` or `bpe`.
        lowercase: whether text is lowercased first.
        ngrams: up to so many neighbouring tokens are a token too.
        tokens: the vocabulary; a token's id is its place. The first three are `SPECIAL`.
    """

    kind: str
    lowercase: bool
    ngrams: int
    tokens: tuple[str, ...]
