"""What the pictures share: pixels, figures, and a few examples with what the model makes of them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from mlprun.data.batches import EvalBatches
from mlprun.data.normalize import Normalizer
from mlprun.data.parts import Part, size
from mlprun.data.source import Examples
from mlprun.data.splits import Splits
from mlprun.data.text.tokenizer import Tokenizer
from mlprun.errors import ConfigError
from mlprun.training.learner import Learner

Pixels = np.ndarray[Any, Any]
DOTS_PER_INCH = 100
MAX_POINTS = 2000  # more would hide each other
MAX_EXAMPLES = 4096  # of the validation split, for what is counted or sorted
MAX_LINES, LINES_OF_A_TEXT, LINE = 38, 4, 96  # of misclassified texts: in all, of each, characters of one
LAZY_EXAMPLES = 256  # that are read anew for each picture, where data is not held in memory


def to_pixels(picture: Figure | Pixels, footer: str = "") -> Pixels:
    """What a picture function returned as uint8 (H, W, 3); a figure with `footer` in its lower right corner.

    Raises:
        ConfigError: it is no picture.
    """
    if isinstance(picture, Figure):
        picture.text(0.995, 0.003, footer, fontsize=7, color="0.5", ha="right", va="bottom")
        canvas: Any = FigureCanvasAgg(picture)
        picture.set_dpi(DOTS_PER_INCH)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    found = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise ConfigError(
        "logging.pictures", ConfigError.MISSING, f"a picture function returned {found}",
        "return a matplotlib Figure, or uint8 pixels of shape (H, W, 3)",
    )  # fmt: skip


class _Raw(NamedTuple):
    inputs: Tensor  # (N, *input_shape), as stored: not scaled
    targets: Tensor


def first_examples(part: Part, count: int) -> _Raw:
    """At most `count` examples of a split, on the CPU: the first of them."""
    if isinstance(part, Examples):
        some = part[slice(0, count)]
        return _Raw(some.inputs.cpu(), some.targets.cpu())
    # As an evaluation reads them: what an example draws at random is a function of its index.
    identity = Normalizer(torch.zeros(()), torch.ones(()))
    known = size(part)
    indices = None if known is None else range(min(count, known))
    inputs, targets, _ = next(iter(EvalBatches(part, count, identity, torch.device("cpu"), indices=indices)))
    return _Raw(inputs[:count], targets[:count])


def input_shape(splits: Splits) -> tuple[int, ...]:
    return tuple(first_examples(splits.val, 1).inputs.shape[1:])


def model_outputs(learner: Learner, splits: Splits, inputs: Tensor) -> Tensor:
    """The model's outputs for unscaled inputs, float32 on the CPU."""
    part = Examples(inputs, torch.zeros(len(inputs)))
    batches = EvalBatches(part, len(inputs), splits.normalizer, learner.device, padding=splits.padding)
    return torch.cat([learner.outputs(batch.inputs) for batch in batches]).float().cpu()


def is_token_data(splits: Splits) -> bool:
    """Whether an example is a row of token ids."""
    inputs = first_examples(splits.val, 1).inputs
    return inputs.dtype in (torch.int32, torch.int64) and inputs.dim() == 2


def decoded(tokenizer: Tokenizer | None, ids: Tensor) -> str:
    return " ".join(str(i) for i in ids.tolist() if i) if tokenizer is None else tokenizer.decode(ids.tolist())


def texts_figure(title: str, count: int, captions: Sequence[str], texts: Sequence[str]) -> Figure:
    """Texts below each other, each below its caption; as many of `count` as there is room for."""
    rows: list[tuple[str, bool]] = []
    num_shown = 0
    for caption, text in zip(captions, texts, strict=True):
        lines = textwrap.wrap(text, LINE, max_lines=LINES_OF_A_TEXT, placeholder=" …") or [""]
        if len(rows) + 2 + len(lines) > MAX_LINES:
            break
        rows += [(caption, True), *((line, False) for line in lines), ("", False)]
        num_shown += 1
    figure = Figure(figsize=(6.8, 0.45 + 0.135 * MAX_LINES))
    axes: Any = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.axis("off")
    axes.set_xlim(0, 1)
    axes.set_ylim(MAX_LINES, -3)
    axes.text(0.5, -1.6, title + f", the {num_shown} surest" * (num_shown < count), fontsize=10, ha="center")
    for row, (line, is_caption) in enumerate(rows):
        colour, weight = ("tab:red", "bold") if is_caption else ("black", "normal")
        axes.text(0.02, row, line, fontsize=8, color=colour, weight=weight, va="center", parse_math=False)
    return figure


def evenly_spaced(count: int, most: int) -> list[int]:
    """The indices of `count` things, or of `most` of them evenly over their number."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def new_figure(title: str, width: float = 6.4) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    return figure, axes


def images_figure(title: str, images: Sequence[Any], captions: Sequence[str] = (), **how: Any) -> Figure:
    """Pictures in a square, each below its caption; in one pair of axes, for a pair for each takes seconds."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    side, caption = (1.25, 0.18) if captions else (6.0 / columns, 0.0)
    figure, axes = image_sheet(title, columns, math.ceil(len(images) / columns), side, 1 + caption)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        put_image(axes, image, row * (1 + caption) + caption, column, captions[i] if captions else "", **how)
    return figure


def image_sheet(title: str, columns: int, rows: int, side: float, height: float) -> tuple[Figure, Any]:
    """A figure whose axes have a unit a tile, `side` inches: `columns` of them, and rows that are `height` high."""
    top = 0.3  # inches for the title
    width, down = max(3.2, columns * side), max(1.0, rows * height * side) + top
    figure = Figure(figsize=(width, down))
    figure.text(0.5, 1 - 0.5 * top / down, title, fontsize=10, ha="center", va="center")
    axes: Any = figure.add_axes((0.0, 0.0, columns * side / width, 1 - top / down))
    axes.axis("off")
    axes.set_xlim(0, columns)
    axes.set_ylim(max(rows * height, 1.0 / side), 0)
    axes.set_autoscale_on(False)
    return figure, axes


def put_image(axes: Any, image: Pixels, row: float, column: float, caption: str = "", **how: Any) -> None:
    """An image into the unit square below and to the right of (row, column), its caption above it."""
    gap = 0.04
    extent = (column + gap, column + 1 - gap, row + 1 - gap, row + gap)
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", **how)
    axes.text(column + 0.5, row + 0.01, caption, fontsize=8, ha="center", va="bottom")


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


def class_colours(count: int) -> Pixels:
    """(count, 3) RGB in [0, 1], easily told apart up to ten."""
    from matplotlib import colormaps

    return np.asarray(colormaps["tab10"](np.arange(count) % 10))[:, :3]


def raise_unfit(name: str, problem: str, remedy: str) -> NoReturn:
    raise ConfigError("logging.pictures", name, problem, f"it works with {remedy}")
