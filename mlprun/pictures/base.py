"""Shared by the pictures of a training: a few examples and the model's outputs for them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

import torch
from matplotlib.figure import Figure
from torch import Tensor

from mlprun.data.batches import EvalBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.parts import size
from mlprun.data.source import Examples, Part
from mlprun.data.splits import Splits
from mlprun.data.text.inputs import TokenIds
from mlprun.errors import ConfigError
from mlprun.pictures.figures import Pixels, sheet
from mlprun.pictures.labels import figure_text
from mlprun.training.learner import Learner

MAX_POINTS = 2000
MAX_EXAMPLES = 4096  # of the validation split, to count or sort
MAX_LINES, LINES_OF_A_TEXT, LINE = 38, 4, 96  # of misclassified texts: lines in all, per text, characters per line
LAZY_EXAMPLES = 256  # read for each picture if the data is not in memory


class _Raw(NamedTuple):
    inputs: Tensor  # (N, *input_shape), as stored: not scaled
    targets: Tensor


def first_examples(part: Part, count: int) -> _Raw:
    """At most the first `count` examples of a split, on the CPU."""
    if isinstance(part, Examples):
        some = part[slice(0, count)]
        return _Raw(some.inputs.cpu(), some.targets.cpu())
    # As an evaluation reads them: the randomness of an example is a function of its index.
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    known = size(part)
    indices = None if known is None else range(min(count, known))
    inputs, targets, _ = next(iter(EvalBatches(part, count, identity, torch.device("cpu"), indices=indices)))
    return _Raw(inputs[:count], targets[:count])


def input_shape(splits: Splits) -> tuple[int, ...]:
    return tuple(first_examples(splits.val, 1).inputs.shape[1:])


def model_outputs(learner: Learner, splits: Splits, inputs: Tensor) -> Tensor:
    """Outputs for unscaled inputs, float32 on the CPU."""
    part = Examples(inputs, torch.zeros(len(inputs)))
    batches = EvalBatches(part, len(inputs), splits.normalizer, learner.device, padding=splits.inputs.padding)
    return torch.cat([learner.outputs(batch.inputs) for batch in batches]).float().cpu()


def token_ids(splits: Splits) -> TokenIds | None:
    """The kind of the inputs, if they are sequences of token ids."""
    is_sequence = len(input_shape(splits)) == 1
    return splits.inputs if is_sequence and isinstance(splits.inputs, TokenIds) else None


def texts_figure(title: str, count: int, captions: Sequence[str], texts: Sequence[str]) -> Figure:
    """Texts below their captions; as many of `count` as fit."""
    rows: list[tuple[str, bool]] = []
    num_shown = 0
    for caption, text in zip(captions, texts, strict=True):
        lines = textwrap.wrap(text, LINE, max_lines=LINES_OF_A_TEXT, placeholder=" …") or [""]
        if len(rows) + 2 + len(lines) > MAX_LINES:
            break
        rows += [(caption, True), *((line, False) for line in lines), ("", False)]
        num_shown += 1
    height = 0.02  # of a line, relative to the width
    title += f", the {num_shown} surest" * (num_shown < count)
    figure, axes = sheet(title, 1, MAX_LINES * height, side=6.8)
    for row, (line, is_caption) in enumerate(rows):
        colour, weight = ("tab:red", "bold") if is_caption else ("black", "normal")
        y = (row + 0.5) * height
        axes.text(0.02, y, figure_text(line), fontsize=8, color=colour, weight=weight, va="center")
    return figure


def to_displayable(image: Tensor) -> Pixels:
    """(C, H, W) of any range as (H, W) or (H, W, 3) in [0, 1]; bytes keep their brightness."""
    values = image.float()
    if image.dtype == torch.uint8:
        values = values / 255
    else:
        values = (values - values.min()) / (values.max() - values.min()).clamp(min=1e-12)
    return (values.permute(1, 2, 0) if len(values) == 3 else values.mean(0)).numpy()


def class_name(splits: Splits, label: int) -> str:
    return splits.class_names[label][:14] if label < len(splits.class_names) else str(label)


def raise_unfit(name: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigError("logging.pictures", name, problem, f"it works with {remedy}")
