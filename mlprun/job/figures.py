"""The pictures and histograms of `logging`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Subset

from mlprun import randomness
from mlprun.config.instantiate import locate
from mlprun.config.schema import PICTURES, Config
from mlprun.data.nested import AnyBatch
from mlprun.data.parts import size
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.errors import ConfigError, UserError
from mlprun.job.build_data import first_batch
from mlprun.training.learner import Learner
from mlprun.training.loop import Figures, nothing

PROBE_EXAMPLES, PROBE_OUTPUTS = 256, 2**24  # for histograms; 64 MiB of outputs per token


def picture_functions(config: Config) -> dict[str, Callable[[Learner, Splits], Any]]:
    """Tag -> function of each of `logging.pictures`.

    Raises:
        ConfigError: there is none of that name, or two have the same tag.
    """
    functions: dict[str, Callable[[Learner, Splits], Any]] = {}
    for name in config.logging.pictures:
        tag = f"pictures/{name.rpartition('.')[2]}"
        if tag in functions:
            raise ConfigError("logging.pictures", name, f"there are two pictures called {tag}", "rename one")
        functions[tag] = locate(PICTURES.get(name, name), "logging.pictures")
    return functions


def build_drawing(config: Config, learner: Learner, splits: Splits) -> Callable[[int], Figures]:
    """A function that draws the config's pictures and histograms at a step, without any effect on the training."""
    functions = picture_functions(config)
    if not functions and not config.logging.histograms:
        return nothing
    examples = _probe_batch(config, splits, learner) if config.logging.histograms else None

    def draw(step: int) -> Figures:
        from mlprun.pictures.figures import to_pixels

        values: dict[str, float] = {}
        histograms: dict[str, Any] = {}
        if examples is not None:
            from mlprun.training.histograms import probe

            values, histograms = probe(learner, examples, splits.inputs.padding)
        images = {}
        for tag, function in functions.items():
            try:
                with randomness.preserved(), learner.averaged():
                    randomness.seed_all(config.seed, "picture", step)  # a function of the step alone
                    images[tag] = to_pixels(function(learner, splits), f"step {step}")
            except UserError:
                raise
            except Exception as error:
                error.add_note(f"in {tag} of logging.pictures; logging.pictures=[] goes on without, also on a resume")
                raise
        return Figures(values, images, histograms)

    return draw


def _probe_batch(config: Config, splits: Splits, learner: Learner) -> AnyBatch:
    """`PROBE_EXAMPLES` training examples, the same in every run on these data; of a stream the first.

    Fewer if each token has outputs, so that there are at most `PROBE_OUTPUTS`.
    """
    part, count, most = splits.train, size(splits.train), PROBE_EXAMPLES
    if width := learner.task.values_per_token:
        most = min(most, max(1, PROBE_OUTPUTS // (math.prod(config.data.input_shape or [1]) * width)))
    if count is not None:
        chosen = torch.randperm(count, generator=randomness.generator(0, "probe"))[:most]
        part = part[chosen] if isinstance(part, Examples) else Subset(part, chosen.tolist())
    with randomness.preserved():
        return first_batch(splits, part, most, learner.device, padding=splits.inputs.padding)
