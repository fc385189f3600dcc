"""A table of a user's own, from its file to predictions of raw rows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mlprun as api
from tests.helpers.files import penguins
from tests.helpers.lines import finish
from tests.helpers.runs import record_of

TRAIN = ["data=csv", "data.path=penguins.csv", "data.target=species", "data.impute=median", "epochs=4", "writer=jsonl"]
PENGUIN = {"island": "Dream", "bill_length_mm": 40, "bill_depth_mm": 18.5, "flipper_length_mm": 190}
PENGUIN |= {"body_mass_g": 4000, "sex": "male", "year": 2007}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "project"
    folder.mkdir()
    penguins(folder)
    finish(folder, *TRAIN, "hydra.run.dir=run")
    return folder


@pytest.fixture
def copy(project, tmp_path) -> Path:
    """The project, where `mlprun` runs; its run was started in `project`, which is gone for now."""
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    project.rename(project.with_name("hidden"))
    yield tmp_path
    project.with_name("hidden").rename(project)


def predicted(mlprun, *words: str) -> list[dict]:
    result = mlprun("predict", "run", *words, "--json")
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


def test_the_columns_are_shown(mlprun, tmp_path):
    penguins(tmp_path)
    shown = mlprun("inspect", *TRAIN).out
    for line in (
        "numbers     bill_length_mm, bill_depth_mm, flipper_length_mm, body_mass_g, year",
        "categories  island (3), sex (2)",
        "with few values: year; data.categorical=[…] if they are codes",
        "target      species: words, so 3 classes",
        "missing     19 values in 344 rows: bill_length_mm 2",
        "sex                2 categories        7",
        "classes of train  Adelie: 109  Chinstrap: 48  Gentoo: 90",
    ):
        assert line in shown


def test_raw_rows_are_predicted_as_the_evaluation_sees_them(copy, mlprun):
    of_test = predicted(mlprun, "--index", *map(str, range(69)))
    raw = pd.read_csv("penguins.csv", keep_default_na=False)
    raw[["sex", "year", "body_mass_g", "island", "bill_depth_mm", "flipper_length_mm", "bill_length_mm"]].to_csv(
        "shuffled.csv", sep=";"
    )  # another order and separator, row numbers, and no target
    with_target, without = predicted(mlprun, "penguins.csv"), predicted(mlprun, "shuffled.csv")
    assert [row["true"] for row in with_target] == raw["species"].tolist()
    assert [row["probabilities"] for row in with_target] == [row["probabilities"] for row in without]
    assert "true" not in without[0]
    known = [row["probabilities"] for row in with_target]
    for row in of_test:
        assert min(max(abs(row["probabilities"][n] - p[n]) for n in p) for p in known) < 1e-6
    right = sum(row["predicted"] == row["true"] for row in of_test)
    assert right / len(of_test) == pytest.approx(record_of(copy / "run")["metrics"]["test/accuracy"])


def _polars(frame: pd.DataFrame):
    return pytest.importorskip("polars").from_dict(frame.astype(object).where(frame.notna(), None).to_dict("list"))


TYPES = {"bill_length_mm": "Float64", "year": "Int64", "island": "category", "sex": object}


@pytest.mark.parametrize(
    "form",
    [
        lambda frame: frame.sample(frac=1, axis=1, random_state=0).drop(columns="species"),
        lambda frame: frame.set_index("species").astype(TYPES),
        lambda frame: frame.astype(str),
        lambda frame: frame.to_dict("records"),
        _polars,
    ],
    ids=["another order", "other types", "texts", "dicts", "polars"],
)
def test_tables_in_memory_are_predicted_as_their_file(copy, mlprun, capsys, form):
    frame = pd.read_csv(copy / "penguins.csv")[:5]
    frame.to_csv(copy / "five.csv", index=False)
    expected = [[*each["probabilities"].values()] for each in predicted(mlprun, "five.csv")]
    capsys.readouterr()
    found = api.load(copy / "run").predict(form(frame))
    assert found.probabilities.numpy() == pytest.approx(np.array(expected), abs=1e-6)
    assert "row 4: bill_length_mm, bill_depth_mm" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (pd.DataFrame({"bill_length": [40.0]}), "inputs: lacks 7 columns of the run: (?s:.*)bill_length_mm: did you"),
        (pd.DataFrame({"year": [1], 0: [2]})[:0], "inputs: has no rows"),
        (pd.DataFrame([[1, 2]], columns=["year", "year"]), "inputs: has several columns called year"),
        ([{"year": [2007]}], "inputs: column year holds list, not numbers"),
        (PENGUIN | {"year": "soon"}, "inputs: row 1: year 'soon' is no number"),
        (PENGUIN | {"year": 1e300}, "inputs: year has a number that is infinite"),
        ({"year": 2007}, "inputs=dict: the run takes DataFrames, lists of dicts, and names of"),
        ([[1.0] * 8], "inputs=list: the run takes DataFrames"),
        (pd.Series([1.0]), "inputs=Series: the run takes DataFrames"),
        ([], "inputs=list: the run takes DataFrames"),
    ],
)
def test_a_table_in_memory_that_does_not_fit(project, table, problem):
    with pytest.raises(api.UserError, match=problem):
        api.load(project / "run").predict([table] if isinstance(table, dict) and len(table) > 1 else table)


def test_a_row_with_what_training_has_not_seen(copy, mlprun):
    head = "bill_length_mm,bill_depth_mm,flipper_length_mm,body_mass_g,year,island,sex,diet\n"
    (copy / "new.csv").write_text(head + "48.5,15.2,220,NA,2009,Atlantis,male,fish\n")
    result = mlprun("predict", "run", "new.csv")
    assert result.out.startswith("new.csv, row 1: ")
    assert result.err.splitlines() == [
        "note: new.csv: not used: diet",
        "note: row 1: island 'Atlantis' is no category of the training rows: encoded as zeros",
        "note: row 1: body_mass_g filled by data.impute=median",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("bill_length,sex\n1,male\n", "lacks 6 columns of the run: island, bill_length_mm"),
        ("bill_length,sex\n1,male\n", "bill_length_mm: did you mean 'bill_length'?"),
        (None, "sex 'male' is no number"),
    ],
)
def test_a_file_that_does_not_fit(copy, mlprun, content, problem):
    if content is None:
        content = (copy / "penguins.csv").read_text().replace(",male,2007", ",male,male", 1)
        problem = "row 1: year 'male' is no number"
    (copy / "new.csv").write_text(content)
    result = mlprun("predict", "run", "new.csv")
    assert (result.status, problem in result.err) == (1, True), result.err


def test_a_table_that_moved_is_found_and_one_that_changed_is_refused(copy, mlprun):
    score = mlprun("eval", "run").out
    assert "test/loss" in score
    (copy / "penguins.csv").rename(copy / "moved.csv")
    assert "there is no such file" in mlprun("eval", "run").err
    assert mlprun("eval", "run", "data.path=moved.csv").out == score
    assert mlprun("resume", "run", "epochs=5", "data.path=moved.csv").status == 0
    rows = (copy / "moved.csv").read_text()
    (copy / "changed.csv").write_text(rows.replace(",male,", ",female,", 60))
    result = mlprun("eval", "run", "data.path=changed.csv")
    assert (result.status, "the test split is not the one of the run" in result.err) == (1, True)
    (copy / "wider.csv").write_text(rows.replace("Torgersen", "Atlantis", 1))
    assert "has got other columns or categories since" in mlprun("eval", "run", "data.path=wider.csv").err


def test_it_is_reproduced_and_swept(copy, mlprun):
    assert "identical: " in mlprun("reproduce", "run").out
    result = mlprun("-m", *TRAIN, "data.drop=[],[year]", "debug=fast", "sweep.name=s")
    assert result.status == 0, result.err
    assert sorted(run.parent.name for run in copy.glob("outputs/sweeps/s/*/run.json"))


def test_a_checkpoint_holds_plain_values(project):
    state = torch.load(project / "run" / "checkpoints" / "best.pt", weights_only=True)
    assert [column["name"] for column in state["table"]["columns"]][:2] == ["island", "bill_length_mm"]
    assert state["table"]["target"]["categories"] == ["Adelie", "Chinstrap", "Gentoo"]
    assert state["normalizer"]["fill"].shape == (10,)


def test_a_quantity_in_parquet(mlprun, tmp_path):
    table = pd.read_csv(penguins(tmp_path)).dropna()
    table.to_parquet(tmp_path / "p.parquet")
    result = mlprun("data=csv", "data.path=p.parquet", "data.target=body_mass_g", "epochs=3", "hydra.run.dir=run")
    assert result.status == 0, result.err
    assert "regression" in result.out or "a quantity" in result.out
    assert "MSELoss" in result.out
    rows = predicted(mlprun, "p.parquet")
    assert rows[0]["true"] == [table["body_mass_g"].iloc[0]]
    assert 2000 < rows[0]["values"][0] < 7000  # in grams


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["data=csv"], "data.path=null: no file is named"),
        (["data=csv", "data.path=gone.csv", "data.target=x"], "data.path=gone.csv: there is no such file"),
        ([*TRAIN[:2]], "data.target=null: no column is named"),
        ([*TRAIN[:2], "data.target=speces"], "did you mean 'species'?"),
        ([*TRAIN[:3]], "missing are 19 values in 344 rows"),
        ([*TRAIN[:4], "data.drop=[seks]"], "data.drop=[seks]: penguins.csv has no column seks"),
        ([*TRAIN[:4], "data.impute=zero"], "data.impute=zero: not known; choose from: mean, median, most_frequent"),
        (["data.path=penguins.csv"], "data.path=penguins.csv: is for tables, and data=digits is none"),
        (["loss=by_task", "task=custom", "task._target_=x.y"], "there is none for data.task=custom"),
    ],
)
def test_what_is_refused_before_anything_is_written(mlprun, tmp_path, words, problem):
    penguins(tmp_path)
    result = mlprun(*words)
    assert result.status in (1, 2)
    assert problem in result.err
    assert not (tmp_path / "outputs").exists()


def test_a_table_has_no_transforms(mlprun, tmp_path):
    penguins(tmp_path)
    refused = mlprun(*TRAIN, "data.transforms.train=[RandAugment]")
    assert refused.status == 2
    assert "data.transforms.train=[torchvision.transforms.v2.RandAugment]: is for images" in refused.err
    assert "and these are columns of a table\n" in refused.err
