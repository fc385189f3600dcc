"""The columns of TensorBoard's table: what was set, and what every run has."""

from __future__ import annotations

import pytest

from mlprun.job.hparams import hyperparameters

CONFIG = {
    "seed": 3, "batch_size": 32, "epochs": 10, "steps": None, "eval_every": "1 epoch", "monitor": "val/loss",
    "data": {"name": "digits", "root": "/mnt", "augment": {"crop": 0, "flip": True}, "dataset": {"_target_": "a.b"}},
    "model": {"_target_": "mlprun.models.mlp.MLP", "hidden": [128, 64], "dropout": 0.1},
    "optim": {"_target_": "torch.optim.Adam", "lr": 0.001, "eps": 1e-8},
    "scheduler": {"_target_": "mlprun.training.schedules.constant"},
}  # fmt: skip
ALWAYS = {"seed": 3, "batch_size": 32, "epochs": 10, "data.name": "digits", "model": "MLP", "optim": "Adam",
          "optim.lr": 0.001, "scheduler": "constant"}  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ([], {}),
        (["model=mlp", "optim.lr=0.001", "seed=3"], {}),  # of a group, the name alone
        (["model.dropout=0.1", "model.hidden=[128,64]"], {"model.dropout": 0.1, "model.hidden": "[128, 64]"}),
        (["+optim.eps=1e-8"], {"optim.eps": 1e-8}),
        (["data.augment={crop:0,flip:true}"], {"data.augment.crop": 0, "data.augment.flip": True}),
        (["data.root=/mnt/data"], {}),  # a path
        (["experiment=mine"], {"experiment": "mine"}),
        (["~writers.console", "monitor=val/loss"], {"monitor": "val/loss"}),
    ],
)
def test_the_columns_of_a_command_line(lines, more):
    assert hyperparameters(CONFIG, lines) == ALWAYS | more
