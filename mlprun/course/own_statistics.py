"""A common mistake: a test split scaled by its own statistics, `experiment=own_statistics`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mlprun.data.normalize import make_normalizer
from mlprun.data.source import Examples, Source
from mlprun.data.splits import make_splits
from mlprun.errors import ConfigError, suggestion


def own_statistics(source: Source, scale_test_by: str = "test", **splits: Any) -> Source:
    """`source`, with a test split that mlprun will scale by its own statistics if `scale_test_by` is `test`.

    mlprun scales every split by the training split's statistics. So the test split is scaled here by its own, and
    back by the training split's. `splits` are the keys of `data` that `make_splits` takes.
    """
    known = ("train", "test")
    if scale_test_by not in known:
        raise ConfigError("scale_test_by", scale_test_by, "is no such split", suggestion(str(scale_test_by), known))
    if scale_test_by == "train":
        return source
    parts = make_splits(source, val=None, **splits)
    if not isinstance(parts.test, Examples):
        raise ConfigError("source", type(source.train).__name__, "does not hold its examples in memory")
    normalizer = make_normalizer(parts.test, splits["normalize"], source.value_range, splits["split_seed"])
    inputs = parts.normalizer.inverse(normalizer(parts.test.inputs))
    return replace(source, train=parts.train, val=parts.val, test=Examples(inputs, parts.test.targets))
