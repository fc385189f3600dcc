"""Images and values that are predicted are read as the data set reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mlprun.data.image_folder import ImageFolder, image_folder
from mlprun.predict.inputs import ImageFormat, from_image, from_numbers
from tests.helpers.files import save_image

BYTES = ImageFormat(0, 255, None)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 12), (3, 20, 20)])
@pytest.mark.parametrize("size", [(8, 8), (10, 31), (5, 4)])
def test_an_image_is_read_as_an_image_folder_reads_it(tmp_path, shape, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3))
    file = save_image(tmp_path / "a.png", pixels)
    expected, _ = ImageFolder([file], torch.tensor([0]), shape)[0]
    found = from_image(file, shape, BYTES)
    assert found.inputs.dtype == torch.uint8
    assert torch.equal(found.inputs, expected)
    assert bool(found.notes) == (size != shape[1:])


@pytest.mark.parametrize("resize", ["cover", "squash", "pad"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "I;16"])
@pytest.mark.parametrize("shape", [(1, 8, 12), (3, 10, 6)])
def test_any_mode_is_read_as_in_training(tmp_path, mode, resize, shape):
    pixels = np.random.default_rng(0).integers(0, 256, (16, 20, 4), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if mode == "I;16" else mode)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "class").mkdir()
    file = tmp_path / "class" / "a.png"
    (Image.fromarray(np.array(image).astype(np.uint16) * 16) if mode == "I;16" else image).save(file, exif=exif)
    expected, _ = image_folder(tmp_path, shape, resize=resize).train[0]
    found = from_image(str(file), shape, BYTES._replace(resize=resize))
    assert torch.equal(found.inputs, expected)
    assert found.inputs.dtype == expected.dtype


def test_what_was_done_to_an_image_is_said(tmp_path):
    shape = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    white = Image.new("L", (8, 8), 255)
    cases = {
        "ink.png": (
            Image.merge("LA", [Image.new("L", (8, 8)), shape]),
            ["note: ink.png is transparent: it is composited"],
        ),
        "white.png": (
            Image.merge("LA", [white, shape]),
            ["note: white.png is transparent", "warning: white.png is of one"],
        ),
        "deep.png": (Image.fromarray(np.full((8, 8), 4095, np.uint16)), ["its brightest pixel is 6.2% of white"]),
        "wide.png": (Image.new("L", (9, 8)), ["note: wide.png is 9x8, resized to 8x8, padded with black"]),
    }
    for name, (image, said) in cases.items():
        image.save(tmp_path / name)
        notes = from_image(str(tmp_path / name), (1, 8, 8), BYTES._replace(resize="pad")).notes
        assert len(notes) == len(said)
        assert all(part in note.replace(f"{tmp_path}/", "") for part, note in zip(said, notes, strict=True))


def test_values_are_brought_to_those_of_the_data(tmp_path):
    file = save_image(tmp_path / "a.png", [[0, 51], [102, 255]])
    assert from_image(file, (1, 2, 2), ImageFormat(-1, 1, None)).inputs.flatten().tolist() == pytest.approx(
        [-1, -0.6, -0.2, 1]
    )
    assert from_image(file, (1, 2, 2), BYTES, invert=True).inputs.flatten().tolist() == [255, 204, 153, 0]


@pytest.mark.parametrize(
    ("value", "border", "invert", "said"),
    [
        (255, 0.0, False, "its border is bright, that of the training images dark; --invert exchanges black and white"),
        (255, 0.0, True, None),
        (0, 0.0, False, None),
        (0, 0.0, True, "its border is bright, that of the training images dark; leave out --invert"),
        (0, 255.0, False, "its border is dark, that of the training images bright; --invert exchanges"),
        (255, None, False, None),
    ],
)
def test_an_inverted_image_is_suspected(tmp_path, value, border, invert, said):
    file = save_image(tmp_path / "a.png", np.full((4, 4), value))
    notes = from_image(file, (1, 4, 4), ImageFormat(0, 255, border), invert=invert).notes
    assert len(notes) == (said is not None)
    assert not notes or f"warning: {file} looks inverted: {said}" in notes[0]


@pytest.mark.parametrize(
    ("table", "names", "noted"),
    [
        ("a,b\n1,2\n", ["line 2"], False),
        ("0,1\n-1.5,0.25\n2,3\n", ["line 2", "line 3"], True),  # pandas' header of an array
        ("0,1\n", ["line 1"], False),  # what else there would be to predict
        ("1,0\n2,3\n", ["line 1", "line 2"], False),
        ("0.0,1.0\n2,3\n", ["line 1", "line 2"], False),
    ],
)
def test_a_first_line_of_words_or_of_column_numbers_is_a_header(tmp_path, table, names, noted):
    (tmp_path / "rows.csv").write_text(table)
    rows = from_numbers(str(tmp_path / "rows.csv"), [2])
    assert [row.name for row in rows] == [f"rows.csv, {name}" for name in names]
    assert [bool(row.notes) for row in rows] == [noted, *[False] * (len(rows) - 1)]
    assert not noted or rows[0].notes == ("note: rows.csv: its first line, 0,1, is taken for a header",)


def test_a_lone_0_above_one_column_is_a_value_and_noted(tmp_path):
    (tmp_path / "rows.csv").write_text("0\n1.5\n")
    first, second = from_numbers(str(tmp_path / "rows.csv"), [1])
    assert (first.inputs.item(), second.inputs.item(), second.notes) == (0, 1.5, ())
    assert first.notes == ("note: rows.csv: its first line, 0, is taken for a value; if it is a header, remove it",)
