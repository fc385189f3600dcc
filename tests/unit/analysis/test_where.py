"""`--where`: what can be asked, what fits, and what is said of a line that cannot be read."""

from __future__ import annotations

import math
import operator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlprun.analysis.where import Comparison, parse_where, select
from mlprun.errors import ConfigError
from tests.helpers.records import run

RUNS = [
    run("optim.lr=0.1", name="a", value=0.5),
    run("optim=sgd", "optim.lr=0.2", "seed=1", name="b", value=0.25),
    run("model=linear", name="c", value=math.nan, metrics={"val/loss": None, "test/accuracy": 0.9}),
    run("model.hidden=[32]", "trainer.grad_clip=1", name="d", status="failed", metrics={}),
    run("data.name='a b'", "+experiment=mine", name="e", value=2.0, steps=7),
]


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", "abcde"),
        ("val/loss<=0.5", "ab"),
        ("val/loss > 0.25  and  val/loss<2", "a"),
        ("val/loss=5e-1", "a"),
        ("val/loss=null", "c"),
        ("val/loss!=0.5", "bce"),  # d has none
        ("test/accuracy>0.8", "c"),
        ("status=failed", "d"),
        ("optim=sgd", "b"),
        ("optim=adam and status=completed", "ace"),
        ("optim!=sgd", "acde"),
        ("model=linear", "c"),
        ("model!=mlp", "c"),
        ("model.hidden=[128, 64]", "abe"),
        ("model.hidden='[32]'", "d"),
        ("seed=1", "b"),
        ("optim.lr>=0.1", "ab"),
        ("trainer.grad_clip=null", "abce"),
        ("trainer.grad_clip>0", "d"),
        ("data.name=\"'a b'\" and experiment=mine", "e"),
        ("epochs=10 and seed=0", "acde"),
    ],
)
def test_the_runs_that_fit(where, names):
    assert "".join(path.name for path, _ in select(RUNS, where)) == names


@pytest.mark.parametrize(
    ("where", "problem", "remedy"),
    [
        ("val/los<1", "no run has val/los", "did you mean 'val/loss'"),
        ("accuracy>0.9", "no run has accuracy", "'test/accuracy'"),
        ("lr=0.1", "no run has lr", "did you mean 'optim.lr'?"),
        ("modle=mlp", "no run has modle", "did you mean 'model'?"),
        ("model>3", "model is not a number (mlp)", "= or !="),
        ("val/loss<small", "small is not a number", "and"),
        ("val/loss<nan", "nan is not a number", "and"),
        ("val/loss==1", "cannot read 'val/loss==1'", "a single ="),
        ("seed=0 or seed=1", "cannot read 'or seed=1'", "only `and` joins"),
        ("seed=0, optim=sgd", "cannot read", "and"),
        ("seed=0 and", "cannot read 'and'", "joined by and"),
        ("seed", "cannot read 'seed'", "joined by and"),
        ("seed=", "cannot read 'seed='", "joined by and"),
        ("=3", "cannot read '=3'", "joined by and"),
        ("data.name='a b", "cannot read", "joined by and"),
        ("  ", "a comparison is missing", "joined by and"),
    ],
)
def test_a_line_that_cannot_be_answered(where, problem, remedy):
    with pytest.raises(ConfigError) as error:
        select(RUNS, where)
    first, second = str(error.value).split("\n")
    assert first.startswith("--where=")
    assert problem in first
    assert remedy in second


def test_without_runs_no_key_is_wrong():
    assert select([], "val/los<1") == []


KEYS = st.from_regex(r"[\w./+@-]+", fullmatch=True)
VALUES = st.text().filter(lambda text: not ("'" in text and '"' in text))


@given(st.lists(st.builds(Comparison, KEYS, st.sampled_from(["=", "!="]), VALUES), min_size=1))
def test_every_comparison_is_read_as_it_was_written(comparisons):
    assert parse_where(" and ".join(map(str, comparisons))) == comparisons


@given(st.text(alphabet="ab/.=<>!'\"[], 01and"))
def test_any_other_line_is_read_or_refused_with_a_remedy(text):
    try:
        read = parse_where(text)
    except ConfigError as error:
        assert error.remedy  # noqa: PT017  a line may be read or refused
    else:
        assert parse_where(" and ".join(map(str, read))) == read


@given(
    st.sampled_from(["=", "!=", "<", "<=", ">", ">="]),
    st.one_of(st.integers(), st.floats(allow_nan=False)),
    st.one_of(st.integers(), st.floats(allow_nan=False)),
)
def test_numbers_are_compared_as_python_does(sign, ours, theirs):
    compare = {"=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt}
    expected = compare.get(sign, operator.ge)(ours, theirs)
    (comparison,) = parse_where(f"key{sign}{theirs}")
    assert comparison.holds([ours]) == expected
    assert not comparison.holds([])
