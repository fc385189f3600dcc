"""Figures, panels, sheets of images, colours, pixels and files. Imports matplotlib only to draw."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlprun.errors import ConfigError
from mlprun.files import atomic_write, naming_path
from mlprun.pictures.labels import figure_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, Any]
DOTS_PER_INCH = 100
TITLE = 0.3  # inches, above a sheet


def new_figure(title: str, width: float = 6.4) -> tuple[Figure, Any]:
    """A figure `width` by 4.8 inches with one pair of axes."""
    figure, (axes,) = new_panels(1, 1, width, 4.8)
    axes.set_title(figure_text(title), fontsize=10)
    return figure, axes


def new_panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, list[Any]]:
    """A figure with a grid of axes, returned row by row; `options` are for `Figure.subplots`."""
    figure = plain_figure(width, height, dpi=DOTS_PER_INCH, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def plain_figure(width: float, height: float, **options: Any) -> Figure:
    """A figure whose text is never drawn by LaTeX."""
    import matplotlib
    from matplotlib.figure import Figure

    # matplotlib reads a matplotlibrc in the current folder, which may be a stranger's and have LaTeX run its commands.
    matplotlib.rcParams["text.usetex"] = False
    return Figure(figsize=(width, height), **options)


def palette(count: int) -> Pixels:
    """(count, 3) RGB in [0, 1], easy to tell apart up to ten."""
    from matplotlib import colormaps

    some = colormaps["tab10"](np.arange(count)) if count <= 10 else colormaps["viridis"](np.linspace(0, 0.95, count))
    return np.asarray(some)[:, :3]


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` of the indices up to `count`."""
    return list(range(count)) if count <= most else [round(i * (count - 1) / (most - 1)) for i in range(most)]


def sheet(title: str, columns: int, rows: float, side: float) -> tuple[Figure, Any]:
    """A title above axes without a frame, whose unit is `side` inches in both directions; rows go down from 0."""
    width, down = max(6.4, columns * side), max(1.0, rows * side) + TITLE
    figure = plain_figure(width, down, dpi=DOTS_PER_INCH)
    figure.text(0.5, 1 - 0.5 * TITLE / down, figure_text(title), fontsize=10, ha="center", va="center")
    share = columns * side / width
    axes: Any = figure.add_axes(((1 - share) / 2, 0.0, share, 1 - TITLE / down))
    axes.axis("off")
    axes.set_xlim(0, columns)
    axes.set_ylim((down - TITLE) / side, 0)
    axes.set_autoscale_on(False)
    return figure, axes


def put_image(axes: Any, image: Pixels, row: float, column: float, caption: str = "", **options: Any) -> None:
    """Draw an image in the unit square below and to the right of (row, column) of a sheet, below its caption."""
    down, across = (0.46 * size / max(image.shape[:2]) for size in image.shape[:2])
    extent = (column + 0.5 - across, column + 0.5 + across, row + 0.5 + down, row + 0.5 - down)
    axes.imshow(image, extent=extent, aspect="auto", interpolation="nearest", **options)
    axes.text(column + 0.5, extent[3] - 0.03, figure_text(caption), fontsize=8, ha="center", va="bottom")


def images_figure(title: str, images: Sequence[Any], captions: Sequence[str] = (), **options: Any) -> Figure:
    """A square of images with captions; in a single pair of axes, because one per image takes seconds."""
    columns = max(1, math.ceil(math.sqrt(len(images))))
    side, caption = (min(1.6, 6.4 / columns), 0.16) if captions else (6.4 / columns, 0.0)
    figure, axes = sheet(title, columns, math.ceil(len(images) / columns) * (1 + caption), side)
    for i, image in enumerate(images):
        row, column = divmod(i, columns)
        put_image(axes, image, row * (1 + caption) + caption, column, captions[i] if captions else "", **options)
    return figure


def to_pixels(picture: Figure | Pixels, footer: str = "") -> Pixels:
    """The result of a picture function as uint8 (H, W, 3); a figure gets `footer` in its lower right corner."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if isinstance(picture, Figure):
        picture.text(0.995, 0.003, footer, fontsize=7, color="0.5", ha="right", va="bottom")
        canvas: Any = FigureCanvasAgg(picture)
        picture.set_dpi(DOTS_PER_INCH)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[:, :, :3].copy()
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8 and picture.ndim == 3 and picture.shape[2] == 3:
        return picture
    kind = f"{picture.dtype} {picture.shape}" if isinstance(picture, np.ndarray) else type(picture).__name__
    raise ConfigError(
        "logging.pictures", ConfigError.MISSING, f"a picture function returned {kind}",
        "return a matplotlib Figure, or uint8 pixels of shape (H, W, 3)",
    )  # fmt: skip


def save(figure: Figure, file: Path, dpi: int = DOTS_PER_INCH) -> Path:
    """Write the figure atomically in the format of the file's suffix; return its path. RunError if that fails."""
    with naming_path(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as stream:
            figure.savefig(stream, format=file.suffix[1:], dpi=dpi)
    return file
