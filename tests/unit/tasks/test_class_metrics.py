"""Metrics of classes and labels equal scikit-learn's and torchmetrics', however the split is cut into batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn import metrics as sklearn
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torchmetrics.functional.classification import multiclass_calibration_error

from mlprun.data.nested import Batch
from mlprun.errors import ConfigError
from mlprun.tasks.base import Task
from mlprun.tasks.class_metrics import AUROC, AveragePrecision, CalibrationError, FBeta, Precision, Recall
from mlprun.tasks.custom import Custom
from mlprun.tasks.metrics import BalancedAccuracy, Evaluation, TopAccuracy, Undefined
from mlprun.tasks.tokens import IGNORED
from tests.helpers.tasks import Given, make_task

CUTS = [[200], [64, 64, 64, 8], [1, 199]]  # the batches of 200 examples
AVERAGES = ["macro", "micro", "weighted"]


def examples(count: int, kind: str = "classes", seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits with ties that are better than guessing, and unbalanced classes or labels."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "labels":
        targets = (torch.rand(200, count, generator=generator) < torch.linspace(0.1, 0.6, count)).float()
        signs = 2 * targets - 1
    else:
        weights = torch.arange(1.0, max(count, 2) + 1)
        targets = torch.multinomial(weights, 200, replacement=True, generator=generator)
        signs = 2 * targets[:, None] - 1 if count == 1 else F.one_hot(targets, count)
    logits = torch.randn(200, count, generator=generator) + signs
    logits[100:150] = logits[:50]
    return logits, targets


def value_of(metric, outputs, targets, cut=(200,), task: Task | None = None):
    """As an evaluation computes it."""
    metric.set_task(task or make_task(nn.CrossEntropyLoss(), "classification", outputs.shape[1]))
    for batch in zip(outputs.split(list(cut)), targets.split(list(cut)), strict=True):
        metric.update(*batch)
    return metric.compute()


def softmax(logits):
    return logits.double().softmax(1).numpy()


@pytest.mark.parametrize("cut", CUTS, ids=len)
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("count", [2, 5])
def test_counts_of_classes(count, average, cut):
    logits, targets = examples(count)
    targets[targets == count - 1] = 0  # this class is only predicted
    guess = logits.argmax(1)
    for metric, score, more in [
        (FBeta(2.0, average), sklearn.fbeta_score, {"beta": 2.0}),
        (FBeta(average=average), sklearn.f1_score, {}),
        (Precision(average), sklearn.precision_score, {}),
        (Recall(average), sklearn.recall_score, {}),
    ]:
        expected = score(targets, guess, average=average, zero_division=0, **more)
        assert value_of(metric, logits, targets, cut) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_counts_of_labels(average):
    logits, targets = examples(4, "labels")
    task = make_task(nn.BCEWithLogitsLoss(), "multi_label", 4)
    expected = sklearn.fbeta_score(targets, logits > 0, beta=0.5, average=average)
    assert value_of(FBeta(0.5, average), logits, targets, CUTS[1], task) == pytest.approx(expected, abs=1e-12)


def test_class_one_of_two():
    for count, criterion in ((1, nn.BCEWithLogitsLoss()), (2, nn.CrossEntropyLoss())):
        logits, targets = examples(count)
        guess = logits.argmax(1) if count == 2 else (logits[:, 0] > 0).long()
        task = make_task(criterion, "classification", count)
        assert value_of(FBeta(average="binary"), logits, targets, task=task) == sklearn.f1_score(targets, guess)


@pytest.mark.parametrize("cut", CUTS, ids=len)
@pytest.mark.parametrize("count", [2, 5])
def test_rankings_of_classes(count, cut):
    """Of the softmax, whose order is not that of the logits."""
    logits, targets = examples(count)
    scores, one_hot = (softmax(logits), F.one_hot(targets)) if count > 2 else (softmax(logits)[:, 1], targets)
    auroc = sklearn.roc_auc_score(targets, scores, multi_class="ovr", average="macro")
    precision = sklearn.average_precision_score(one_hot, scores, average="macro")
    assert value_of(AUROC(), logits, targets, cut) == pytest.approx(auroc, abs=1e-12)
    assert value_of(AveragePrecision(), logits, targets, cut) == pytest.approx(precision, abs=1e-12)


@pytest.mark.parametrize(
    ("metric", "score"), [(AUROC, sklearn.roc_auc_score), (AveragePrecision, sklearn.average_precision_score)]
)
def test_rankings_of_labels(metric, score):
    logits, targets = examples(4, "labels")
    task = make_task(nn.BCEWithLogitsLoss(), "multi_label", 4)
    assert value_of(metric(), logits, targets, CUTS[1], task) == pytest.approx(score(targets, logits), abs=1e-12)
    targets[:, 2] = 0  # the mean is over the others
    others = [0, 1, 3]
    assert value_of(metric(), logits, targets, task=task) == pytest.approx(score(targets[:, others], logits[:, others]))


@pytest.mark.parametrize("metric", [AUROC, AveragePrecision])
@pytest.mark.parametrize("scale", [1, 100])
def test_one_logit_and_two_outputs_rank_alike(metric, scale):
    """Also where the probability rounds to 1."""
    logits, targets = examples(1)
    logits = logits * scale
    one = make_task(nn.BCEWithLogitsLoss(), "classification", 1)
    expected = value_of(metric(), logits, targets, task=one)
    assert value_of(metric(), torch.cat([-logits / 2, logits / 2], 1), targets) == expected
    assert value_of(metric(), torch.cat([logits, logits], 1) * torch.tensor([0.0, 1.0]), targets) == expected
    three = torch.cat([0 * logits, logits, torch.full_like(logits, -1e4)], 1)  # the third has no target
    assert value_of(AUROC(), three, targets) == value_of(AUROC(), logits, targets, task=one)


def test_outputs_that_stand_alone_are_ranked_as_they_are():
    logits, targets = examples(3)
    task = make_task(nn.BCEWithLogitsLoss(), "classification", 3, one_hot=True)
    expected = np.mean([sklearn.roc_auc_score(targets == k, logits[:, k]) for k in range(3)])
    assert value_of(AUROC(), logits, targets, task=task) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("cut", CUTS, ids=len)
@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_error(bins, cut):
    """Equation 3 of Guo et al. (2017) as it stands there; torchmetrics computes in float32."""
    logits, targets = examples(5)
    confidence, correct = softmax(logits).max(1), (logits.argmax(1) == targets).numpy()
    expected = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            expected += inside.mean() * abs(correct[inside].mean() - confidence[inside].mean())
    found = value_of(CalibrationError(bins), logits, targets, cut)
    assert found == pytest.approx(expected, abs=1e-12)
    theirs = multiclass_calibration_error(torch.from_numpy(softmax(logits)), targets, 5, n_bins=bins)
    assert found == pytest.approx(theirs.item(), abs=1e-6)


def test_calibration_of_one_logit_is_that_of_two_outputs():
    logits, targets = examples(1)
    one = value_of(CalibrationError(), logits, targets, task=make_task(nn.BCEWithLogitsLoss(), "classification", 1))
    assert one == pytest.approx(value_of(CalibrationError(), torch.cat([0 * logits, logits], 1), targets), abs=1e-12)


def test_top_k_accuracy():
    logits, targets = examples(5)
    logits += 1e-3 * torch.rand(200, 5, generator=torch.Generator().manual_seed(1))  # no ties
    metric = TopAccuracy(3)
    for batch in zip(logits.split(CUTS[1]), targets.split(CUTS[1]), strict=True):
        metric.update(*batch)
    assert metric.compute() == sklearn.top_k_accuracy_score(targets, logits, k=3)


def test_each_class_has_a_value_under_its_name():
    logits, targets = examples(3)
    targets[targets == 1] = 0
    task = make_task(nn.CrossEntropyLoss(), "classification", 3)
    task.known_classes = ["ant", "bee\n", "c/d"]
    values = value_of(Recall("none"), logits, targets, task=task)
    expected = sklearn.recall_score(targets, logits.argmax(1), average=None, labels=[0, 2])
    assert list(values) == ["ant", "bee\\n", "c/d"]
    assert isinstance(values["bee\\n"], Undefined)
    assert [values["ant"], values["c/d"]] == pytest.approx(list(expected), abs=1e-12)


def test_outputs_are_read_as_the_loss_means_them():
    """With loss=bce of probabilities one half is the limit, for every metric that predicts a class."""
    probabilities, targets = torch.tensor([[0.2], [0.4], [0.7], [0.9]]), torch.tensor([0, 1, 1, 0])
    task = make_task(nn.BCELoss(), "classification", 1)
    assert value_of(BalancedAccuracy(2), probabilities, targets, [4], task) == 0.5
    assert value_of(Recall(), probabilities, targets, [4], task) == 0.5
    assert value_of(CalibrationError(1), probabilities, targets, [4], task) == pytest.approx(abs(0.5 - 0.75))


def test_ignored_tokens_count_in_no_metric():
    logits, targets = examples(5)
    targets[::3] = IGNORED
    task = make_task(nn.CrossEntropyLoss(), "token_classification", 5)
    metrics = {"f": FBeta(), "ece": CalibrationError(), "top": TopAccuracy(2)}
    for metric in metrics.values():
        if hasattr(metric, "set_task"):
            metric.set_task(task)
    evaluation = Evaluation(task, metrics)
    for outputs, labels in zip(logits.view(20, 10, 5).split([16, 4]), targets.view(20, 10).split([16, 4]), strict=True):
        evaluation.update(task.eval_step(Given(), Batch(outputs, labels)))
    kept = targets != IGNORED
    expected = sklearn.f1_score(targets[kept], logits[kept].argmax(1), average="macro")
    values = evaluation.compute()
    assert values["f"] == pytest.approx(expected, abs=1e-12)
    assert values["ece"] == pytest.approx(value_of(CalibrationError(), logits[kept], targets[kept], [133]), abs=1e-12)


ALL = [AUROC, AveragePrecision, FBeta, Precision, Recall, CalibrationError]


@pytest.mark.parametrize("make", ALL)
def test_soft_labels_are_refused(make):
    logits, targets = examples(3)
    soft = F.one_hot(targets, 3) * 0.9 + 0.1 / 3
    with pytest.raises((ConfigError, ValueError), match=r"soft labels|one class for each example"):
        value_of(make(), logits, soft, task=Custom(lambda model, batch: {}))


@pytest.mark.parametrize("make", ALL)
def test_nothing_waits_for_the_device_before_compute(make):
    class NoWait(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            assert func.overloadpacket not in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero)
            return func(*args, **(kwargs or {}))

    metric = make()
    metric.set_task(make_task(nn.CrossEntropyLoss(), "classification", 3))
    logits, targets = examples(3)
    with NoWait():
        for batch in zip(logits.split(64), targets.split(64), strict=True):
            metric.update(*batch)


@pytest.mark.parametrize(("metric", "label"), [(AUROC, 0), (AUROC, 1), (AveragePrecision, 0)])
def test_a_metric_without_a_value_says_why_once_and_is_nan(metric, label, caplog):
    task = make_task(nn.CrossEntropyLoss(), "classification", 2)
    warned: set[str] = set()
    for _ in range(2):
        made = metric()
        made.set_task(task)
        evaluation = Evaluation(task, {"score": made}, warned)
        evaluation.update(task.eval_step(Given(), Batch(torch.randn(3, 2), torch.full((3,), label))))
        assert np.isnan(evaluation.compute()["score"])
        assert evaluation.undefined.keys() == {"score"}
    assert len(caplog.messages) == 1
    assert "metrics.score: " in caplog.messages[0]


def test_outputs_that_are_not_finite_have_no_rank():
    logits, targets = examples(2)
    logits[3] = torch.nan
    assert np.isnan(value_of(AUROC(), logits, targets))
    assert np.isnan(value_of(CalibrationError(), logits, targets))
