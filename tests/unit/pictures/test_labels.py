"""Names of the user's in pictures: none ends a training, and each can be told from the others."""

from __future__ import annotations

import numpy as np
import pytest

from mlprun.pictures.confusion import heat_map
from mlprun.pictures.figures import images_figure, new_figure, save, to_pixels
from mlprun.pictures.labels import figure_text, pixel_font, pixel_text

NAMES = [
    "US$_5_front$",
    "$",
    r"\$x$",
    "x^{$_$",
    "_private",
    "a\nb",
    "\x1b[31mred",
    "\u202ertl",
    "中文",
    "café",
    "%s{0}",
    "\ud800",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")  # a character without a glyph
def test_any_name_is_drawn_as_it_is(name, tmp_path):
    figure, axes = new_figure(name)
    axes.plot([0, 1], label=figure_text(name))
    axes.set_yticks([0], [figure_text(name)])
    legend = axes.legend()
    to_pixels(figure)
    save(images_figure(name, [np.zeros((4, 4))], [name]), tmp_path / "x.svg")
    (shown,) = legend.get_texts()
    drawn, is_formula = shown._preprocess_math(shown.get_text())  # what matplotlib lays out
    assert not is_formula
    assert drawn.strip().isprintable()
    expected = {"a\nb": r"a\nb", "\x1b[31mred": r"\x1b[31mred", "\u202ertl": r"\u202ertl", "中文": r"\u4e2d\u6587",
                "\ud800": r"\ud800"}  # fmt: skip
    assert drawn.strip() == expected.get(name, name)


def test_a_confusion_matrix_names_classes_of_any_script():
    for name in NAMES:
        assert heat_map(np.eye(2, dtype=int), [name, "other"]).shape[2] == 3
    names = ["бык", "кот", "äü", "öé", "猫", "犬"]
    pictures = [heat_map(np.eye(2, dtype=int), [name, "other"]).tobytes() for name in names]
    assert len(set(pictures)) == len(names)  # not the same boxes


def test_the_font_of_pictures_lacks_what_is_escaped_only():
    font = pixel_font(14)
    assert [pixel_text(name, font) for name in ["café", "бык", "猫", "a\nb"]] == ["café", "бык", r"\u732b", r"a\nb"]
