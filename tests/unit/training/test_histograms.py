"""`logging.histograms`: what is seen of a step that is taken back."""

from __future__ import annotations

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from mlprun import randomness
from mlprun.training.histograms import NUM_BINS, bins, probe
from tests.helpers.learners import built
from tests.helpers.runs import rows_of

IMAGES = ["data=digits", "epochs=2", "data.limit=200"]


def test_histograms_of_every_layer_and_parameter(mlprun):
    result = mlprun(*IMAGES, "logging.histograms=true")
    (run,) = result.runs
    read = EventAccumulator(str(run), size_guidance={"tensors": 0}).Reload()
    parameters = [f"{layer}.{kind}" for layer in ("hidden.0", "hidden.2", "output") for kind in ("weight", "bias")]
    wanted = {f"training_{what}/{name}" for what in ("weights", "gradients", "updates") for name in parameters}
    wanted |= {f"training_activations/{layer}" for layer in ("hidden.0", "hidden.1", "hidden.2", "hidden.3", "output")}
    assert wanted <= set(read.Tags()["tensors"])
    groups = {tag.partition("/")[0] for kind in ("scalars", "tensors") for tag in read.Tags()[kind]}
    assert {group for group in groups if not group.startswith(("run", "test", "training"))} == {
        "accuracy", "loss", "macro_f1"}  # fmt: skip
    evaluated = [0, *[row["step"] for row in rows_of(run) if "val/loss" in row]]
    assert [event.step for event in read.Tensors("training_weights/output.weight")] == evaluated
    start = rows_of(run)[0]
    assert start["step"] == 0
    assert {"gradient_norm/output.weight", "update_ratio/output.weight", "weight_norm/output.weight",
            "activation_norm/hidden.1", "dead_relus/hidden.1"} <= set(start)  # fmt: skip
    assert "val/loss" not in start


@pytest.mark.parametrize("optim", ["sgd", "momentum", "adam", "adamw", "rmsprop", "lbfgs", "muon", "adagrad", "nadam"])
def test_the_update_is_that_of_the_optimizer(optim):
    """What the probe calls an update is what the next step on these examples does to the weights."""
    learner, batch, _ = built(f"optim={optim}", "data=iris", "batch_size=all")
    found = probe(learner, batch)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    learner.train_step(batch, 0)
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
    learner.train_step(batch, 0)
    for state in learner.optimizer.state.values():
        state["mine"] = torch.tensor(1 / 3, dtype=torch.float64)
    before = [{k: v.clone() for k, v in state.items()} for state in learner.optimizer.state.values()]
    probe(learner, batch)
    for was, state in zip(before, learner.optimizer.state.values(), strict=True):
        assert all(torch.equal(was[name], state[name]) and was[name].dtype == state[name].dtype for name in was)
