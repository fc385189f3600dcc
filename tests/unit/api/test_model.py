"""`mlprun.load`: the model of a run, and its predictions."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch
from sklearn.datasets import load_digits, load_iris

import mlprun as api
from mlprun.predict import finished
from mlprun.predict.predict import predict
from tests.helpers.lines import finish

LINES = {
    "digits": ("epochs=3", "data.limit=300", "model.dropout=0.5"),
    "iris": ("data=iris", "epochs=2"),
    "diabetes": ("data=diabetes", "epochs=2"),
    "reviews": ("data=reviews", "model=embedding_average", "steps=20", "eval_every=10 steps",
                "data.dataset.num_examples=200"),
    "two": ("data=moons", "loss=bce", "data.num_outputs=1", "epochs=1"),
}  # fmt: skip


@pytest.fixture(scope="module")
def run_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")

    def train(name: str):
        if not (folder / name).exists():
            finish(folder, *LINES[name], f"hydra.run.dir={name}")
        return folder / name

    return train


def test_inputs_go_through_the_evaluations_transforms(tmp_path):
    words = ["data.transforms.eval=[{_target_:CenterCrop,size:6}]", "data.input_shape=[1,6,6]", "debug=fast"]
    finish(tmp_path, "data=digits", *words, "hydra.run.dir=run")
    loaded = finished.load(tmp_path / "run", data=True)
    stored = torch.from_numpy(load_digits().images)[:, None].to(torch.uint8)
    wanted = loaded.splits.test.inputs[:3]
    cropped = stored[:, :, 1:7, 1:7]
    chosen = torch.stack([stored[(cropped == each).flatten(1).all(1)][0] for each in wanted])
    told = predict(tmp_path / "run", indices=[range(3)])
    found = api.load(tmp_path / "run").predict(chosen)
    assert torch.allclose(found.outputs, torch.tensor([each.outputs for each in told.predictions]))


@pytest.mark.parametrize("name", LINES)
def test_predictions_are_those_of_the_command(run_of, name):
    if name == "reviews":
        inputs = ["a fine film", "dull , and never good"]
        told = predict(run_of(name), inputs)
    else:
        inputs = finished.load(run_of(name), data=True).splits.test.inputs[:5]
        told = predict(run_of(name), indices=[range(5)])
    model = api.load(run_of(name))
    assert not model.model.training
    found = model.predict(inputs)
    assert len(found) == len(inputs)
    assert torch.allclose(found.outputs, torch.tensor([each.outputs for each in told.predictions]))
    assert found.class_names == told.class_names
    if told.predictions[0].predicted is None:
        assert found.classes is found.probabilities is None
        assert found.names == []
        return
    assert found.classes.tolist() == [each.predicted for each in told.predictions]
    assert found.names == [told.class_names[each.predicted] for each in told.predictions]
    assert torch.allclose(found.probabilities, torch.tensor([each.probabilities for each in told.predictions]))


def test_arrays_lists_and_tables_are_the_same(run_of):
    model, rows = api.load(run_of("iris")), load_iris().data[:3]
    expected = model.predict(torch.tensor(rows)).outputs
    frame = pandas.DataFrame(rows)
    for given in (rows, rows.astype(np.float32), rows.tolist(), frame, [",".join(map(str, row)) for row in rows]):
        assert torch.equal(model.predict(given).outputs, expected)
    assert model.predict(rows[::-1]).outputs.flip(0).allclose(expected)  # a view with negative strides
    assert model.class_names == ["setosa", "versicolor", "virginica"]


def test_the_last_checkpoint_and_another_device(run_of):
    best, last = api.load(run_of("iris")), api.load(str(run_of("iris")), checkpoint="last", device=torch.device("cpu"))
    assert best.step <= last.step == 2 * 4
    assert last.device == torch.device("cpu") == next(last.model.parameters()).device
    assert best.config["optim"]["lr"] == 0.001


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ({"checkpoint": "newest"}, "choose from: best, last"),
        ({"device": "gpu"}, "not a device"),
        ({"device": "cuda:9"}, "is not available"),
    ],
)
def test_what_cannot_be_loaded(run_of, how, text):
    with pytest.raises(api.ConfigError, match=text):
        api.load(run_of("iris"), **how)


IMAGES = load_digits().images[:2][:, None]


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (IMAGES[0], r"inputs\[None\]"),
        (IMAGES[:, 0], r"the shape \(2, 8, 8\), not \(N, 1, 8, 8\)"),
        (IMAGES[:0], r"the shape \(0, 1, 8, 8\)"),
        (IMAGES / 16, "go from 0 to 1, and the images of the run from 0 to 16"),
        (IMAGES * 16, "go from 0 to 256"),
        (IMAGES - 8, "go from -8 to 8"),
        (np.stack([IMAGES[0], IMAGES[1] * np.nan]), r"inputs\[1\]: holds NaN"),
        (IMAGES + 0j, "complex"),
        (None, "no array of numbers, but NoneType"),
        ([["a", 1]], "no array of numbers, but list"),
        ("seven.png", "seven.png: there is no such file"),
    ],
)
def test_inputs_that_are_not_the_runs(run_of, inputs, text):
    with pytest.raises(api.DataError, match=text):
        api.load(run_of("digits")).predict(inputs)


def test_what_a_task_or_kind_of_input_does_not_take(run_of, tmp_path):
    with pytest.raises(api.ConfigError, match="the run takes texts"):
        api.load(run_of("reviews")).predict(torch.zeros(2, 5))
    finish(tmp_path, "data=python_docs", "model=lstm", "model.hidden_size=16", "debug=fast", "hydra.run.dir=language")
    with pytest.raises(api.RunError, match="mlprun predict continues its texts"):
        api.load(tmp_path / "language").predict("The")
