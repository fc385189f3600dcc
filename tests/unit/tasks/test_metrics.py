"""The metrics of a split equal scikit-learn's, however the split is cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch import nn
from torch.nn import functional as F

from mlprun.tasks import names as task_names
from mlprun.tasks.metrics import Evaluation, confusion_rows, predicted_classes
from tests.helpers.tasks import evaluate, make_task

CUTS = [[200], [64, 64, 64, 8], [1, 199], [1] * 200]  # the batches of 200 examples


def accumulated(outputs, targets, cut, task="classification", criterion=None) -> Evaluation:
    made = make_task(criterion or nn.CrossEntropyLoss(), task, outputs.shape[1])
    return evaluate(made, zip(outputs.split(cut), targets.split(cut), strict=True))


def classes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are better than guessing, and labels of which the last class is rare."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.randint(0, count, (200,), generator=generator)
    targets[targets == count - 1] *= torch.rand(int((targets == count - 1).sum()), generator=generator) < 0.3
    logits = torch.randn(200, count, generator=generator) + 1.5 * F.one_hot(targets, count)
    return logits, targets


@pytest.mark.parametrize("cut", CUTS, ids=len)
@pytest.mark.parametrize("count", [2, 3, 10, 25])
def test_classification(count, cut):
    logits, targets = classes(count)
    metrics = accumulated(logits, targets, cut)
    values = metrics.compute()
    guessed = logits.argmax(1)
    assert list(values) == task_names.names("classification", count)
    assert values["loss"] == pytest.approx(F.cross_entropy(logits.double(), targets).item(), rel=1e-6)
    assert values["accuracy"] == sklearn.accuracy_score(targets, guessed)
    assert values["macro_f1"] == pytest.approx(sklearn.f1_score(targets, guessed, average="macro"), rel=1e-12)
    expected = sklearn.confusion_matrix(targets, guessed, labels=range(count))
    assert np.array_equal(metrics.confusion.numpy(), expected)
    if count >= task_names.TOP5_FROM:
        top5 = sklearn.top_k_accuracy_score(targets, logits, k=5, labels=range(count))
        assert values["top5_accuracy"] == top5


def test_macro_f1_is_over_the_classes_that_occur():
    """As scikit-learn's: a class that is neither there nor guessed does not count as 0."""
    logits, targets = torch.eye(5)[[0, 1, 1, 2]], torch.tensor([0, 1, 2, 2])
    metrics = accumulated(logits, targets, [4])
    assert metrics.compute()["macro_f1"] == pytest.approx(sklearn.f1_score([0, 1, 2, 2], [0, 1, 1, 2], average="macro"))
    assert metrics.confusion.shape == (5, 5)


@pytest.mark.parametrize("cut", CUTS, ids=len)
def test_one_logit_decides_between_two_classes(cut):
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 2, (200,), generator=generator)
    logits = torch.randn(200, 1, generator=generator) + targets[:, None] - 0.5

    metrics = accumulated(logits, targets, cut, criterion=nn.BCEWithLogitsLoss())
    values, guessed = metrics.compute(), (logits[:, 0] > 0).long()
    assert torch.equal(predicted_classes(logits), guessed)
    assert values["accuracy"] == sklearn.accuracy_score(targets, guessed)
    assert values["macro_f1"] == pytest.approx(sklearn.f1_score(targets, guessed, average="macro"))
    assert np.array_equal(metrics.confusion.numpy(), sklearn.confusion_matrix(targets, guessed))


@pytest.mark.parametrize("cut", CUTS[:3], ids=len)
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("offset", [0.0, 1e6], ids=["around 0", "around a million"])
def test_regression(width, cut, offset):
    generator = torch.Generator().manual_seed(0)
    targets = offset + torch.randn(200, width, generator=generator) * torch.arange(1, width + 1)
    outputs = targets + 0.3 * torch.randn(200, width, generator=generator)
    values = accumulated(outputs, targets, cut, "regression", nn.MSELoss()).compute()
    assert list(values) == task_names.names("regression", width)
    exact = targets.double(), outputs.double()
    assert values["mse"] == pytest.approx(sklearn.mean_squared_error(*exact), rel=1e-9)
    assert values["loss"] == pytest.approx(values["mse"], rel=1e-5)
    assert values["mae"] == pytest.approx(sklearn.mean_absolute_error(*exact), rel=1e-9)
    assert values["r2"] == pytest.approx(sklearn.r2_score(*exact), rel=1e-9)


@pytest.mark.parametrize(("outputs", "r2"), [([5.0, 5.0, 5.0], 1.0), ([5.0, 5.0, 6.0], 0.0)])
def test_r2_of_constant_targets(outputs, r2):
    """Nothing to explain: 1 if it was hit exactly, else 0, as scikit-learn's."""
    targets = torch.full((3, 1), 5.0)
    values = accumulated(torch.tensor(outputs)[:, None], targets, [3], "regression", nn.MSELoss()).compute()
    assert values["r2"] == r2 == sklearn.r2_score(targets, outputs)


def test_an_uneven_last_batch_weighs_what_it_holds():
    """Three examples with loss 1 and one with loss 5: the mean is 2, not the 3 of averaged batches."""
    outputs, targets = torch.zeros(4, 1), torch.tensor([[1.0], [1.0], [1.0], [5.0]])
    assert accumulated(outputs, targets, [3, 1], "regression", nn.L1Loss()).compute()["loss"] == 2.0


def test_a_loss_that_sums_is_averaged_by_example_too():
    logits, targets = classes(3)
    values = accumulated(logits, targets, [150, 50], criterion=nn.CrossEntropyLoss(reduction="sum")).compute()
    assert values["loss"] == pytest.approx(F.cross_entropy(logits, targets).item(), rel=1e-6)


def test_a_loss_that_is_not_finite_shows():
    logits, targets = classes(3)
    logits[170] = torch.nan
    assert np.isnan(accumulated(logits, targets, [150, 50]).compute()["loss"])


def test_nothing_to_average():
    with pytest.raises(ValueError, match="no targets"):
        evaluate(make_task(nn.CrossEntropyLoss(), "classification", 3), []).compute()


def test_confusion_rows():
    assert confusion_rows(torch.tensor([[3, 1], [0, 2]]), ["ant", "bee"]) == [
        ["true \\ predicted", "ant", "bee"],
        ["ant", 3, 1],
        ["bee", 0, 2],
    ]
