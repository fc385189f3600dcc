"""How texts become ids in most tests."""

from __future__ import annotations

TEXT = {
    "tokens": "words",
    "lowercase": True,
    "vocab_size": 1000,
    "min_frequency": 1,
    "ngrams": 1,
    "max_length": 8,
    "vocabulary": None,
    "bucketing": 0,
}
