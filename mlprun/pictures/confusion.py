"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mlprun.pictures.labels import pixel_font, pixel_text

LABELLED_CLASSES = 20


def heat_map(counts: np.ndarray[Any, Any], names: Sequence[str]) -> np.ndarray[Any, Any]:
    """A confusion matrix (K, K) as uint8 (height, width, 3): rows are true classes, columns predicted ones.

    Each row is shaded by its own sum, so that rare classes are visible. At most `LABELLED_CLASSES` classes get names
    and counts.
    """
    from PIL import Image, ImageDraw

    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    labelled = len(counts) <= LABELLED_CLASSES
    side = max(2, (640 if labelled else 512) // len(counts))
    # from white to a dark blue
    shade = 255 - share[:, :, None] * (255 - np.array([8.0, 48.0, 107.0]))
    cells = np.kron(shade, np.ones((side, side, 1))).astype(np.uint8)
    if not labelled:
        return cells
    margin = 110
    picture = Image.new("RGB", (margin + cells.shape[1] + 10, margin + cells.shape[0] + 10), "white")
    picture.paste(Image.fromarray(cells), (margin, margin))
    draw, font = ImageDraw.Draw(picture), pixel_font(14)
    draw.text((margin, 8), "predicted", "black", font)
    draw.text((8, margin - 24), "true", "black", font)
    names = [pixel_text(name[:13], font) for name in names]
    wide = max(font.getlength(name) for name in names) > side
    for row, name in enumerate(names):
        middle = margin + row * side + side // 2
        draw.text((margin - 8, middle), name, "black", font, anchor="rm")
        lift = 18 * (row % 2) if wide else 0  # alternating, so that long names do not touch
        draw.text((middle, margin - 8 - lift), name, "black", font, anchor="mb")
        for column in range(len(counts)):
            ink = "white" if share[row, column] > 0.5 else "black"
            center = (margin + column * side + side // 2, middle)
            draw.text(center, str(counts[row, column]), ink, font, anchor="mm")
    return np.asarray(picture)
