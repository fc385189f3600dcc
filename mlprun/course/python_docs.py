"""Python's own documentation, a text for language models that needs no file."""

from __future__ import annotations

from mlprun.data.source import Source
from mlprun.data.text.files import Text, cut_pieces, sha256_of
from mlprun.data.text.language_model import BETWEEN, blocks
from mlprun.errors import DataError


def python_docs(text: Text, masked: bool = False, val_fraction: float = 0.1, test_fraction: float = 0.1) -> Source:
    """The topics of Python's `help()`, by name: half a million characters, which differ between Python versions.

    Args:
        text: `data.text`.
        masked: predict masked words, as `masked`; else the next token, as `language_model`.
        val_fraction, test_fraction: shares in (0, 1), at the end.
    """
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError(
            f"python_docs is the text of Python's own pydoc_data, which this Python does not have: {error}\n"
            "  data=corpus data.root=FILE.txt reads any text"
        ) from error
    content = BETWEEN.join(f"{name}\n{topics[name]}" for name in sorted(topics))
    pieces = cut_pieces(content, val_fraction, test_fraction)
    return blocks(pieces, {"pydoc_data/topics.py": sha256_of(content)}, text, masked=masked)
