"""A text that every Python has, for language models without a file."""

from __future__ import annotations

from mlprun.data.source import Source
from mlprun.data.text.files import Text, cut_pieces, sha256_of
from mlprun.data.text.language_model import BETWEEN, blocks
from mlprun.errors import DataError


def python_docs(text: Text, masked: bool = False, val_fraction: float = 0.1, test_fraction: float = 0.1) -> Source:
    """The language reference that comes with Python (`pydoc_data`): half a million characters of English.

    What `help("while")` shows, topic after topic in the order of their names. The text differs a little between
    versions of Python; the fingerprint is of its content.

    Args:
        text: `data.text`.
        masked: tell masked words, as `masked`; else the next token, as `language_model`.
        val_fraction, test_fraction: shares in (0, 1), at the end.

    Raises:
        ConfigError: a value of `data.text` that cannot work.
        DataError: this Python came without its documentation.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            f"python_docs is the text of Python's own pydoc_data, which this Python came without: {error}\n"
            "  data=corpus data.root=FILE.txt reads any text"
        ) from error
    whole = BETWEEN.join(f"{name}\n{topics[name]}" for name in sorted(topics))
    parts = cut_pieces(whole, val_fraction, test_fraction)
    return blocks(parts, {"pydoc_data/topics.py": sha256_of(whole)}, text, masked=masked)
