from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from mlprun.errors import ConfigError
from mlprun.tasks.losses import NLL, Hinge
from tests.helpers.files import REPOSITORY
from tests.helpers.tasks import make_task

YAMLS = sorted(file for file in (REPOSITORY / "conf" / "loss").glob("*.yaml") if file.stem not in ("custom", "by_task"))
LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, 3.0]])
CLASSES = torch.tensor([0, 1])


def log_probability(row: int) -> float:
    logits = LOGITS[row].tolist()
    return logits[int(CLASSES[row])] - math.log(sum(map(math.exp, logits)))


def sigmoid_loss(logit: float, target: float) -> float:
    p = 1 / (1 + math.exp(-logit))
    return -target * math.log(p) - (1 - target) * math.log(1 - p)


CROSS_ENTROPY = -(log_probability(0) + log_probability(1)) / 2
DIFFERENCES = [1.0, -1.0, 0.5, 0.0, 0.0, 3.0]  # LOGITS minus the one-hot rows


@pytest.mark.parametrize(
    ("criterion", "one_hot", "value"),
    [
        (nn.CrossEntropyLoss(), False, CROSS_ENTROPY),
        (nn.CrossEntropyLoss(), True, CROSS_ENTROPY),
        (NLL(), False, CROSS_ENTROPY),
        (NLL(reduction="sum"), False, 2 * CROSS_ENTROPY),
        (nn.MSELoss(), True, sum(d * d for d in DIFFERENCES) / 6),
        (nn.L1Loss(), True, sum(abs(d) for d in DIFFERENCES) / 6),
        (nn.SmoothL1Loss(beta=1.0), True, (0.5 + 0.5 + 0.125 + 2.5) / 6),
        (
            nn.BCEWithLogitsLoss(),
            True,
            sum(
                sigmoid_loss(logit, float(column == CLASSES[row]))
                for row, logits in enumerate(LOGITS.tolist())
                for column, logit in enumerate(logits)
            )
            / 6,
        ),
        # sum over the wrong classes of max(0, margin - right + wrong), over K = 3
        (nn.MultiMarginLoss(), False, (0 + 0 + 0 + 3) / 3 / 2),
        (nn.MultiMarginLoss(p=2), False, (0 + 0 + 0 + 9) / 3 / 2),
        (Hinge(), False, (0 + 0 + 0 + 3) / 3 / 2),
        (Hinge(p=2, margin=0), False, (0 + 0 + 0 + 4) / 3 / 2),
    ],
)
def test_values_on_classes(criterion: nn.Module, one_hot: bool, value: float) -> None:
    outputs = LOGITS.clone().requires_grad_()
    loss = make_task(criterion, "classification", 3, one_hot).loss(outputs, CLASSES)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(value, rel=1e-5)
    loss.backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    assert outputs.grad.abs().sum() > 0


@pytest.mark.parametrize("one_hot", [False, True])
def test_a_single_output_is_a_yes_no_question(one_hot: bool) -> None:
    outputs, targets = torch.tensor([[2.0], [-1.0]]), torch.tensor([1, 1])
    loss = make_task(nn.BCEWithLogitsLoss(), "classification", 1, one_hot).loss(outputs, targets)
    assert loss.item() == pytest.approx((sigmoid_loss(2, 1) + sigmoid_loss(-1, 1)) / 2)
    assert make_task(nn.MSELoss(), "classification", 1, one_hot).loss(outputs, targets).item() == (1 + 4) / 2


@pytest.mark.parametrize(
    ("criterion", "value"),
    [
        (Hinge(), (0 + 2 + 1.5) / 3),
        (Hinge(margin=0), (0 + 1 + 0.5) / 3),
        (Hinge(p=2), (0 + 4 + 2.25) / 3),
        (Hinge(reduction="sum"), 0 + 2 + 1.5),
        (Hinge(weight=torch.tensor([4.0, 1.0])), (0 + 2 + 4 * 1.5) / 3),
    ],
)
def test_hinge_of_a_single_output_wants_it_on_the_side_of_its_class(criterion: nn.Module, value: float) -> None:
    outputs, targets = torch.tensor([[2.0], [-1.0], [0.5]]), torch.tensor([1, 1, 0])
    task = make_task(criterion, "classification", 1, False)
    assert task.loss(outputs, targets).item() == pytest.approx(value)
    assert task.threshold == 0


@pytest.mark.parametrize(
    ("output", "label", "gradient"),
    [(2.0, 1, 0.0), (-2.0, 1, -1.0), (2.0, 0, 1.0), (-2.0, 0, 0.0), (0.0, 1, -1.0), (0.0, 0, 1.0)],
)
def test_with_margin_0_one_example_gives_the_perceptrons_rule(output: float, label: int, gradient: float) -> None:
    """An example on the wrong side, or on the boundary, moves the output by 1 towards its own; others by nothing."""
    outputs = torch.tensor([[output]], requires_grad=True)
    make_task(Hinge(margin=0), "classification", 1, False).loss(outputs, torch.tensor([label])).backward()
    assert outputs.grad is not None
    assert outputs.grad.item() == gradient


@pytest.mark.parametrize(
    ("criterion", "value"),
    [
        (nn.MSELoss(), (1 + 9) / 2),
        (nn.L1Loss(), (1 + 3) / 2),
        (nn.SmoothL1Loss(beta=2.0), (0.25 + 2) / 2),
        (nn.MSELoss(reduction="sum"), 10),
        (nn.HuberLoss(delta=1.0), (0.5 + 2.5) / 2),
    ],
)
def test_values_on_a_regression(criterion: nn.Module, value: float) -> None:
    outputs, targets = torch.tensor([[1.0], [2.0]]), torch.tensor([[2.0], [-1.0]])
    assert make_task(criterion, "regression", 1, False).loss(outputs, targets).item() == pytest.approx(value)


def test_regression_targets_are_never_broadcast() -> None:
    with pytest.raises(ConfigError, match=r"outputs have shape \(4, 1\), the targets \(4,\)"):
        make_task(nn.MSELoss(), "regression", 1, False).loss(torch.zeros(4, 1), torch.zeros(4))


def test_nll_of_log_probabilities_is_unchanged() -> None:
    task = make_task(NLL(), "classification", 3, False)
    torch.testing.assert_close(task.loss(LOGITS.log_softmax(1), CLASSES), task.loss(LOGITS, CLASSES))


@pytest.mark.parametrize("one_hot", [False, True])
def test_low_precision_outputs(one_hot: bool) -> None:
    criterion = nn.MSELoss() if one_hot else nn.CrossEntropyLoss()
    task = make_task(criterion, "classification", 3, one_hot)
    with torch.autocast("cpu", torch.bfloat16):
        assert task.loss(LOGITS.bfloat16(), CLASSES).item() == pytest.approx(
            task.loss(LOGITS, CLASSES).item(), rel=0.02
        )


@pytest.mark.parametrize(
    ("criterion", "task", "num_outputs", "one_hot", "key", "remedy"),
    [
        (nn.MSELoss(), "classification", 10, False, "loss", "loss.one_hot=true"),
        (nn.L1Loss(), "classification", 10, False, "loss", "loss.one_hot=true"),
        (nn.BCEWithLogitsLoss(), "classification", 10, False, "loss", "loss.one_hot=true"),
        (nn.CrossEntropyLoss(), "regression", 1, False, "loss", "loss=mse"),
        (NLL(), "regression", 1, False, "loss", "loss=mse"),
        (nn.MultiMarginLoss(), "regression", 1, False, "loss", "loss=mse"),
        (Hinge(), "regression", 1, False, "loss", "loss=mse"),
        (nn.MultiMarginLoss(), "classification", 1, False, "loss", "loss=bce"),
        (Hinge(), "classification", 10, True, "loss.one_hot", "leave it out"),
        (nn.BCEWithLogitsLoss(), "regression", 1, True, "loss.one_hot", "loss=mse"),
        (nn.CrossEntropyLoss(), "classification", 1, False, "loss", "loss=bce"),
        (nn.MultiMarginLoss(), "classification", 10, True, "loss.one_hot", "leave it out"),
        (nn.NLLLoss(), "classification", 10, False, "loss", "loss=nll"),
        (nn.MSELoss(reduction="none"), "regression", 1, False, "loss.reduction", "mean or sum"),
    ],
)
def test_misfits_name_the_remedy(
    criterion: nn.Module, task: str, num_outputs: int, one_hot: bool, key: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make_task(criterion, task, num_outputs, one_hot)
    assert caught.value.key == key
    assert remedy in caught.value.remedy


class Own(nn.MSELoss):
    """A user's criterion that takes class indices."""

    def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return (input.argmax(dim=1) - target).square().float().mean()


def test_a_users_criterion_is_left_alone() -> None:
    assert make_task(Own(), "classification", 3, False).loss(LOGITS, CLASSES).item() == 0.5
    assert make_task(nn.Identity(), "regression", 1, False).reduction == "mean"


def test_reduction_is_the_criterions() -> None:
    assert make_task(nn.MSELoss(), "regression", 1, False).reduction == "mean"
    assert make_task(nn.MSELoss(reduction="sum"), "regression", 1, False).reduction == "sum"


@pytest.mark.parametrize("path", YAMLS, ids=lambda p: p.stem)
@pytest.mark.parametrize("num_outputs", [1, 10])
def test_yaml_fits_classes_with_one_hot(path: Path, num_outputs: int) -> None:
    node: dict[str, Any] = yaml.safe_load(path.read_text())
    module, _, name = node.pop("_target_").rpartition(".")
    compares = "one_hot" in node
    node.pop("one_hot", None), node.pop("class_weights", None)
    criterion = getattr(importlib.import_module(module), name)(**node)
    if num_outputs == 1 and not compares and path.stem != "hinge":
        with pytest.raises(ConfigError, match="loss=bce"):
            make_task(criterion, "classification", 1, False)
        return
    outputs = torch.zeros(4, num_outputs, requires_grad=True)
    make_task(criterion, "classification", num_outputs, compares).loss(outputs, torch.tensor([0, 1, 1, 0])).backward()
    assert outputs.grad is not None
    assert outputs.grad.abs().sum() > 0


def test_bce_works_as_it_stands_on_classes() -> None:
    node = yaml.safe_load(next(p for p in YAMLS if p.stem == "bce").read_text())
    assert node["one_hot"] is True
