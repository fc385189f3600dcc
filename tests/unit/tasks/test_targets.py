"""What `inspect` shows of the targets."""

from __future__ import annotations

import torch
from torch import nn

from mlprun.data.nested import Batch
from tests.helpers.tasks import make_task


def test_many_classes_are_summed_up():
    task, targets = make_task(nn.CrossEntropyLoss(), "classification", 31), torch.arange(31).repeat(7)
    batch = Batch(torch.zeros(2, 1), targets[:2])
    names = [f"c{i}" for i in range(31)]
    (line,) = task.target_lines(torch.cat([targets, torch.tensor([30, 30])]), batch, names, redrawn=False)
    assert line == "classes of train  7 (c0) to 9 (c30) examples each"
