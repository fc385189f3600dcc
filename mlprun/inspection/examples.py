"""The data: targets, inputs before and after scaling, texts, and a picture of the first examples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mlprun import randomness
from mlprun.config.schema import Config
from mlprun.data.batches import TrainBatches
from mlprun.data.nested import AnyBatch, Batch, NestedBatch, shapes
from mlprun.data.sequences import concat_batches, lengths
from mlprun.data.source import IGNORED, Examples
from mlprun.data.splits import Splits
from mlprun.data.text.tokenizer import PADDING, UNKNOWN, Tokenizer
from mlprun.formatting import pluralize, truncate
from mlprun.pictures.figures import images_figure, new_figure, palette
from mlprun.predict.inputs import shortened
from mlprun.tasks.base import Task
from mlprun.tasks.classification import Classification

NUM_SHOWN = 16  # examples in samples.png
NUM_POINTS = 2000  # in a scatter plot
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
        return [f"          the first batch   {shapes(first)}"]
    lines = []
    targets = _targets(splits.train)
    if targets is None:
        lines.append("          targets of train  unknown without reading all examples")
    elif task.values_per_token:
        amount = f"{int((targets != IGNORED).sum()):,} tokens"
        if splits.perturb is not None:
            share = float((first.targets != IGNORED).sum() / (first.inputs != PADDING).sum())
            amount = f"{share:.0%} of the tokens, others in every batch"
        lines.append(f"          targets of train  {amount}, each of {config.data.num_outputs:,} classes")
    elif isinstance(task, Classification):
        counts = torch.bincount(targets.flatten(), minlength=max(config.data.num_outputs, 2)).tolist()
        lines += _counts(counts, class_names(config, splits))
    else:
        lines.append(f"          targets of train  {_statistics(targets)}")
    if splits.tokenizer is not None:
        return [*lines, *_text_lines(config, splits, splits.tokenizer, first, task)]
    train = splits.train
    if isinstance(train, Examples):
        per_example = max(1, train.inputs[:1].numel())
        many = max(1, NUM_VALUES // per_example)
        chosen = torch.randperm(len(train), generator=randomness.generator(0, "inspect"))[:many].sort().values
        raw = train.inputs if len(train) <= many else train.inputs[chosen]
        scaled = splits.normalizer(raw)
        of = "train" if len(raw) == len(train) else f"{len(raw):,} examples of train, drawn at random"
    else:
        scaled = first.inputs
        raw = _unscaled(splits, scaled)
        of = f"the first {len(scaled)} examples of train"
    kind = str(raw.dtype).removeprefix("torch.")
    lines.append(f"          inputs as stored  {f'{kind}, ' if isinstance(train, Examples) else ''}{_statistics(raw)}")
    if scaled.dtype == raw.dtype and not raw.is_floating_point():
        lines.append("          inputs, scaled    integers are not scaled")
    else:
        lines.append(f"          inputs, scaled    {_statistics(scaled)}  (data.normalize={config.data.normalize})")
    lines[-2] += f"  (of {of})"
    return lines


def _text_lines(config: Config, splits: Splits, tokenizer: Tokenizer, first: Batch, task: Task) -> list[str]:
    text = config.data.text
    token_ids = splits.train.inputs if isinstance(splits.train, Examples) else first.inputs
    of = "train" if isinstance(splits.train, Examples) else f"the first {len(token_ids)} examples of train"
    sizes = lengths(token_ids, PADDING)
    kind = {"bpe": "byte pairs"}.get(text.tokens, text.tokens) + f", up to {text.ngrams} of them" * (text.ngrams > 1)
    unknown = int((token_ids == UNKNOWN).sum()) / int(sizes.sum())
    full = float((sizes == text.max_length).double().mean())
    ids = first.inputs[0, : int(lengths(first.inputs[:1], PADDING))].tolist()
    target = ""
    if isinstance(task, Classification):
        target = f"  -> {class_names(config, splits)[int(first.targets[0])]}"
    # `first` is padded to its longest text, a batch to its own
    size = len(first.inputs) if config.batch_size == "all" else config.batch_size
    batches = lengths(first.inputs, PADDING).split(size)
    cells = sum(len(batch) * int(batch.max()) for batch in batches)
    padding = 1 - sum(int(batch.sum()) for batch in batches) / cells
    return [
        f"          tokens            {kind}{', lower case' * text.lowercase}; {len(tokenizer):,} in the vocabulary"
        f" (of data.text.vocab_size={text.vocab_size}); {unknown:.2%} of {of} are unknown",
        f"          lengths           {int(sizes.min())} to {int(sizes.max())} tokens, median {int(sizes.median())};"
        f" {full:.1%} fill data.text.max_length={text.max_length} or are cut there  (of {of})",
        f"          padding           {padding:.1%} of the first batches' {cells:,} tokens",
        f"          the first text    {shortened(tokenizer.decode(ids))}{target}",
    ]


def _unscaled(splits: Splits, inputs: Tensor) -> Tensor:
    return splits.normalizer.inverse(inputs) if inputs.is_floating_point() else inputs


def _targets(split: Any) -> Tensor | None:
    """All targets of a split, if known without reading the examples."""
    if isinstance(split, Examples):
        return split.targets
    if isinstance(split, torch.utils.data.Subset):
        targets = _targets(split.dataset)
        return None if targets is None else targets[torch.as_tensor(split.indices)]
    targets = getattr(split, "targets", None)  # torchvision's convention
    return None if targets is None else torch.as_tensor(targets)


def _statistics(values: Tensor) -> str:
    total = squares = 0.0
    for chunk in values.split(4096):  # the float64 copy of a large set would not fit
        exact = chunk.double()
        total, squares = total + float(exact.sum()), squares + float(exact.square().sum())
    mean = total / values.numel()
    deviation = math.sqrt(max(0.0, squares / values.numel() - mean**2))
    mean = 0.0 if abs(mean) < 1e-5 * deviation else mean  # rounding
    low, high = float(values.min()), float(values.max())
    return f"{low:.4g} to {high:.4g}, mean {mean:.4g}, standard deviation {deviation:.4g}"


def class_names(config: Config, splits: Splits) -> list[str]:
    number = max(config.data.num_outputs, 2)
    return list(splits.class_names) if len(splits.class_names) == number else [str(i) for i in range(number)]


def _counts(counts: list[int], names: list[str]) -> list[str]:
    head = "          classes of train  "
    if len(counts) > 20:
        few, many = counts.index(min(counts)), counts.index(max(counts))
        return [f"{head}{counts[few]:,} ({names[few]}) to {counts[many]:,} ({names[many]}) examples each"]
    lines = [head]
    for name, count in zip(names, counts, strict=True):
        word = f"{name}: {count:,}  "
        if len(lines[-1]) + len(word) > 110:
            lines.append(" " * len(head))
        lines[-1] += word
    return [line.rstrip() for line in lines]


def samples_figure(config: Config, splits: Splits, first: AnyBatch, task: Task) -> Any:
    """A picture of some training examples as stored; None for data without one."""
    if isinstance(first, NestedBatch):
        return None
    inputs, targets = _unscaled(splits, first.inputs[:NUM_SHOWN]), first.targets[:NUM_SHOWN]
    if splits.target_normalizer is not None:
        targets = splits.target_normalizer.inverse(targets)
    names = class_names(config, splits)
    classifies = isinstance(task, Classification)
    if inputs.dim() == 2 and (inputs.shape[1] == 2 or (inputs.shape[1] == 1 and not classifies)):
        train, few = splits.train, Batch(inputs, targets)
        if isinstance(train, Examples):
            order = torch.randperm(len(train), generator=randomness.generator(0, "inspect"))[:NUM_POINTS]
            few = Batch(train.inputs[order], train.targets[order])
        if few.targets.dim() == 1 or few.targets.shape[1] == 1:
            title = f"{config.data.name}: {pluralize(len(few.targets), 'training example')}"
            points, values = few.inputs.numpy(), few.targets.flatten().numpy()
            return scatter_figure(points, values, names if classifies else None, title)
        return None
    if not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        return None
    if inputs.dim() == 4 and inputs.shape[1] in (1, 3):
        images = inputs[:, 0] if inputs.shape[1] == 1 else inputs.permute(0, 2, 3, 1)
    elif inputs.dim() == 3:
        images = inputs
    else:
        return None
    if classifies:
        captions = [names[int(label)] for label in targets]
    else:
        captions = [", ".join(f"{value:.3g}" for value in row) for row in targets.flatten(1).tolist()]
    low, high = float(images.min()), float(images.max())
    if isinstance(splits.train, Examples) and splits.train.inputs.dtype == torch.uint8 and high > 127:
        low, high = 0.0, 255.0
    title = f"{config.data.name}: the first training examples (seed={config.seed}), as stored: {low:.3g} to {high:.3g}"
    pixels = ((images - low) / ((high - low) or 1.0)).clamp(0, 1).numpy()
    return images_figure(title, list(pixels), [truncate(text, 22) for text in captions], cmap="gray", vmin=0, vmax=1)


def scatter_figure(inputs: Any, targets: Any, class_names: Sequence[str] | None, title: str) -> Any:
    """Two features coloured by class or value, or a value against one feature; `class_names` is None for a regression.

    `inputs` are (N, 2), or (N, 1) with values as targets; `targets` (N,) class indices or values.
    """
    figure, axes = new_figure(title)
    axes.grid(alpha=0.3)
    if inputs.shape[1] == 1:
        axes.scatter(inputs[:, 0], targets, s=12, alpha=0.7)
        axes.set(xlabel="feature 0, as stored", ylabel="target")
        return figure
    axes.set(xlabel="feature 0, as stored", ylabel="feature 1, as stored")
    if class_names is None:
        points = axes.scatter(inputs[:, 0], inputs[:, 1], c=targets, s=12, cmap="viridis")
        figure.colorbar(points, label="target")
        return figure
    for label, (name, colour) in enumerate(zip(class_names, palette(len(class_names)), strict=True)):
        members = inputs[targets == label]
        axes.scatter(members[:, 0], members[:, 1], s=12, alpha=0.7, label=name, color=colour)
    if len(class_names) <= 20:
        axes.legend(title="class", fontsize=8)
    return figure
