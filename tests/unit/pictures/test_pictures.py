"""`logging.pictures` and `logging.histograms`: what one looks at, without a trace in what is learnt."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mlprun import randomness
from mlprun.config.schema import PICTURES
from mlprun.pictures import images, plane, text
from mlprun.pictures.base import to_pixels
from mlprun.training.histograms import NUM_BINS, bins, probe
from tests.helpers.learners import built
from tests.helpers.runs import rows_of, weights_of

PLANE = ["data=moons", "epochs=3"]
IMAGES = ["data=digits", "epochs=2", "data.limit=200"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("boundary", PLANE),
        ("boundary", ["data=spirals", "epochs=2"]),
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


def test_histograms_of_every_layer_and_parameter(mlprun):
    result = mlprun(*IMAGES, "logging.histograms=true")
    (run,) = result.runs
    read = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    parameters = [f"{layer}.{kind}" for layer in ("hidden.0", "hidden.2", "output") for kind in ("weight", "bias")]
    wanted = {f"{what}/{name}" for what in ("weights", "gradients", "updates") for name in parameters}
    wanted |= {f"activations/{layer}" for layer in ("hidden.0", "hidden.1", "hidden.2", "hidden.3", "output")}
    assert wanted <= set(read.Tags()["tensors"])
    evaluated = [0, *[row["step"] for row in rows_of(run) if "val/loss" in row]]
    assert [event.step for event in read.Tensors("weights/output.weight")] == evaluated
    start = rows_of(run)[0]
    assert start["step"] == 0
    assert {"gradient_norm/output.weight", "update_ratio/output.weight", "weight_norm/output.weight",
            "activation_norm/hidden.1", "dead_relus/hidden.1"} <= set(start)  # fmt: skip
    assert "val/loss" not in start


OWN = """
import numpy as np

def grey(learner, splits):
    return np.full((4, 6, 3), learner.num_outputs, dtype=np.uint8)

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


def test_a_sweep_says_it_before_its_first_run(mlprun):
    result = mlprun("-m", "seed=0,1", "logging.pictures=[boundry]", "debug=fast")
    assert result.status == 2
    assert "did you mean 'boundary'?" in result.err
    assert not result.runs


# ------------------------------------------------------------------------------------------------ what a probe finds


@pytest.mark.parametrize("optim", ["sgd", "momentum", "adam", "adamw", "rmsprop", "lbfgs", "muon", "adagrad", "nadam"])
def test_the_update_is_that_of_the_optimizer(optim):
    """What the probe calls an update is what the next step on these examples does to the weights."""
    learner, batch, _ = built(f"optim={optim}", "data=iris", "batch_size=all")
    found = probe(learner, batch)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.update(batch, 0)
    for name, parameter in learner.model.named_parameters():
        moved = (parameter.detach() - before[name]).norm() / before[name].norm()
        assert found.values[f"update_ratio/{name}"] == pytest.approx(float(moved), rel=1e-5), name
        assert found.values[f"weight_norm/{name}"] == pytest.approx(float(before[name].norm()))


def test_the_gradients_are_those_of_the_batch():
    learner, batch, _ = built("data=iris", "batch_size=64")
    found = probe(learner, batch)
    assert all(p.grad is None for p in learner.model.parameters())
    loss = nn.functional.cross_entropy(learner.model(batch.inputs), batch.targets)
    for (name, _), gradient in zip(
        learner.model.named_parameters(), torch.autograd.grad(loss, list(learner.model.parameters())), strict=True
    ):
        assert found.values[f"gradient_norm/{name}"] == pytest.approx(float(gradient.norm()), rel=1e-5)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_dead_relus_are_counted(model):
    learner, batch, _ = built(f"model={model}", "data=digits")
    layer = next(m for m in learner.model.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    name = next(n for n, m in learner.model.named_modules() if isinstance(m, nn.ReLU))
    alive = probe(learner, batch).values[f"dead_relus/{name}"]
    with torch.no_grad():
        layer.weight[:5] = 0
        if layer.bias is not None:
            layer.bias[:5] = -1
    assert alive < 5
    assert probe(learner, batch).values[f"dead_relus/{name}"] >= 5


def test_a_probe_leaves_the_generators_as_they_were():
    learner, batch, _ = built("data=digits", "model.dropout=0.5")
    randomness.seed_all(0, "test")
    expected = torch.rand(3)
    randomness.seed_all(0, "test")
    probe(learner, batch)
    assert torch.equal(torch.rand(3), expected)


def test_the_bins_hold_every_finite_value():
    values = torch.tensor([1.0, 2.0, 2.0, 5.0, float("nan"), float("inf")])
    found = bins(values)
    assert found.shape == (NUM_BINS, 3)
    assert found[:, 2].sum() == 4
    assert (found[0, 0], found[-1, 1]) == (1.0, 5.0)
    assert len(bins(torch.tensor([float("nan")]))) == 0
    assert bins(torch.ones(7))[:, 2].sum() == 7


def test_a_figure_becomes_pixels():
    figure = Figure(figsize=(2, 1))
    figure.add_subplot()
    assert to_pixels(figure).shape == (100, 200, 3)


@pytest.mark.parametrize("values", [[1.0, 1.0 - 6e-8], [2e7] * 3, [-3e38, 3e38], [1e-45, 0.0]])
def test_bins_of_values_that_float32_cannot_part(values):
    assert bins(torch.tensor(values))[:, 2].sum() == len(values)


def test_a_probe_sees_all_examples_also_where_a_step_takes_them_in_parts():
    whole, parts = (
        probe(learner, batch)
        for learner, batch, _ in (built("data=digits", f"trainer.accumulate={n}", "batch_size=64") for n in (1, 8))
    )
    assert whole.values == pytest.approx(parts.values, rel=1e-5)


def test_the_state_of_an_optimizer_is_put_back_as_it_was(tmp_path, mlprun):
    """Also in float64, which `load_state_dict` would cast."""
    learner, batch, _ = built("data=iris", "batch_size=all")
    learner.update(batch, 0)
    for state in learner.optimizer.state.values():
        state["mine"] = torch.tensor(1 / 3, dtype=torch.float64)
    before = [{k: v.clone() for k, v in state.items()} for state in learner.optimizer.state.values()]
    probe(learner, batch)
    for was, state in zip(before, learner.optimizer.state.values(), strict=True):
        assert all(torch.equal(was[name], state[name]) and was[name].dtype == state[name].dtype for name in was)


def test_two_pictures_of_one_name_are_refused(mlprun, tmp_path):
    (tmp_path / "my_pictures.py").write_text("def fit(learner, splits):\n    return None\n")
    result = mlprun("logging.pictures=[fit,my_pictures.fit]")
    assert result.status == 2
    assert "there are two that would be called pictures/fit" in result.err
