"""The pictures and histograms that `logging` asks for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.data import Subset

from mlprun import randomness
from mlprun.config.instantiate import locate
from mlprun.config.schema import PICTURES, Config
from mlprun.data.batches import EvalBatches
from mlprun.data.nested import AnyBatch
from mlprun.data.parts import size
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.errors import ConfigError, UserError
from mlprun.training.learner import Learner
from mlprun.training.loop import Figures, nothing

PROBE_EXAMPLES, PROBE_OUTPUTS = 256, 2**24  # for histograms; 64 MiB of outputs where each token has some


def picture_functions(config: Config) -> dict[str, Callable[[Learner, Splits], Any]]:
    """Tag -> function of each of `logging.pictures`.

    Raises:
        ConfigError: there is none of that name.
    """
    if not config.logging.pictures:
        return {}
    found: dict[str, Callable[[Learner, Splits], Any]] = {}
    for name in config.logging.pictures:
        tag = f"pictures/{name.rpartition('.')[2]}"
        if tag in found:
            raise ConfigError("logging.pictures", name, f"there are two that would be called {tag}", "rename one")
        found[tag] = locate(PICTURES.get(name, name), "logging.pictures")
    return found


def build_drawing(config: Config, the_learner: Learner, parts: Splits) -> Callable[[int], Figures]:
    """What draws, at a step, the pictures and histograms that the config asks for, and changes nothing by it."""
    functions = picture_functions(config)
    if not functions and not config.logging.histograms:
        return nothing
    examples = _probe_batch(config, parts, the_learner) if config.logging.histograms else None

    def draw(step: int) -> Figures:
        from mlprun.pictures.figures import to_pixels

        values: dict[str, float] = {}
        histograms: dict[str, Any] = {}
        if examples is not None:
            from mlprun.training.histograms import probe

            values, histograms = probe(the_learner, examples, parts.padding)
        images = {}
        for tag, function in functions.items():
            try:
                with randomness.preserved():
                    randomness.seed_all(
                        config.seed, "picture", step
                    )  # the same picture of a step, whatever came before
                    images[tag] = to_pixels(function(the_learner, parts), f"step {step}")
            except UserError:
                raise
            except Exception as error:
                error.add_note(f"in {tag} of logging.pictures; logging.pictures=[] goes on without, also on a resume")
                raise
        return Figures(values, images, histograms)

    return draw


def _probe_batch(config: Config, parts: Splits, learner: Learner) -> AnyBatch:
    """`PROBE_EXAMPLES` training examples, the same in every run on these data; of a stream the first.

    Fewer where each of their tokens has outputs, so that those are `PROBE_OUTPUTS` at most.
    """
    part, count, most = parts.train, size(parts.train), PROBE_EXAMPLES
    if width := learner.task.values_per_token:
        most = min(most, max(1, PROBE_OUTPUTS // (math.prod(config.data.input_shape or [1]) * width)))
    if count is not None:
        chosen = torch.randperm(count, generator=randomness.generator(0, "probe"))[:most]
        part = part[chosen] if isinstance(part, Examples) else Subset(part, chosen.tolist())
    with randomness.preserved():
        batches = EvalBatches(
            part,
            most,
            parts.normalizer,
            learner.device,
            targets=parts.target_normalizer,
            padding=parts.padding,
            perturb=parts.perturb,
            nested=parts.nested,
        )
        batch: AnyBatch = next(iter(batches))
        return batch
