"""A table becomes examples; all that is learnt of it is learnt from the training split."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlprun.data.splits import make_splits
from mlprun.data.table.inputs import Rows, table
from mlprun.data.table.table import read_table, typed
from mlprun.errors import ConfigError, DataError
from tests.helpers.files import penguins

HEAD = "height,alive,town,kind\n"
LINES = ["1.5,yes,Ulm,a", "2.5,no,Bonn,b", ",no,Ulm,a", "4.5,,Bonn,b", "6.5,no,,a"] * 4


@pytest.fixture
def write(tmp_path):
    def write(*lines, head=HEAD):
        file = tmp_path / "t.csv"
        file.write_text(head + "\n".join(lines) + "\n")
        return str(file)

    return write


def split(source, **words):
    how = {
        "val": None, "task": "classification", "num_outputs": 2, "val_fraction": 0.2, "test_fraction": 0.2,
        "split_seed": 0, "normalize": "standardize", "limit": None, "limit_eval": None,
        "input_shape": list(source.train.inputs.shape[1:]),
    }  # fmt: skip
    return make_splits(source, **(how | words))


def test_cells_become_inputs(write):
    source = table(write(*LINES), "kind", impute="median")
    nan = torch.nan
    expected = [[1.5, 1, 0, 1], [2.5, 0, 1, 0], [nan, 0, 0, 1], [4.5, nan, 1, 0], [6.5, 0, nan, nan]]
    torch.testing.assert_close(source.train.inputs[:5], torch.tensor(expected), equal_nan=True)
    assert source.train.targets[:5].tolist() == [0, 1, 0, 1, 0]
    assert source.class_names == ("a", "b")


@pytest.mark.parametrize(
    ("impute", "height"), [("median", np.median), ("mean", np.mean), ("most_frequent", lambda values: 1.5)]
)
def test_missing_values_are_filled_by_the_training_split(write, impute, height):
    splits = split(table(write(*LINES), "kind", impute=impute))
    train, fill = splits.train.inputs.numpy(), splits.normalizer.fill
    known = train[~np.isnan(train[:, 0]), 0]
    if impute == "most_frequent":
        values, counts = np.unique(known, return_counts=True)
        assert fill[0] == values[counts.argmax()]
    else:
        assert fill[0] == pytest.approx(height(known))
    assert fill[1:].tolist() == [0, float(np.nansum(train[:, 2]) >= np.nansum(train[:, 3])), fill[3]]
    assert fill[2] + fill[3] == 1
    scaled = splits.normalizer(splits.train.inputs)
    assert not scaled.isnan().any()
    assert scaled[:, 0].mean() == pytest.approx(0, abs=1e-6)
    assert scaled[:, 0].std(correction=0) == pytest.approx(1)
    assert {*scaled[:, 1:].flatten().tolist()} == {0, 1}  # truth values and categories are not scaled


def test_no_statistic_sees_val_or_test(write):
    """Other values in the rows of val and test change nothing that is learnt, and those of train do."""
    learnt = {}
    for changed in ("none", "held out", "train"):
        lines = [f"{i},yes,Ulm,{'ab'[i % 2]}" for i in range(40)]
        if changed != "none":
            first = split(table(write(*lines, "3,no,Bonn,a"), "kind"))
            train = {int(row) for row in first.train.inputs[:, 0]}
            rows = [i for i in range(40) if (i in train) == (changed == "train")]
            for i in rows:
                lines[i] = f"{1000 + i},yes,Ulm,{'ab'[i % 2]}"
        splits = split(table(write(*lines, "3,no,Bonn,a"), "kind"))
        learnt[changed] = splits.normalizer.shift[0].item(), splits.normalizer.scale[0].item()
    assert learnt["none"] == learnt["held out"] != learnt["train"]


def test_a_category_that_training_lacks_is_zero_and_reported(write, caplog):
    lines = [f"{i % 7},yes,{'Ulm' if i % 2 else 'Bonn'},{'ab'[i % 2]}" for i in range(40)] + [
        "3,no,Kiel,a",
        "3,no,Kiel,b",
    ]
    for seed in range(30):
        splits = split(table(write(*lines), "kind"), split_seed=seed, normalize="none")
        kiel = 2 + ("Bonn", "Kiel", "Ulm").index("Kiel")
        if splits.train.inputs[:, kiel].sum() == 0:
            break
        assert "no training row has" not in caplog.text
    assert "town=Kiel (1)" in caplog.text or "town=Kiel (2)" in caplog.text
    held_out = torch.cat([splits.val.inputs, splits.test.inputs])
    assert held_out[:, kiel].sum() == 2
    assert splits.normalizer(held_out)[:, 2:].sum(1).sort().values[:3].tolist() == [0, 0, 1]


def test_missing_values_are_refused_by_name(write):
    with pytest.raises(DataError, match=r"missing are 12 values in 20 rows: height 4, alive 4, town 4\n  data.impute"):
        table(write(*LINES), "kind")
    with pytest.raises(ConfigError, match=r"data\.impute=zero"):
        table(write(*LINES), "kind", impute="zero")


@pytest.mark.parametrize(
    ("values", "task", "expected"),
    [
        (["b", "a"], None, ("classification", ("a", "b"))),
        (["yes", "No"], None, ("classification", ("No", "yes"))),
        (["10", "9"], None, ("classification", ("9", "10"))),
        (["1.0", "2.0"], None, ("classification", ("1", "2"))),
        (["01", "02"], None, ("classification", ("01", "02"))),
        (["1.5", "2"], None, ("regression", ())),
        (["1", "2"], "regression", ("regression", ())),
        ([str(i) for i in range(40)], None, ("regression", ())),
        ([str(i) for i in range(40)], "classification", ("classification", tuple(map(str, range(40))))),
    ],
)
def test_the_target_says_what_the_task_is(write, values, task, expected):
    lines = [f"{i % 11},{values[i % len(values)]}" for i in range(80)]
    found = read_table(write(*lines, head="x,y\n"), "y", task=task)
    assert (found.task, found.target.column.categories) == expected
    assert found.has_quantity == (expected[0] == "regression")
    assert found.num_outputs == (len(expected[1]) or 1)


@pytest.mark.parametrize(
    ("lines", "words", "error", "problem"),
    [
        (["1,a", "2,", "3,NA"], {}, DataError, "the target y is missing in 2 of 3 rows: 2, 3"),
        (["1,a", "2,a"], {}, DataError, "the target y cannot be predicted: is always 'a'"),
        (["1,2026-01-01", "2,2026-01-02"], {}, DataError, "cannot be predicted: dates"),
        (["1,12 kg", "2,13 kg", "3,14 kg"], {}, DataError, "cannot be predicted: numbers with a unit"),
        ([f"{i},n{i}" for i in range(60)], {}, DataError, "the target y has 60 different texts in 60 rows"),
        (["1,a", "2,b"], {"task": "regression"}, ConfigError, "data.task=regression: predicts numbers"),
        (["1,1.5", "2,2"], {"task": "classification"}, ConfigError, "data.task=classification: has classes"),
        (["1,a", "2,b"], {"task": "multi_label"}, ConfigError, "data.task=multi_label: a table has one target"),
        (["1,a", "2,b"], {"drop": ["x"]}, DataError, "no column is left to predict y from"),
        (["1,a", "2,b"], {"drop": ["y"]}, ConfigError, "y is the target"),
        (["1,a", "2,b"], {"drop": ["x"], "numeric": ["x"]}, ConfigError, "x is listed twice"),
        (["1,a", "2,b"], {"numeric": ["xx"]}, ConfigError, "has no column xx"),
        (["12 kg,a", "7 kg,b", "1 kg,a"], {}, DataError, "'data.drop=[x]' leaves them out"),
        (["1,a", "2,b"], {"input_shape": [3]}, ConfigError, "data.input_shape=[3]: the columns of"),
    ],
)  # fmt: skip
def test_what_is_refused(write, lines, words, error, problem):
    with pytest.raises(error) as raised:
        table(write(*lines, head="x,y\n"), "y", **words)
    assert problem in str(raised.value)


@pytest.mark.parametrize(("target", "other"), [("abab", "wxwx"), ("1212", "3434"), (None, None)])
def test_the_target_under_another_name_is_reported(write, target, other):
    lines = [f"{i * 7 % 13},{2.5 * i + 1},{i}" for i in range(40)]
    if target is not None:
        lines = [f"{i % 3},{other[i % 4]},{target[i % 4]}" for i in range(40)]
    found = read_table(write(*lines, head="x,copy,y\n"), "y")
    assert any("column copy and the target y determine each other" in line for line in found.warnings)
    lines[0] = lines[1].rpartition(",")[0] + f",{lines[0].rpartition(',')[2]}"
    assert not any("determine" in line for line in read_table(write(*lines, head="x,copy,y\n"), "y").warnings)


def test_row_numbers_of_pandas_are_left_out(write):
    found = read_table(write(*(f"{i},{i % 3},{'ab'[i % 2]}" for i in range(40)), head=",x,y\n"), "y")
    assert dict(found.left_out) == {"(unnamed)": "row numbers"}


def test_the_raw_penguins_name_all_that_must_be_decided(tmp_path):
    file = str(penguins(tmp_path, "penguins-raw.csv"))
    with pytest.raises(DataError) as raised:
        read_table(file, "Species")
    assert str(raised.value).endswith(
        '\n  \'data.drop=["Individual ID","Date Egg"]\' leaves them out; data.categorical=[…] takes texts as they are'
    )
    found = read_table(file, "Species", drop=["Individual ID", "Date Egg", "Comments"])
    assert {**found.left_out} == {"Region": "always 'Anvers'", "Stage": "always 'Adult, 1 Egg Stage'"}
    assert {"Culmen Length (mm)", "Clutch Completion"} <= {column.name for column in found.columns}


def test_a_checkpoint_keeps_what_the_columns_are(tmp_path):
    rows = table(str(penguins(tmp_path)), "species", impute="mean").inputs
    again = Rows.from_plain(rows.stored()["table"])
    assert (again.columns, again.target, again.impute) == (rows.columns, rows.target, rows.impute)
    rows.check_checkpoint(rows.stored(), tmp_path)
    other = table(str(penguins(tmp_path)), "species", impute="mean", drop=["year"]).inputs
    with pytest.raises(ConfigError, match="have changed since"):
        other.check_checkpoint(rows.stored(), tmp_path)
    with pytest.raises(ConfigError, match=r"trainer\.weights=run: was trained on a table with other columns"):
        other.check_weights(rows.stored(), "run", torch.nn.Linear(1, 1), {})


def test_lists_are_shown_as_a_shell_takes_them():
    assert typed("data.drop", ["a", "b c"]) == '\'data.drop=["a","b c"]\''
