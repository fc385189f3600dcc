"""When a run ends because others do better."""

from __future__ import annotations

import pytest

from mlprun.errors import RunError
from mlprun.runs.evaluations import FILE_NAME, Evaluations
from mlprun.training.pruning import RULES, Pruner

FIRST = [[float(value)] for value in range(1, 9)]  # eight runs, by their first evaluation
THIRD = [[9.0, 9.0, float(value)] for value in range(1, 9)]
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rule", "own", "others", "ends"),
    [
        ("top", [3.5], FIRST, True),  # the best 3 of 9 go on
        ("top", [2.5], FIRST, False),
        ("top", [8.5], [], False),  # the first run has nobody to beat
        ("top", [0.5, 8.5], [[0.0, 0.0]] * 9, False),  # only the first evaluation counts
        ("top", [INF], [[INF]], True),
        ("asha", [3.5], FIRST, True),
        ("asha", [9.0, 9.0, 2.5], THIRD, False),
        ("asha", [0.0, 0.0, 3.5], THIRD, True),
        ("asha", [9.0, 9.0], [[0.0, 0.0]] * 9, False),  # no rung
        ("median", [4.4], FIRST, False),
        ("median", [4.6], FIRST, True),
        ("median", [4.4, 99.0], [[9.0, *first] for first in FIRST], False),  # by the best of its own values
        ("median", [99.0], FIRST[:4], False),  # too few to compare with
    ],
)
def test_the_rules(rule, own, others, ends):
    assert RULES[rule](own, others) is ends


@pytest.mark.parametrize(("higher_is_better", "ends"), [(False, True), (True, False)])
def test_a_run_is_compared_at_its_evaluation_whatever_the_steps(tmp_path, higher_is_better, ends):
    for number, value in enumerate((0.1, 0.2, 0.3), start=1):
        Pruner("top", tmp_path / f"run{number}", number, higher_is_better).is_over(number, value)
    pruner = Pruner("top", tmp_path / "mine", 10, higher_is_better)
    assert pruner.is_over(10, 0.9) is ends
    assert pruner.is_over(10, None) is ends, "as before a resume"
    assert pruner.is_over(20, None) is False, "nothing was reported"
    assert Evaluations(tmp_path).read()["mine"] == {1: -0.9 if higher_is_better else 0.9}


def test_a_torn_line_is_left_out_and_a_damaged_one_named(tmp_path):
    evaluations = Evaluations(tmp_path)
    evaluations.report("a", 1, NAN)
    evaluations.report("a", 2, 0.5)
    with (tmp_path / FILE_NAME).open("a") as file:
        file.write('{"run": "b", "eval')
    for reader in (evaluations, Evaluations(tmp_path)):
        assert reader.read() == {"a": {1: INF, 2: 0.5}}
    Evaluations(tmp_path).report("b", 1, 0.5)
    for reader in (evaluations, Evaluations(tmp_path)):
        with pytest.raises(RunError, match=r"evaluations.jsonl, line 3: damaged\n  remove the line"):
            reader.read()


def test_only_what_is_new_is_read(tmp_path):
    mine, other = Evaluations(tmp_path), Evaluations(tmp_path)
    assert mine.read() == {}
    for number in (1, 2, 3):
        other.report("b", number, 1 / number)
        assert mine.read() == {"b": {n: 1 / n for n in range(1, number + 1)}}
