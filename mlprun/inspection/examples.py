"""The data: targets, and inputs before and after scaling."""

from __future__ import annotations

import torch

from mlprun import randomness
from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.data.nested import AnyBatch, Batch, NestedBatch, shapes
from mlprun.data.normalize import statistics
from mlprun.data.parts import known_targets
from mlprun.data.sequences import concat_batches
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.pictures.samples import NUM_SHOWN, unscaled
from mlprun.tasks.base import Task

NUM_VALUES = 20_000_000  # maximum number of input values for the statistics


def first_examples(batches: TrainBatches) -> AnyBatch:
    """At least `NUM_SHOWN` examples, the first of the run, as augmented and scaled as it gets them; on the CPU."""
    taken: list[Batch] = []
    with randomness.preserved():
        for batch in batches.starting_at(0):
            if isinstance(batch, NestedBatch):
                return batch.map(lambda tensor: tensor.cpu())
            taken.append(batch)
            if sum(len(each.targets) for each in taken) >= NUM_SHOWN or len(taken) == batches.steps_per_epoch:
                break
    return concat_batches(taken)


def data_lines(config: Config, splits: Splits, first: AnyBatch, task: Task) -> list[str]:
    """Targets and inputs of the training split in numbers, before and after scaling."""
    if isinstance(first, NestedBatch):
        return [f"the first batch   {shapes(first)}"]
    train, targets, known = splits.train, known_targets(splits.train), splits.class_names
    lines = ["targets of train  unknown without reading all examples"]
    if targets is not None:
        lines = task.target_lines(targets, first, known, redrawn=splits.perturb is not None)
    if own := splits.inputs.lines(train, first, config.batch_size, task.label(first.targets[0], known)):
        return lines + own
    if splits.describe is not None:
        lines = [*splits.describe(), *lines]
    scaled = first.inputs
    raw, of, kind = unscaled(splits, scaled), f"the first {len(scaled)} examples of train", ""
    if isinstance(train, Examples):
        many = max(1, NUM_VALUES // max(1, train.inputs[:1].numel()))
        chosen = torch.randperm(len(train), generator=randomness.generator(0, "inspect"))[:many].sort().values
        raw, of = train.inputs[chosen], f"{many:,} examples of train, drawn at random"
        if len(train) <= many:
            raw, of = train.inputs, "train"
        scaled, kind = splits.normalizer(raw), f"{str(raw.dtype).removeprefix('torch.')}, "
    after = f"{statistics(scaled)}  (data.normalize={config.data.normalize})"
    if scaled.dtype == raw.dtype and not raw.is_floating_point():
        after = "integers are not scaled"
    return [
        *lines,
        f"inputs as stored  {kind}{statistics(raw)}  (of {of})",
        f"inputs, scaled    {after}",
    ]
