"""Tasks and metrics of the user's own: what they may be, and what is said of those that cannot work."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.errors import ConfigError
from mlprun.job.build_task import build_metrics, build_task
from mlprun.job.prepare import prepare
from mlprun.tasks.custom import Custom

CODE = """
import torch
from torch import nn
from torch.nn import functional as F

def plain(model, batch, factor=1.0):
    inputs, targets = batch
    return {"loss": factor * F.cross_entropy(model(inputs), targets), "size": float(len(targets))}

def vector(model, batch):
    return {"loss": F.cross_entropy(model(batch[0]), batch[1], reduction="none")}

def bare(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])

def without_loss(model, batch):
    return {"value": model(batch[0]).mean()}

def halved(model, batch):
    return {"loss": model(batch[0]).mean(), "num_targets": 1}

def mean_output(outputs, targets, shift=0.0):
    return outputs.mean() + shift

class PerClass:
    higher_is_better = True
    def update(self, outputs, targets): self.outputs = outputs
    def compute(self): return self.outputs.mean(0)
    def reset(self): pass

class Two(PerClass):
    higher_is_better = None
    def compute(self): return {"low": self.outputs.min(), "high": self.outputs.max()}

class NoReset:
    def update(self, outputs, targets): pass
    def compute(self): return 0.0

class Wide(PerClass):
    def update(self, outputs, targets): (outputs @ torch.ones(3))

class Called:
    def __init__(self, weight): self.weight = weight
    def __call__(self, model, batch): return plain(model, batch, self.weight)
"""
TASK = ["task=custom", "data.limit=64", "data.limit_eval=64"]


@pytest.fixture(autouse=True)
def users_module(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)  # another file's test may have left one
    yield
    sys.modules.pop("mine", None)


def config_of(*words: str):
    return check(Composer().compose(list(words)))


def test_a_function_with_its_arguments_is_a_task():
    task = build_task(config_of(*TASK, "task._target_=mine.plain", "+task.factor=2.0"))
    assert isinstance(task, Custom)
    twice = build_task(config_of(*TASK, "task._target_=mine.Called", "+task.weight=2.0"))
    model, batch = torch.nn.Linear(4, 3), (torch.randn(5, 4), torch.tensor([0, 1, 2, 0, 1]))
    assert task.function(model, batch) == twice.function(model, batch)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["task._target_=mine.bare"], r"task: gives Tensor.*return \{"),
        (["task._target_=mine.without_loss"], "task: gives a dict of value"),
        (["task._target_=mine.vector"], r"task: gives loss of shape \[2\].*loss.mean\(\)"),
        (["task._target_=mine.plain", "+task.factr=2"], "task.factr=2: mine.plain takes no argument.*factor"),
        (["task._target_=mine.halved", "trainer.accumulate=2"], "trainer.accumulate=2: cannot weight micro-batches"),
        (["task._target_=mine.plain", "monitor=val/size"], "monitor=val/size: .*unknown.*task.higher_is_better.size"),
        (["task._target_=mine.plain", "monitor=val/sise", "+task.higher_is_better.sise=true"], "val/loss, val/size"),
        (["task=model", "trainer.compile=true"], "trainer.compile=true: has no effect on a model's own training_step"),
        (["task._target_=mine.plain", "metrics=balanced_accuracy"], "metrics: data.task=custom gives them nothing"),
    ],
)  # fmt: skip
def test_a_task_that_cannot_work_is_refused_before_the_first_step(words, message):
    with pytest.raises(ConfigError) as caught:
        prepare(config_of(*TASK, *words))
    assert re.search(message, str(caught.value), re.DOTALL)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+metrics.accuracy._target_=mine.mean_output"], "metrics.accuracy=.*is already a metric of"),
        (["+metrics.mean._target_=mine.mean_output", "monitor=val/mean"], r"\+metrics.mean.higher_is_better=true"),
        (["+metrics.mean._target_=mine.mean_output", "+metrics.mean.higher_is_better=2"], "must be true or false"),
        (["+metrics.mean._target_=mine.mean_output", "+metrics.mean.shft=2"], "takes no argument of that name.*shift"),
        (["+metrics.mean=3"], "metrics.mean=3: needs a `_target_`"),
        (["+metrics.none._target_=mine.NoReset"], "metrics.none._target_=mine.NoReset: has no reset"),
        (["+metrics.wide._target_=mine.Wide"], r"metrics.wide: Wide does not take outputs of shape \[2, 10\]"),
        (["+metrics.mean._target_=mine.mean_output", "monitor=val/maen"], "did you mean 'val/mean'"),
        (["metrics=rmse"], "metrics.rmse: does not suit data.task=classification\n  it is for regression"),
        (["data=diabetes", "metrics=auroc"], "metrics.auroc: does not suit data.task=regression"),
        (["metrics=f_beta", "metrics.f_beta.average=mcro"], "metrics.f_beta.average=mcro: not known.*macro, micro"),
        (["metrics=f_beta", "metrics.f_beta.average=binary"], "metrics.f_beta.average=binary: there are 10 classes"),
        (["metrics=f_beta", "metrics.f_beta.beta=0"], "metrics.f_beta.beta=0: must be greater than 0"),
        (["metrics=calibration_error", "metrics.calibration_error.num_bins=0"], "num_bins=0: must be 1 or more"),
        (["metrics=calibration_error", "loss=hinge"], "metrics.calibration_error: needs probabilities"),
        (["metrics=top_k_accuracy", "metrics.top_k_accuracy.k=10"], "k=10: must be .* less than the 10 classes"),
        (["metrics=per_class_recall", "monitor=val/per_class_recall"], "is not logged.*val/per_class_recall/0, "),
        (["metrics=per_class_recall", "monitor=val/per_class_recall/x"], "is not logged.*val/per_class_recall/9"),
        (["metrics=auroc", "monitor=val/auroc/1"], "monitor=val/auroc/1: is not logged"),
        (["+metrics.two._target_=mine.Two", "monitor=val/two/low"], r"\+metrics.two.higher_is_better=true"),
        (["+metrics.two._target_=mine.Two", "+metrics.two.higher_is_better={low:1}"], "must be true or false"),
    ],
)  # fmt: skip
def test_a_metric_that_cannot_work_is_refused_before_the_first_step(words, message):
    with pytest.raises(ConfigError) as caught:
        prepare(config_of("data.limit=64", *words))
    assert re.search(message, str(caught.value), re.DOTALL)


def test_a_metric_of_several_numbers_says_how_to_make_them_one():
    experiment = prepare(config_of("data.limit=64", "data.limit_eval=64", "+metrics.each._target_=mine.PerClass"))
    with pytest.raises(ConfigError, match=r"metrics.each: gives shape \[10\], neither a number nor a"):
        experiment.build_learner().evaluate(experiment.eval_batches(experiment.splits.val)).compute()


def test_a_metric_may_give_several_values_each_with_its_direction():
    both = "+metrics.two.higher_is_better={low:false,high:true}"
    words = ["data.limit=64", "data.limit_eval=64", "+metrics.two._target_=mine.Two", both, "monitor=val/two/low"]
    experiment = prepare(config_of(*words))
    assert experiment.plan.mode == "min"
    assert experiment.higher_is_better["two/high"] is True
    values = experiment.build_learner().evaluate(experiment.eval_batches(experiment.splits.val)).compute()
    assert values["two/low"] < values["two/high"]


def test_metrics_keep_their_order_and_know_which_way_is_better():
    config = config_of("+metrics.mean._target_=mine.mean_output", "metrics=[calibration_error,balanced_accuracy]")
    metrics = build_metrics(config, build_task(config), torch.device("cpu"))
    assert list(metrics) == ["macro_f1", "calibration_error", "balanced_accuracy", "mean"]
    assert [metric.higher_is_better for metric in metrics.values()] == [True, False, True, None]


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], "the built-in one of data.task"),
        (["task=regression", "loss=mse"], "Regression"),
        (["data.task=regression", "loss=mse"], "Regression"),
        (["task=multi_label", "loss=bce"], "MultiLabel"),
        (["task=token_classification"], "TokenClassification"),
        (["task=language_modeling"], "LanguageModeling"),
        (["task=model"], "ModelStep"),
    ],
)
def test_a_task_is_chosen_by_its_name_or_by_the_data(words, status):
    made = type(build_task(config_of(*words))).__name__
    assert made == ("Classification" if not words else status)
