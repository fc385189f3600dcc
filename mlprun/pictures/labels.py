"""Texts of the user's in pictures: shown as they are, whatever they contain."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlprun.formatting import printable

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont


def figure_text(text: str) -> str:
    """`text` for matplotlib, on one line: no formula, no label that a legend leaves out, no character without a glyph.

    Not for texts that are drawn with `parse_math=False`.
    """
    from matplotlib import rcParams
    from matplotlib.font_manager import FontProperties, findfont, get_font

    def is_drawn(character: str) -> bool:
        fonts = (get_font(findfont(FontProperties(family=[family]))) for family in rcParams["font.family"])
        return any(font.get_char_index(ord(character)) for font in fonts)

    plain = _with_glyphs(text, is_drawn).replace("$", r"\$")
    return f" {plain}" if plain.startswith("_") else plain  # legends skip labels that start with an underscore


def pixel_font(size: int) -> FreeTypeFont:
    """matplotlib's font for Pillow, whose own has the letters of English alone; without importing matplotlib."""
    from PIL import ImageFont

    package = importlib.util.find_spec("matplotlib")
    assert package is not None
    return ImageFont.truetype(Path(str(package.origin)).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def pixel_text(text: str, font: FreeTypeFont) -> str:
    """`text` for Pillow, on one line; characters that the font lacks are escapes."""
    missing = bytes(font.getmask("\uffff"))
    return _with_glyphs(text, lambda character: bytes(font.getmask(character)) != missing)


def _with_glyphs(text: str, is_drawn: Callable[[str], bool]) -> str:
    return "".join(
        character if character.isascii() or is_drawn(character) else ascii(character)[1:-1]
        for character in printable(text, keep="")
    )
