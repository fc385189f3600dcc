"""`logging.pictures`: what one looks at, without a trace in what is learnt."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mlprun.config.schema import PICTURES
from mlprun.pictures import images, plane, text
from tests.helpers.runs import rows_of, weights_of

PLANE = ["data=moons", "epochs=3"]
IMAGES = ["data=digits", "epochs=2", "data.limit=200"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("boundary", PLANE),
        ("boundary", ["data=moons", "data.num_outputs=1", "loss=bce", "epochs=2"]),
        ("fit", ["data=synthetic_regression", "data.dataset.num_features=1", "data.input_shape=[1]", "epochs=2"]),
        ("predictions", ["data=synthetic_regression", "epochs=2"]),
        ("filters", IMAGES),
        ("filters", [*IMAGES, "model=cnn"]),
        ("feature_maps", [*IMAGES, "model=cnn"]),
        ("misclassified", IMAGES),
    ],
)
def test_a_picture_at_the_start_and_after_each_evaluation(mlprun, name, words):
    result = mlprun(*words, f"logging.pictures=[{name}]")
    assert result.status == 0, result.err
    (run,) = result.runs
    steps = [0, *[row["step"] for row in rows_of(run) if "val/loss" in row]]
    files = sorted((run / "pictures").iterdir())
    assert [file.name for file in files] == [f"{name}_{step:07d}.png" for step in steps]
    shown = EventAccumulator(str(run), size_guidance={"images": 0}).Reload().Images(f"pictures/{name}")
    assert [event.step for event in shown] == steps
    for file in files:
        pixels = np.asarray(Image.open(file))
        assert pixels.shape[2] == 3
        assert pixels.std() > 10  # something is drawn
    assert files[0].read_bytes() != files[-1].read_bytes()  # and it changes while the model learns


def test_whoever_looks_changes_nothing(mlprun, tmp_path):
    """Dropout, batch norm and momentum: all that a forward pass or a step of a copy could disturb."""
    words = [*IMAGES, "model=cnn", "model.batch_norm=true", "model.dropout=0.3", "optim=momentum"]
    blind = ["hydra.run.dir=blind", *words]
    looked = ["hydra.run.dir=looked", *words, "logging.histograms=true", "logging.pictures=[filters,misclassified]"]
    assert mlprun(*blind).status == mlprun(*looked).status == 0
    first, second = weights_of(tmp_path / "blind"), weights_of(tmp_path / "looked")
    assert all(torch.equal(first[name], second[name]) for name in first)
    seen = {row["step"]: row for row in rows_of(tmp_path / "looked")}
    for row in rows_of(tmp_path / "blind"):
        assert row.items() <= seen[row["step"]].items()


OWN = """
import numpy as np

def grey(learner, splits):
    return np.full((4, 6, 3), learner.task.num_outputs, dtype=np.uint8)

def number(learner, splits):
    return 3
"""


def test_the_names_that_are_checked_before_torch_are_those_there_are():
    there = {
        f"{module.__name__}.{name}"
        for module in (images, plane, text)
        for name, function in vars(module).items()
        if inspect.isfunction(function)
        and function.__module__ == module.__name__
        and list(inspect.signature(function).parameters) == ["learner", "splits"]
        and not name.startswith("_")
    }
    assert set(PICTURES.values()) == there


def test_a_picture_that_fails_is_named_with_a_way_out(mlprun, tmp_path):
    (tmp_path / "my_pictures.py").write_text("def bad(learner, splits):\n    return 1 / 0\n")
    result = mlprun("debug=fast", "logging.pictures=[my_pictures.bad]")
    assert result.status == 1
    assert "ZeroDivisionError" in result.err
    assert "in pictures/bad of logging.pictures; logging.pictures=[] goes on without" in result.err
    assert mlprun("resume", str(result.runs[0]), "logging.pictures=[]").status == 0


def test_a_picture_of_ones_own(mlprun, tmp_path):
    (tmp_path / "my_pictures.py").write_text(OWN)
    result = mlprun("debug=fast", "logging.pictures=[my_pictures.grey]")
    (run,) = result.runs
    assert (np.asarray(Image.open(run / "pictures" / "grey_0000000.png")) == 10).all()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["logging.pictures=[boundry]"], "there is no picture 'boundry'; did you mean 'boundary'?"),
        (["logging.pictures=[boundary]"], "logging.pictures=boundary: shows classes as a function of two features"),
        (["logging.pictures=[fit]"], "logging.pictures=fit: shows one value as a function of one feature"),
        (["logging.pictures=[feature_maps]"], "it works with model=cnn"),
        (["logging.pictures=[predictions]"], "logging.pictures=predictions: compares predicted with true values"),
        (["data=iris", "logging.pictures=[filters]"], "first linear or convolutional layer over images"),
        (["data=iris", "logging.pictures=[misclassified]"], "shows images or texts with their classes"),
        (["logging.pictures=[my_pictures.number]"], "a picture function returned int"),
        (["logging.pictures=[my_pictures.nothing]"], "has no 'nothing'"),
        (["logging.pictures=boundary"], "logging.pictures=boundary"),
        (["logging.histograms=perhaps"], "logging.histograms=perhaps"),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_is_said_before_the_first_step(mlprun, tmp_path, words, said):
    (tmp_path / "my_pictures.py").write_text(OWN)
    result = mlprun(*words)
    assert result.status == 2
    assert said in result.err
    assert "Traceback" not in result.err
    assert not result.runs


def test_two_pictures_of_one_name_are_refused(mlprun, tmp_path):
    (tmp_path / "my_pictures.py").write_text("def fit(learner, splits):\n    return None\n")
    result = mlprun("logging.pictures=[fit,my_pictures.fit]")
    assert result.status == 2
    assert "there are two pictures called pictures/fit" in result.err
