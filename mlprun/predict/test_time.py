"""Test-time augmentation: the mean prediction over random changes of an image, as in training (`eval --tta`)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset

from mlprun.config.schema import Config
from mlprun.data.batches import EvalBatches
from mlprun.data.source import Part, Source
from mlprun.data.splits import Splits
from mlprun.data.transforms import Transformed
from mlprun.data.views import ViewBatches, augmented
from mlprun.errors import ConfigError
from mlprun.job.build_data import build_eval_batches
from mlprun.job.build_transforms import build_transforms
from mlprun.tasks.supervised import Supervised
from mlprun.training.learner import Learner


class MeanOverViews(nn.Module):
    """Takes inputs (M, N, *input_shape), and gives the outputs (N, K) of the mean of M predictions."""

    def __init__(self, model: nn.Module, task: Supervised) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, views: Tensor) -> Tensor:
        return self.task.mean_outputs(torch.stack([self.model(view).float() for view in views]))


def views_of_test_split(
    config: Config, splits: Splits, learner: Learner, num_views: int
) -> tuple[EvalBatches, MeanOverViews]:
    """The test split under the augmentation of a run, and what gives the mean predictions for it.

    Raises:
        ConfigError: the run has no augmentation, or its predictions have no mean.
    """

    def refused(problem: str, remedy: str) -> ConfigError:
        return ConfigError("--tta", num_views, problem, remedy)

    if num_views < 1:
        raise refused("must be 1 or more", "it counts random draws of each image; 8 is usual")
    task, augment = learner.task, config.data.augment
    if not isinstance(task, Supervised) or task.values_per_token:
        raise refused(f"has no meaning for data.task={task.name}", "it is for one target per image; leave it out")
    if not (augment.crop or augment.flip or config.data.transforms.train):
        remedy = "leave it out; or train with data.augment.flip=true or data.augment.crop=…, if that suits the images"
        raise refused("averages over the augmentation of the training, and this run had none", remedy)
    if isinstance(splits.stored_test, IterableDataset):
        raise refused("draws by the index of an example, and the test split is a stream", "leave it out")
    part = _as_in_training(config, splits)
    if part is None:
        remedy = "leave it out; or give its class a method augmented(crop, flip)"
        raise refused("the data set has its own augmentation, which mlprun cannot apply to the test split", remedy)
    make = partial(ViewBatches, seed=config.seed, num_views=num_views, crop=augment.crop, flip=augment.flip)
    batches = build_eval_batches(config, part, splits, learner.device, task, make)
    return batches, MeanOverViews(learner.model, task)


def _as_in_training(config: Config, splits: Splits) -> Part | None:
    """The test split under `data.augment` and `data.transforms`; None if the data set cannot do the former."""
    part, augment = splits.stored_test, config.data.augment
    chains = build_transforms(config, Source(part, inputs=splits.inputs))
    if augment.crop or augment.flip:
        changed = augmented(part, augment.crop, augment.flip)
        if changed is None:
            return None
        part = changed
    chain = chains.train or chains.eval
    return part if chain is None else Transformed(part, chain)
