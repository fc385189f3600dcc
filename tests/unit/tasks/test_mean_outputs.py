"""The outputs that stand for the mean of several predictions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlprun.tasks.losses import NLL, Hinge
from tests.helpers.tasks import make_task

OUTPUTS = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0)) * 9


@pytest.mark.parametrize(
    ("criterion", "task", "num_outputs", "one_hot"),
    [
        (nn.CrossEntropyLoss(label_smoothing=0.1), "classification", 3, False),
        (NLL(), "classification", 3, False),
        (nn.BCEWithLogitsLoss(), "classification", 1, False),
        (nn.BCEWithLogitsLoss(), "classification", 3, True),
        (nn.BCELoss(), "classification", 1, False),
        (nn.BCEWithLogitsLoss(), "multi_label", 3, False),
    ],
)
def test_their_probabilities_are_the_means(criterion, task, num_outputs, one_hot):
    made, outputs = make_task(criterion, task, num_outputs, one_hot), OUTPUTS[:, :, :num_outputs]
    outputs = outputs.sigmoid() if isinstance(criterion, nn.BCELoss) else outputs
    mean = torch.stack([made.probabilities(each) for each in outputs]).mean(0)
    torch.testing.assert_close(made.probabilities(made.mean_outputs(outputs)), mean)


@pytest.mark.parametrize(
    ("criterion", "task", "one_hot"),
    [(nn.MSELoss(), "regression", False), (nn.MSELoss(), "classification", True), (Hinge(), "classification", False)],
)
def test_of_values_and_scores_they_are_the_means(criterion, task, one_hot):
    assert torch.equal(make_task(criterion, task, 3, one_hot).mean_outputs(OUTPUTS), OUTPUTS.mean(0))
