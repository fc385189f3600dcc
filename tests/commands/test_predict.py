"""`mlprun predict`: what is said of files, rows and test examples, and that it is what an evaluation sees."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mlprun.cli.predict import escaped
from mlprun.tasks.losses import NLL
from tests.helpers.files import save_image, write
from tests.helpers.runs import RUN, record_of
from tests.helpers.tasks import make_task


@pytest.fixture
def trained_here(mlprun, tmp_path):
    """A run whose line names files of the test: `trained_here("data=image_folder", "data.root=mine") -> Path`."""

    def train(*line: str):
        result = mlprun("debug=fast", *line, "hydra.run.dir=run")
        assert result.status == 0, result.err
        return tmp_path / "run"

    return train


def predicted(mlprun, *words: str) -> list[dict]:
    result = mlprun("predict", *words, "--json")
    assert result.status == 0, result.err
    return [json.loads(line) for line in result.out.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        ["data=digits"],
        ["data=digits", "loss=hinge"],
        ["data=iris", "loss=mse", "loss.one_hot=true"],
        ["data=moons", "data.num_outputs=1", "loss=bce"],
        ["data=moons", "data.num_outputs=1", "loss=mse"],
        ["data=digits", "trainer.precision=bf16", "model=cnn", "data.normalize=minmax"],
    ],
)
def test_predictions_of_the_test_part_are_those_of_the_evaluation(mlprun, trained, line):
    run = trained("debug=fast", *line, "data.limit_eval=8")
    metrics = record_of(run)["metrics"]
    count = sum(
        int(cell) for row in (run / "confusion_matrix.csv").read_text().splitlines()[1:] for cell in row.split(",")[1:]
    )
    shutil.rmtree(run / "predictions", ignore_errors=True)
    found = predicted(mlprun, str(run), "--index", *map(str, range(count)))
    right = sum(each["predicted"] == each["true"] for each in found)
    assert right / count == metrics["test/accuracy"]


def test_a_regression_tells_values(mlprun, trained):
    run = trained("debug=fast", "data=diabetes", "model=linear")
    found = predicted(mlprun, str(run), "--index", *map(str, range(64)))
    errors = [each["values"][0] - each["true"][0] for each in found]
    mse = sum(error * error for error in errors) / len(errors)
    assert mse == pytest.approx(record_of(run)["metrics"]["test/mse"], rel=1e-5)
    result = mlprun("predict", str(run), "--index", "3")
    assert result.out.startswith(f"test 3: {found[3]['values'][0]:.6g}  (true: {found[3]['true'][0]:.6g})")


def test_a_file_of_a_test_example_gives_what_its_index_gives(mlprun, trained, tmp_path):
    from mlprun.predict.finished import load

    run = trained("debug=fast", "data=digits")
    part = load(run, data=True).splits.test
    # digits have values 0 to 16: the file holds them as 0 to 255
    pixels = (part.inputs[5, 0].numpy().astype(float) / 16 * 255).round()
    (of_file,) = predicted(mlprun, str(run), save_image(tmp_path / "five.png", pixels))
    (of_index,) = predicted(mlprun, str(run), "--index", "5")
    assert of_file["predicted"] == of_index["predicted"]
    assert of_file["probabilities"] == pytest.approx(of_index["probabilities"], abs=1e-2)
    assert "true" not in of_file


@pytest.mark.parametrize("name", ["lazy", "stream"])
def test_data_that_is_not_in_memory_is_indexed_too(mlprun, trained_here, tmp_path, name):
    (tmp_path / "mine.py").write_text(
        "import torch\n"
        "from torch.utils.data import Dataset, IterableDataset\n"
        "def example(i):\n"
        "    return torch.tensor([float(i % 2), float(i)]), i % 2\n"
        "class lazy(Dataset):\n"
        "    def __len__(self): return 100\n"
        "    def __getitem__(self, i): return example(i)\n"
        "class stream(IterableDataset):\n"
        "    def __iter__(self): return map(example, range(100))\n"
    )
    run = trained_here(
        "data=custom", f"data.dataset._target_=mine.{name}", "data.input_shape=[2]", "data.num_outputs=2",
        "data.limit=60", "steps=6", "eval_every='3 steps'", "epochs=1", "data.normalize=none",
    )  # fmt: skip
    first, second = predicted(mlprun, str(run), "--index", "4", "1")
    again, _ = predicted(mlprun, str(run), "--index", "1", "4")
    assert again["probabilities"] == pytest.approx(second["probabilities"])
    assert {first["true"], second["true"]} <= {"0", "1"}
    result = mlprun("predict", str(run), "--index", "500")
    assert (result.status, "--index=500: the test part has " in result.err) == (2, True)


def test_rows_are_numbers_on_the_line_or_in_a_file(mlprun, trained, tmp_path):
    run = str(trained("debug=fast", "data=iris"))
    table = tmp_path / "rows.csv"
    table.write_text("sepal length,sepal width,petal length,petal width\n5.1,3.5,1.4,0.2\n\n-1.5, 2e-1,.5,1\n")
    of_file = predicted(mlprun, run, str(table))
    of_line = predicted(mlprun, run, "5.1,3.5,1.4,0.2", "-1.5,2e-1,.5,1")
    assert [each["input"] for each in of_file] == ["rows.csv, line 2", "rows.csv, line 4"]
    assert [each["input"] for each in of_line] == ["5.1,3.5,1.4,0.2", "-1.5,2e-1,.5,1"]
    assert [each["probabilities"] for each in of_file] == [each["probabilities"] for each in of_line]
    assert list(of_line[0]["probabilities"]) == ["setosa", "versicolor", "virginica"]
    assert sum(of_line[0]["probabilities"].values()) == pytest.approx(1)
    assert not (tmp_path / "run" / "predictions").exists(), "rows have no picture"


def test_a_file_needs_no_data_set(mlprun, trained_here, tmp_path):
    (tmp_path / "gone").mkdir()
    classes = {"cat": 40, "dog": 200}
    for name, value in classes.items():
        (tmp_path / "gone" / name).mkdir()
        for i in range(20):
            save_image(tmp_path / "gone" / name / f"{i}.png", np.full((8, 8), value + i))
    run = trained_here(
        "data=image_folder", "data.root=gone", "data.num_outputs=2", "data.input_shape=[1,8,8]",
        "optim.lr=0.1", "epochs=8",
    )  # fmt: skip
    shutil.rmtree(tmp_path / "gone")
    found = predicted(
        mlprun, str(run), *(save_image(tmp_path / f"{n}.png", np.full((8, 8), v)) for n, v in classes.items())
    )
    assert [each["predicted"] for each in found] == ["cat", "dog"]


def test_a_folder_stands_for_the_images_in_it(mlprun, trained, tmp_path):
    run = trained("debug=fast", "data=digits")
    write(tmp_path, {"photos/notes.md": b"", "photos/.DS_Store": b"", "photos/deep/x": b""})
    for name in ("photos/b.png", "photos/a.JPG", "photos/deep/c.png", "single.png"):
        save_image(tmp_path / name, np.zeros((8, 8)))
    result = mlprun("predict", str(run), "photos", "single.png", "--json")
    names = [json.loads(line)["input"] for line in result.out.splitlines()]
    assert names == ["photos/a.JPG", "photos/b.png", "photos/deep/c.png", "single.png"]
    assert result.err.count("note: photos: 2 other files not read: photos/deep/x, photos/notes.md\n") == 1


def test_a_run_knows_the_border_of_its_images(mlprun, trained, tmp_path):
    run = str(trained("debug=fast", "data=digits", "data.normalize=minmax"))
    white, black = (save_image(tmp_path / f"{v}.png", np.full((16, 20), v)) for v in (255, 0))
    result = mlprun("predict", run, white, black)
    assert result.status == 0
    assert f"note: {white} is 20x16, resized to 8x8, center-cropped" in result.err
    assert f"warning: {white} looks inverted" in result.err
    assert "0.png looks inverted" not in mlprun("predict", run, black).err
    assert "looks inverted" not in mlprun("predict", run, white, "--invert").err


def test_a_data_set_of_ones_own_is_asked_for_black_and_white(mlprun, trained_here, tmp_path):
    (tmp_path / "own.py").write_text(
        "import torch\n"
        "class Bright(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 100\n"
        "    def __getitem__(self, i): return torch.full((1, 4, 4), 0.2 + 0.6 * (i % 2)), i % 2\n"
    )
    own = ["data=custom", "data.dataset._target_=own.Bright", "data.input_shape=[1,4,4]", "data.num_outputs=2"]
    run = str(trained_here(*own, "model=linear", "optim.lr=0.05", "epochs=10"))
    bright = save_image(tmp_path / "b.png", np.full((4, 4), 204))
    result = mlprun("predict", run, bright)
    assert (result.status, result.err.count("\n")) == (1, 2)
    assert "own.Bright, does not say what black and white are" in result.err
    assert predicted(mlprun, run, bright, "--range", "0,1")[0]["predicted"] == "1"


@pytest.mark.parametrize(
    ("criterion", "num_outputs", "one_hot", "expected"),
    [
        (nn.CrossEntropyLoss(), 3, False, [1 / 6, 2 / 6, 3 / 6]),
        (NLL(), 3, False, [1 / 6, 2 / 6, 3 / 6]),
        (nn.BCEWithLogitsLoss(), 3, True, [1 / 2, 2 / 3, 3 / 4]),
        (nn.MSELoss(), 3, True, None),
        (nn.MultiMarginLoss(), 3, False, None),
        (nn.BCEWithLogitsLoss(), 1, False, [1 / 2, 1 / 2]),
        (nn.MSELoss(), 1, False, None),
    ],
)
def test_probabilities_are_those_of_the_loss(criterion, num_outputs, one_hot, expected):
    logits = torch.tensor([[math.log(1), math.log(2), math.log(3)][:num_outputs]])
    found = make_task(criterion, "classification", num_outputs, one_hot).probabilities(logits)
    assert (found is None) == (expected is None)
    assert found is None or found[0].tolist() == pytest.approx(expected)


def test_scores_are_called_scores(mlprun, trained):
    run = str(trained("debug=fast", "data=iris", "loss=hinge"))
    lines = mlprun("predict", run, "5.1,3.5,1.4,0.2").out.splitlines()
    assert lines[0] == "the outputs are scores, not probabilities: the loss is Hinge"
    assert len(lines) == 5
    (found,) = predicted(mlprun, run, "5.1,3.5,1.4,0.2")
    assert "probabilities" not in found
    assert max(found["scores"], key=found["scores"].get) == found["predicted"]


def test_a_run_that_may_only_be_read_predicts_without_pictures(mlprun, trained, tmp_path, monkeypatch):
    run = trained("debug=fast", "data=digits")
    save_image(tmp_path / "x.png", np.zeros((8, 8)))

    def refuse(folder: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(folder))

    monkeypatch.setattr("mlprun.cli.predict.make_folder", refuse)
    result = mlprun("predict", "run", "x.png")
    assert result.status == 0
    assert result.out.startswith("x.png: ")
    assert "picture" not in result.out
    warning = f"warning: no pictures: run/predictions cannot be written: {os.strerror(errno.EROFS)}\n"
    assert result.err.count(warning) == 1
    result = mlprun("predict", "run", "x.png", "--json")
    assert (result.status, result.err) == (0, "")
    assert json.loads(result.out)["input"] == "x.png"
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert mlprun("predict", "run", "x.png", "--json").status == 0
    assert not (run / "predictions").exists()


def test_the_picture_and_the_lines(mlprun, trained, tmp_path):
    run = trained("debug=fast", "data=digits")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save_image(tmp_path / folder / "x.png", np.zeros((8, 8)))
    result = mlprun("predict", "run", "a/x.png", "b/x.png")
    first = result.out.splitlines()[:12]
    assert first[0].startswith("a/x.png: ")
    values = [float(line.split()[1]) for line in first[1:11]]
    assert values == sorted(values, reverse=True)
    assert first[11] == "  picture  run/predictions/x.png"
    assert "  picture  run/predictions/x_2.png" in result.out
    mlprun("predict", "run", "--index", "0")
    for name in ("x", "x_2", "test_0"):
        with Image.open(run / "predictions" / f"{name}.png") as image:
            assert image.size == (720, 360)


def test_of_many_classes_the_first_five_are_shown(mlprun, trained):
    run = str(
        trained(
            "debug=fast",
            "data=synthetic_classification",
            "data.num_outputs=12",
            "data.dataset.num_classes=12",
            "data.limit=null",
        )
    )
    lines = mlprun("predict", run, "--index", "0").out.splitlines()
    assert len(lines) == 1 + 5
    assert len(predicted(mlprun, run, "--index", "0")[0]["probabilities"]) == 12


@pytest.mark.parametrize(
    ("data", "words", "status", "said"),
    [
        ("iris", ["1,2,3"], 1, "1,2,3: has 3 numbers, and an example has 4\n  write 4 numbers with commas"),
        ("iris", ["5.1", "3.5"], 1, "5.1: has 1 number, and an example has 4"),
        ("iris", ["1,2,x,4"], 1, "1,2,x,4: 'x' is not a finite number"),
        ("iris", ["1,2,nan,4"], 1, "1,2,nan,4: 'nan' is not a finite number"),
        ("iris", ["flower"], 1, "flower: is neither a file nor numbers"),
        ("iris", ["missing.csv"], 1, "missing.csv: there is no such file"),
        ("iris", ["good.csv", "bad.csv"], 1, "bad.csv, line 3: has 2 numbers"),
        ("iris", ["header.csv"], 1, "header.csv: holds no row of numbers"),
        ("iris", ["--index", "30"], 2, "--index=30: the test part has 30 examples\n  choose 0 to 29"),
        ("iris", ["--index", "20-30"], 2, "--index=30: the test part has 30 examples\n  choose 0 to 29"),
        ("iris", ["--index", "7-3"], 2, "--index=7-3: ends before it begins\n  write --index 3-7"),
        ("iris", ["--index", "0-99999999999999999999"], 2, "--index=0-99999999999999999999: is more than 10,000,000"),
        ("iris", ["--index", "al"], 2, "--index=al: is neither a number nor a range\n"),
        ("iris", ["--index", "all", "3"], 2, "--index=all: is neither a number nor a range\n"),
        ("iris", ["--index", "-1"], 2, "--index=-1: the test part has 30 examples"),
        ("iris", [], 2, "predict: has nothing to predict\n  name images, audio, text, rows of numbers"),
        ("iris", ["1,2,3,4", "--index", "0"], 2, "predict: takes inputs or test examples, not both"),
        ("digits", ["missing.png"], 1, "missing.png: there is no such file"),
        ("digits", ["good.png", "bad.png"], 1, "bad.png: cannot be read as an image"),
        ("digits", ["empty"], 1, "empty: has no images in it\n  looked for .jpg .jpeg .png"),
        ("digits", ["good.png", "--range", "1,0"], 2, "--range=1,0: is not the values of black and white"),
    ],
)
def test_everything_is_checked_before_anything_is_predicted(mlprun, trained, tmp_path, data, words, status, said):
    run = trained("debug=fast", f"data={data}")
    write(tmp_path, {
        "good.csv": b"1,2,3,4\n", "bad.csv": b"1,2,3,4\n1,2,3,4\n1,2\n", "header.csv": b"a,b,c,d\n", "bad.png": b"no",
        "empty/notes.md": b"",
    })  # fmt: skip
    save_image(tmp_path / "good.png", np.zeros((8, 8)))
    result = mlprun("predict", str(run), *words)
    assert (result.status, result.out) == (status, "")
    assert result.err.startswith(f"error: {said}")
    assert not (run / "predictions").exists()


@pytest.mark.parametrize("word", ["-5e-1", "-.5", "-1", "-inf", "-1,2", "-1e3", "-NaN", "--5", "-x"])
def test_a_negative_number_is_a_value(word):
    assert escaped([word]) == [word if word in ("--5", "-x") else f" {word}"]


def test_ranges_and_all_of_the_test_part(mlprun, trained):
    trained("debug=fast", "data=iris")
    every = predicted(mlprun, RUN, "--index", "all")
    assert len(every) == 30
    assert predicted(mlprun, RUN, "--index", "0-29") == every
    assert predicted(mlprun, RUN, "--index", "7", "2-4", "29-29") == [every[i] for i in (7, 2, 3, 4, 29)]


def test_many_predictions_without_pictures(mlprun, trained):
    run = trained("debug=fast")
    for indices, number in ((["0-49", "0-49", "0"], 0), (["0-1"], 2)):
        result = mlprun("predict", RUN, "--index", *indices)
        assert (result.status, "no pictures of more than 100" in result.err) == (0, number == 0)
        assert len(list(run.glob("predictions/*.png"))) == number
