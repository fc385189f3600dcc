"""When another test split is refused, and what else is only said of it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from mlprun.analysis.diff import Difference
from mlprun.data.source import Examples
from mlprun.errors import DataError
from mlprun.predict.finished import Finished
from mlprun.runs.record import RunRecord

WHOLE, FLOATS = (Examples(torch.zeros(2, 3, dtype=kind), torch.zeros(2)) for kind in (torch.int32, torch.float32))
LAZY = object()
OTHER = [Difference("examples.test", "a", "b")]
TRAIN = [Difference("sizes.train", 1, 2), Difference("train", "a", "b")]
NEWER = [Difference("packages.torch", "2.14", "2.15")]


def finished(test, found, environment=(), recorded="a", files=True) -> Finished:
    record = RunRecord(data={"digests": {"test": recorded}, "fingerprints": {"f": "1"} if files else {}})
    splits = SimpleNamespace(test=test)
    return Finished(None, None, None, None, splits, record, {"environment": [*environment], "data": found})


@pytest.mark.parametrize(
    ("run", "digest"),
    [
        (finished(WHOLE, OTHER), None),
        (finished(WHOLE, OTHER, NEWER), None),  # whole numbers are the same everywhere
        (finished(FLOATS, OTHER), None),
        (finished(FLOATS, OTHER, NEWER, files=False), None),  # nothing says that the files are the same
        (finished(FLOATS, [*OTHER, *TRAIN], NEWER), None),
        (finished(LAZY, []), "b"),
        (finished(LAZY, TRAIN), None),  # the examples are not read
        (finished(LAZY, TRAIN, recorded=None), "b"),  # an older record has files and sizes only
    ],
)
def test_another_test_split_is_refused_or_reported(capsys, run, digest):
    with pytest.raises(DataError, match="--changed-data scores it nevertheless"):
        run.check_test_split(changed_data=False, digest=digest)
    run.check_test_split(changed_data=True, digest=digest)
    assert capsys.readouterr().err.startswith("warning: the test split is not the one of the run")


@pytest.mark.parametrize(
    ("run", "digest", "said"),
    [
        (finished(WHOLE, []), None, ""),
        (finished(LAZY, []), "a", ""),
        (finished(LAZY, [], recorded=None), "a", ""),
        (finished(WHOLE, TRAIN), None, "its data has changed, but not the test split"),
        (finished(LAZY, TRAIN), "a", "its data has changed, but not the test split"),
        (finished(FLOATS, OTHER, NEWER), None, "not those of the run to the last bit"),
        (finished(LAZY, [], NEWER), "b", "not those of the run to the last bit"),  # a JPEG, decoded by another library
    ],
)
def test_the_same_test_split_is_scored(capsys, run, digest, said):
    run.check_test_split(changed_data=False, digest=digest)
    assert said in capsys.readouterr().err
