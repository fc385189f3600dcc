"""Imported once for all processes of `lines.Line`: what a run needs, and a config composed (0.67 to 0.38 s a run)."""

from __future__ import annotations

import gc

import matplotlib.backends.backend_agg  # noqa: F401  imported for its effect

import mlprun.cli.main
import mlprun.data.tabular
import mlprun.job.train
import mlprun.models
import mlprun.pictures.confusion
import mlprun.pictures.images
import mlprun.sweep.scheduler
import mlprun.tasks.classification
import mlprun.writers.console
import mlprun.writers.image_files
import mlprun.writers.jsonl
import mlprun.writers.tensorboard  # noqa: F401  imported for its effect
import tests.helpers.composed
import tests.helpers.servers  # noqa: F401  imported for its effect
from mlprun.config.checks import check
from mlprun.config.compose import Composer

for choices in ([], ["debug=fast"]):
    check(Composer().compose(choices))
gc.freeze()
