"""A learner and its data, made as a run makes them, without running it."""

from __future__ import annotations

import torch

from mlprun import build, config
from mlprun.config import Composer


def built(*words):
    checked = config.check(Composer().compose([*words]))
    parts = build.splits(checked)
    batches = build.train_batches(checked, parts, torch.device("cpu"))
    plan = build.plan(checked, batches.steps_per_epoch)
    learner = build.learner(checked, build.model(checked), plan, torch.device("cpu"))
    return learner, next(batches.starting_at(0)), parts
