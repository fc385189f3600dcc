"""Keys that are swept together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlprun.config.compose import Composer
from mlprun.errors import ConfigError
from tests.helpers.spaces import space_of

PAIR = "pair=zip(model=choice(mlp,cnn),optim.lr=choice(1e-3,1e-4))"


@pytest.mark.parametrize(
    ("words", "points"),
    [
        ([PAIR], [["model=mlp", "optim.lr=0.001"], ["model=cnn", "optim.lr=0.0001"]]),
        (
            ["p=zip(model.hidden=choice([8],[8,4]),+model.note=choice('a, b',\"c)\"))"],
            [["model.hidden=[8]", r"+model.note=a\,\ b"], ["model.hidden=[8,4]", r"+model.note=c\)"]],
        ),
        (["p=zip(batch_size=range(8,17,8),seed=range(2))"], [["batch_size=8", "seed=0"], ["batch_size=16", "seed=1"]]),
        ([PAIR, "seed=0,1"], [["model=mlp", "optim.lr=0.001", "seed=0"], ["model=mlp", "optim.lr=0.001", "seed=1"],
                              ["model=cnn", "optim.lr=0.0001", "seed=0"], ["model=cnn", "optim.lr=0.0001", "seed=1"]]),
    ],
)  # fmt: skip
def test_a_zip_is_a_choice_of_rows(words, points):
    assert list(Composer().points(words)) == points


def test_keys_of_a_model_that_only_a_row_chooses(tmp_path):
    words = ["p=zip(model=choice(cnn,mlp),optim.lr=choice(1,2))", "model.dropout=0.5", "debug=fast"]
    assert [Composer().point(point).model["dropout"] for point in Composer().points(words)] == [0.5, 0.5]


@given(st.lists(st.tuples(st.integers(1, 99), st.floats(1e-6, 1.0)), min_size=1, max_size=5))
def test_whatever_is_zipped_comes_out_in_its_order(pairs):
    first, second = (",".join(map(repr, column)) for column in zip(*pairs, strict=True))
    composer = Composer()
    found = [
        composer.point(p) for p in composer.points([f"p=zip(batch_size=choice({first}),optim.lr=choice({second}))"])
    ]
    assert [(config.batch_size, config.optim["lr"]) for config in found] == pairs


def test_the_points_of_a_file(tmp_path):
    file = tmp_path / "points.csv"
    file.write_text('\ufeffmodel,model.hidden,optim.lr\nmlp,"[16, 8]",1e-3\nlinear,,1e-2\n\n', encoding="utf-8")
    assert list(Composer().points([f"sweep.points={file}", "seed=3"])) == [
        ["model=mlp", "model.hidden=[16, 8]", "optim.lr=1e-3", "seed=3"], ["model=linear", "optim.lr=1e-2", "seed=3"]
    ]  # fmt: skip


def test_a_search_chooses_a_row():
    space = space_of([PAIR, "batch_size=interval(8,16)"])
    assert str(space.dimensions["pair"]) == "model=mlp optim.lr=0.001, model=cnn optim.lr=0.0001"
    assert space.overrides({"pair": "model=cnn optim.lr=0.0001", "batch_size": 9})[-3:] == [
        "model=cnn",
        "optim.lr=0.0001",
        "batch_size=9",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["p=zip(model=choice(mlp,cnn),optim.lr=choice(1e-3))"], "model has 2, optim.lr has 1"),
        (["p=zip(optim.lr=interval(1,2))"], "is no list of values"),
        (["p=zip(optim.lr=1,2)"], "is no list of values"),
        (["p=zip(model)"], "model is no KEY=VALUES"),
        (["p=zip()"], "an empty argument is no KEY=VALUES"),
        (["p=zip(q=zip(optim.lr=choice(1)))"], "is no KEY=VALUES"),
        (["p=zip(seed=choice(1,2),seed=choice(1,2))"], "names seed twice"),
        (["model=zip(optim.lr=choice(1,2))"], "is a key, and a zip has a name of its own"),
        (["p=zip(optim.lr=choice(1,2))", "optim.lr=3"], "has values in p too"),
        (["p=zip(optim.lrr=choice(1,2))"], "did you mean 'optim.lr'"),
        (["p=zip(seed=choice(0,1))", "optim.lr=interval(1,2)", "sweep.num_trials=3"], "take it out"),
        (["sweep.points=none.csv"], "cannot be read: No such file"),
    ],
)
def test_what_is_no_row_is_said(words, said):
    composer = Composer()
    with pytest.raises(ConfigError) as error:
        [composer.point(point) for point in composer.points(words)]
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model,optim.lr\n", "has no points"),
        ("", "has no points"),
        ("model,\nmlp,1\n", "has a column without a key"),
        ("seed,seed\n1,2\n", "or one twice"),
        ("model,model.hidden\nmlp,[8,8]\n", "point 1 has 3 cells, and there are 2 keys\n  quote cells with commas"),
    ],
)
def test_a_file_that_is_no_table_of_points_is_refused(tmp_path, text, said):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(ConfigError) as error:
        list(Composer().points([f"sweep.points={tmp_path / 'points.csv'}"]))
    assert said in str(error.value)
