"""A learner and its data, made as a run makes them, without running it."""

from __future__ import annotations

import torch

from mlprun.config.checks import check
from mlprun.config.compose import Composer
from mlprun.job.build_data import build_splits, build_train_batches
from mlprun.job.build_learner import build_learner, build_model, build_plan


def built(*words):
    checked = check(Composer().compose([*words]))
    parts = build_splits(checked)
    batches = build_train_batches(checked, parts, torch.device("cpu"))
    plan = build_plan(checked, batches.steps_per_epoch)
    learner = build_learner(checked, build_model(checked), plan, torch.device("cpu"))
    return learner, next(batches.starting_at(0)), parts
