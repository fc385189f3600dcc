"""Images and values that are predicted are read as the data set reads them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlprun.data.image_folder import ImageFolder
from mlprun.predict.inputs import ImageFormat, from_image
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
