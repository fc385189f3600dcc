"""What `trainer.mixup` and `trainer.cutmix` suit, and what they train on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.errors import ConfigError
from mlprun.job.prepare import prepare

HERE = __name__


class OfIndices(nn.CrossEntropyLoss):
    """A user's own."""

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return -outputs.log_softmax(1)[torch.arange(len(targets)), targets].mean()


def prepared(*words: str):
    return prepare(check(Composer().compose(["data.limit=64", "data.limit_eval=64", "trainer.mixup=0.5", *words])))


@pytest.mark.parametrize(
    "words",
    [["loss.label_smoothing=0.1", "loss.class_weights=balanced", "trainer.cutmix=1.0"],
     ["loss=bce", "loss.one_hot=true"],
     ["data=moons", "data.num_outputs=1", "loss=bce"],
     ["data=digits", "trainer.accumulate=4", "batch_size=60"]],
)  # fmt: skip
def test_a_step_with_mixed_examples(words):
    """Its loss is that of the shares, also in micro-batches; an evaluation has an accuracy, training has none."""
    experiment = prepared(*words, "model.dropout=0")
    learner, batches = experiment.build_learner(), experiment.batches.starting_at(0)
    for step, batch in zip(range(3), batches, strict=False):
        assert batch.targets.shape == (len(batch.targets), experiment.config.data.num_outputs)
        with torch.no_grad():
            expected = learner.task.criterion(learner.model(batch.inputs), batch.targets)
        update = learner.train_step(batch, step)
        assert update.loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert "accuracy" not in update.sums
    assert "accuracy" in learner.evaluate(experiment.eval_batches(experiment.splits.val)).compute()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loss=nll"], "trainer.mixup=0.5: gives shares of classes as targets, and NLL takes class indices"),
        (["loss=hinge"], "Hinge takes class indices"),
        (["loss=custom", f"loss._target_={HERE}.OfIndices"], "(N, 10), which OfIndices does not take"),
        (["data=diabetes", "loss=mse"], "data.task=regression has other targets"),
        (["data=wine", "trainer.cutmix=1.0"], "trainer.cutmix=1.0: pastes a box of an image"),
    ],
)
def test_what_has_no_shares_of_classes_is_refused(words, message):
    with pytest.raises(ConfigError) as caught:
        prepared(*words)
    assert message in str(caught.value)


def test_alpha_is_above_0():
    with pytest.raises(ConfigError, match=r"trainer\.mixup=0\.0: must be above 0"):
        prepared("trainer.mixup=0")
