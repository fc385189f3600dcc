"""The drawing kit."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mlprun.errors import RunError
from mlprun.pictures.figures import images_figure, new_panels, palette, save, to_pixels


def test_a_figure_becomes_pixels():
    figure = Figure(figsize=(2, 1))
    figure.add_subplot()
    assert to_pixels(figure).shape == (100, 200, 3)


def test_panels_come_row_by_row():
    _, panels = new_panels(2, 3, 6.0, 4.0)
    assert [panel.get_subplotspec().num1 for panel in panels] == list(range(6))


@pytest.mark.parametrize("count", [1, 2, 10, 11, 40])
def test_every_class_has_a_colour_of_its_own(count):
    assert palette(count).shape == (count, 3)
    assert len({tuple(colour) for colour in palette(count)}) == count


@pytest.mark.parametrize(("height", "width"), [(8, 8), (40, 50), (10, 5)])
def test_images_keep_their_shape_and_stay_in_their_squares(height, width):
    figure = images_figure("digits", [np.zeros((height, width))] * 5, list("abcde"), cmap="gray")
    (axes,) = figure.axes
    for i, image in enumerate(axes.images):
        left, right, bottom, top = image.get_extent()
        assert (bottom - top) / (right - left) == pytest.approx(height / width)
        assert i % 3 < left < right < i % 3 + 1
    assert [text.get_text() for text in axes.texts] == list("abcde")


def test_a_figure_is_saved_whole_or_not_at_all(tmp_path):
    figure, _ = new_panels(1, 1, 2.0, 1.0)
    assert save(figure, tmp_path / "deep" / "a.png") == tmp_path / "deep" / "a.png"
    with Image.open(tmp_path / "deep" / "a.png") as image:
        assert image.size == (200, 100)
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["a.png"]
    with pytest.raises(RunError, match=r"a\.png/b\.png cannot be written: (Not a directory|File exists)"):
        save(figure, tmp_path / "deep" / "a.png" / "b.png")


@pytest.mark.parametrize("make", [lambda: new_panels(1, 1, 3, 3)[0], lambda: images_figure("", [np.zeros((2, 2))])])
def test_settings_found_in_the_current_folder_do_not_start_latex(monkeypatch, make):
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # as a stranger's matplotlibrc would
    figure = make()
    texts = figure.findobj(Text)
    assert texts
    assert not any(text.get_usetex() for text in texts)
