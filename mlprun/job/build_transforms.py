"""From `data.transforms` to what is called with each input."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from mlprun.config.instantiate import bind
from mlprun.config.schema import Config
from mlprun.data.augment import augment
from mlprun.data.source import Examples, Inputs, Source
from mlprun.data.transforms import Chain, Transforms
from mlprun.errors import ConfigError

OF_BATCHES = {"MixUp": "trainer.mixup=0.2", "CutMix": "trainer.cutmix=1.0"}


def build_transforms(config: Config, source: Source) -> Transforms:
    """Both lists, for these data.

    Raises:
        ConfigError: the data have no inputs to transform, or a `_target_` is no transform.
    """
    lists = config.data.transforms
    for name, nodes in (("train", lists.train), ("eval", lists.eval)):
        why = (source.inputs or Inputs()).why_not_transform
        if config.data.input_shape is None:
            why = "examples of any structure (data.input_shape=null) have no input of a known place"
        if nodes and why:
            names = [node["_target_"] for node in nodes]
            raise ConfigError(f"data.transforms.{name}", names, why, "leave it out, or do it in the data set")
    train, evaluation = build_chain(config, "train"), build_chain(config, "eval")
    changes, chosen = config.data.augment, train or evaluation
    if chosen is not None and isinstance(source.train, Examples) and (changes.crop > 0 or changes.flip):
        before = partial(_crop_and_flip, crop=changes.crop, flip=changes.flip)
        train = Chain(chosen.key, chosen.steps, chosen.input_shape, before)
    return Transforms(train, evaluation)


def _crop_and_flip(image: Tensor, crop: int, flip: bool) -> Tensor:
    return augment(image[None], crop, flip, torch.default_generator)[0]


def build_chain(config: Config, name: str) -> Chain | None:
    """The list `data.transforms.NAME`; None if it is empty."""
    nodes: list[dict[str, Any]] = getattr(config.data.transforms, name)
    key = f"data.transforms.{name}"
    steps = []
    for index, node in enumerate(nodes):
        step, target = bind(node, f"{key}[{index}]", 1), node["_target_"]
        if type(step).__module__.startswith("torchvision.") and (instead := OF_BATCHES.get(type(step).__name__)):
            problem = "mixes the examples of a batch, and gets one example"
            raise ConfigError(f"{key}[{index}]", target, problem, f"leave it out, and write {instead}")
        steps.append((target, step))
    return Chain(key, steps, tuple(config.data.input_shape or ())) if steps else None
