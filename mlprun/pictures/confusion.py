"""The confusion matrix as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mlprun.pictures.labels import pixel_font, pixel_text

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

WIDTH = 350  # pixels: TensorBoard shows a picture this wide, and leaves out or repeats columns and rows of another
CELLS = (22, 70)  # the smallest cell and the largest
FEW_CLASSES = 20  # with more, letters are small and zeros are left out, which would hide the other counts
NAMED_CLASSES = 100  # with more, the picture is the matrix alone
LONGEST_NAME = 24  # characters
DARKEST = np.array([8.0, 48.0, 107.0])  # a dark blue, of a share of 1; 0 is white


def heat_map(counts: np.ndarray[Any, Any], names: Sequence[str]) -> np.ndarray[Any, Any]:
    """A confusion matrix (K, K) as uint8 (height, width, 3): rows are true classes, columns predicted ones.

    Each row is shaded by its own sum, so that rare classes are visible, and ends with its recall. More than
    `NAMED_CLASSES` classes have neither names nor counts.
    """
    from PIL import Image, ImageDraw

    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    if len(counts) > NAMED_CLASSES:
        return _cells(share, max(2, 512 // len(counts)))
    size = 14 if len(counts) <= FEW_CLASSES else 10
    font, title = pixel_font(size), pixel_font(14)
    widest_count = int(font.getlength(str(counts.max())))
    names = [pixel_text(name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…", font) for name in names]
    longest = int(max(font.getlength(name) for name in names))
    left, right = longest + 16 + 24, 12 + int(max(font.getlength("100.0 %"), title.getlength("recall"))) + 3
    side = min(max((WIDTH - left - right) // len(counts), CELLS[0], widest_count + 6), CELLS[1])
    extent = side * len(counts)
    upright = longest > side - 6  # then the names above the columns are turned
    top = (longest if upright else size) + 16 + 24
    picture = Image.new("RGB", (max(left + extent + right, WIDTH), top + extent + 10), "white")
    picture.paste(Image.fromarray(_cells(share, side)), (left, top))
    draw = ImageDraw.Draw(picture)
    draw.text((left + extent // 2, 6), "predicted", "black", title, anchor="ma")
    picture.paste(_turned("true", title), (4, top + extent // 2 - int(title.getlength("true")) // 2))
    draw.text((left + extent + 12, top - 8), "recall", "black", title, anchor="ls")
    for row, name in enumerate(names):
        middle = side * row + side // 2
        draw.text((left - 8, top + middle), name, "black", font, anchor="rm")
        if upright:
            turned = _turned(name, font)
            picture.paste(turned, (left + middle - turned.width // 2, top - 8 - turned.height))
        else:
            draw.text((left + middle, top - 8), name, "black", font, anchor="ms")
        total = counts[row].sum()
        recall = f"{100 * share[row, row]:.1f} %" if total else "–"
        draw.text((left + extent + 12, top + middle), recall, "black", font, anchor="lm")
        for column, count in enumerate(counts[row].tolist()):
            if count == 0 and len(counts) > FEW_CLASSES:
                continue
            ink = "white" if share[row, column] > 0.5 else "black"
            center = (left + side * column + side // 2, top + middle)
            draw.text(center, str(count), ink, font, anchor="mm")
    draw.rectangle((left - 1, top - 1, left + extent, top + extent), outline="gray")
    return np.asarray(picture)


def _cells(share: np.ndarray[Any, Any], side: int) -> np.ndarray[Any, Any]:
    shade = 255 - share[:, :, None] * (255 - DARKEST)
    return np.kron(shade, np.ones((side, side, 1))).astype(np.uint8)


def _turned(text: str, font: FreeTypeFont) -> Any:
    """The text, read from below."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(text)
    picture = Image.new("RGB", (int(right - left) + 2, int(bottom - top) + 2), "white")
    ImageDraw.Draw(picture).text((1 - left, 1 - top), text, "black", font)
    return picture.transpose(Image.Transpose.ROTATE_90)
