"""Weights of classes in the loss: by the training split, by a list, by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import nn
from torch.utils.data import Dataset

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.config.identity import fingerprint
from mlprun.data.parts import known_targets
from mlprun.data.source import Examples
from mlprun.errors import ConfigError
from mlprun.job.build_data import build_splits
from mlprun.job.build_task import build_task
from mlprun.job.class_weights import class_weights, weight_lines

HERE = __name__
CLASSES = torch.tensor([0, 0, 0, 0, 0, 1, 1, 2])  # of eight examples
LABELS = torch.tensor([[1, 0], [1, 0], [1, 1], [0, 0]], dtype=torch.float32)


class Weighted(nn.CrossEntropyLoss):
    """A user's own."""


def config_of(*words: str):
    return check(Composer().compose([*words]))


@pytest.mark.parametrize(
    "words",
    [["data=wine"], ["data=wine", "data.limit=50", "loss=nll"], ["data=iris", "data.num_folds=3", "data.fold=1"],
     ["data=digits", "loss=hinge"], ["data=wine", "loss=custom", f"loss._target_={HERE}.Weighted"],
     ["data=moons", "data.num_outputs=1", "loss=hinge"]],
)  # fmt: skip
def test_balanced_is_scikit_learns_rule_on_the_training_split(words):
    own = "custom" in " ".join(words)
    config = config_of(*words, f"{'+' * own}loss.class_weights=balanced")
    splits = build_splits(config)
    labels = known_targets(splits.train).numpy()
    expected = compute_class_weight("balanced", classes=np.arange(max(config.data.num_outputs, 2)), y=labels)
    weights = class_weights(config, splits)
    assert weights == {"weight": pytest.approx(expected)}
    task = build_task(config, class_weights=weights)
    assert torch.equal(task.criterion.weight, torch.tensor(expected, dtype=torch.float32))
    assert len(weight_lines(config, splits, weights)) == 1


@pytest.mark.parametrize(
    ("words", "targets", "expected"),
    [
        (["data=iris", "loss.class_weights=[1,2,0]"], CLASSES, {"weight": [1, 2, 0]}),
        (["data=iris", "loss.class_weights={virginica:3,setosa:1,versicolor:2}"], CLASSES, {"weight": [1, 2, 3]}),
        (["data=iris", "loss=bce", "loss.class_weights=balanced"], CLASSES, {"pos_weight": [3 / 5, 6 / 2, 7]}),
        (["data=iris", "loss=bce", "loss.class_weights=[1,2,3]"], CLASSES, {"pos_weight": [1, 2, 3]}),
        (["data=moons", "data.num_outputs=1", "loss=bce", "loss.class_weights=balanced"], CLASSES.clamp(max=1),
         {"pos_weight": [5 / 3]}),
        (["data=moons", "data.num_outputs=1", "loss=bce", "loss.class_weights=[2,3]"], None, {"pos_weight": [1.5]}),
        (["data=iris", "data.task=multi_label", "loss=bce", "data.num_outputs=2", "loss.class_weights=balanced"],
         LABELS, {"pos_weight": [1 / 3, 3]}),
        (["data=iris", "data.task=token_classification", "loss.class_weights=balanced"],
         torch.tensor([[0, 1, 2, 2], [0, -100, -100, 0]]), {"weight": [6 / 9, 6 / 3, 6 / 6]}),
    ],
)  # fmt: skip
def test_weights_by_class(words, targets, expected):
    config = config_of(*words)
    splits = build_splits(config_of(*words[:1]))
    if targets is not None:
        part = replace(splits.expected, task=config.data.task, num_outputs=config.data.num_outputs)
        train = Examples(torch.zeros(len(targets), 4), targets)
        names = splits.class_names if config.data.task == "classification" else ()
        splits = replace(splits, train=train, expected=part, class_names=names)
    assert class_weights(config, splits) == {name: pytest.approx(values) for name, values in expected.items()}


def test_without_them_nothing_changes():
    plain, null = config_of("data=iris"), config_of("data=iris", "loss.class_weights=null")
    older = plain.to_dict()
    del older["loss"]["class_weights"]
    assert fingerprint(plain.to_dict()) == fingerprint(null.to_dict()) == fingerprint(older)
    assert fingerprint(config_of("data=iris", "loss.class_weights=balanced").to_dict()) != fingerprint(older)
    assert class_weights(null, None) is None
    assert weight_lines(null, None, None) == []


class Lazy(Dataset):
    """Its labels are unknown."""

    def __len__(self):
        return 50

    def __getitem__(self, index):
        return torch.zeros(4), index % 3


LAZY = ["data=iris", f"data.dataset._target_={HERE}.Lazy", "data.normalize=none"]
WEIGHTS = "loss.class_weights="


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([f"{WEIGHTS}balance"], "loss.class_weights=balance: is neither `balanced` nor a weight for each class"),
        ([f"{WEIGHTS}[1,2]"], "loss.class_weights=[1,2]: has 2 weights for 3 classes"),
        ([f"{WEIGHTS}[1,2,-1]"], "-1 is no weight"),
        ([f"{WEIGHTS}[1,2,true]"], "True is no weight"),
        ([f"{WEIGHTS}[0,0,0]"], "leaves no class that counts"),
        ([WEIGHTS + "{setosa:1,versicolor:1,virginia:1}"], "no class 'virginia'\n  did you mean 'virginica'?"),
        ([WEIGHTS + "{setosa:1,versicolor:1}"], "class virginica has no weight"),
        ([f"{WEIGHTS}balanced", "+loss.weight=[1,1,1]"], "sets loss.weight, which is given too"),
        (["loss=mse", "loss.one_hot=true", f"+{WEIGHTS}balanced"], "MSELoss takes no weights of classes"),
        (["data=diabetes", f"+{WEIGHTS}balanced"], "the targets of a regression are values"),
        (["task=custom", "task._target_=builtins.len", f"{WEIGHTS}balanced"], "has no effect on a task of your own"),
        (["data=moons", "data.num_outputs=1", "loss=bce", f"{WEIGHTS}[0,1]"], "class 0 needs a weight above 0"),
        ([*LAZY, f"{WEIGHTS}balanced"], "unknown until all examples are read\n  give the data set an attribute"),
        (["data=wine", "data.limit=2", f"{WEIGHTS}balanced"], "no training example is of class class_"),
    ],
)  # fmt: skip
def test_weights_that_cannot_be_are_refused(words, message):
    config = config_of(*(["data=iris"] if "data=" not in " ".join(words) else []), *words)
    with pytest.raises(ConfigError) as caught:
        class_weights(config, build_splits(config))
    assert message in str(caught.value)


def test_a_batch_of_soft_targets_is_divided_by_its_examples():
    task = build_task(config_of("data=iris"), class_weights={"weight": [1.0, 2.0, 3.0]})
    outputs, hard = torch.randn(4, 3), torch.tensor([0, 2, 1, 1])
    soft = torch.tensor([[0.5, 0.5, 0.0]]).repeat(4, 1)
    for targets, divisor in ((hard, 1.0 + 3.0 + 2.0 + 2.0), (soft, 4)):
        summed = nn.CrossEntropyLoss(task.criterion.weight, reduction="sum")(outputs, targets)
        assert float(task.weight_of(targets)) == divisor
        assert torch.allclose(task.criterion(outputs, targets), summed / divisor)
