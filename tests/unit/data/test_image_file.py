"""Image files of every mode, orientation and depth, as viewers show them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageCms

from mlprun.data.image_file import UPRIGHT, is_blank, read_facts, read_image
from mlprun.errors import DataError

BLUE, RED = (20, 40, 200), (200, 40, 20)
WHITE = [255, 255, 255]
ON_BLUE = Image.new("RGBA", (8, 8), (*BLUE, 255))  # blue, red at the upper left, and nothing at the lower right
ON_BLUE.paste((*RED, 255), (0, 0, 4, 4))
ON_BLUE.paste((0, 0, 0, 0), (4, 4, 8, 8))
RGB = ON_BLUE.convert("RGB")
SRGB, LAB = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")


def corners(path: Path, channels: int = 3) -> list[list[float]]:
    """The colours of the upper left, upper right and lower right corner."""
    pixels = read_image(str(path), (channels, 8, 8)).pixels
    array = pixels.permute(1, 2, 0).numpy() if isinstance(pixels, torch.Tensor) else np.array(pixels)
    return array.reshape(8, 8, channels)[[0, 0, 7], [0, 7, 7]].tolist()


def grey(color: object) -> float:
    return float(np.dot(color, [0.299, 0.587, 0.114]))


def save_png16(path: Path, pixels: np.ndarray, transparent: tuple[int, ...] = ()) -> Path:
    """Write (H, W, C) as a PNG of 16 bits per channel, which PIL cannot write in colour."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width, channels = pixels.shape
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    content = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color_type, 0, 0, 0))
    if transparent:
        content += chunk(b"tRNS", struct.pack(f">{len(transparent)}H", *transparent))
    content += chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


TRANSPARENT = {
    "RGBA.png": (ON_BLUE, {}),
    "RGBA.webp": (ON_BLUE, {"lossless": True}),
    "RGBA.tif": (ON_BLUE, {}),
    "RGBA.tga": (ON_BLUE, {}),
    "RGBA.gif": (ON_BLUE, {}),
    "palette.png": (ON_BLUE.quantize(8), {}),  # tRNS with a value per colour
    "a_colour.png": (RGB, {"transparency": (0, 0, 0)}),
    "a_palette_entry.gif": (RGB.quantize(8), {"transparency": RGB.quantize(8).getpixel((7, 7))}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparency_is_composited_on_white(tmp_path: Path, name: str) -> None:
    image, options = TRANSPARENT[name]
    image.save(tmp_path / name, **options)
    assert corners(tmp_path / name) == [list(RED), list(BLUE), WHITE]
    assert np.ravel(corners(tmp_path / name, 1)) == pytest.approx([grey(RED), grey(BLUE), 255], abs=1)
    assert read_facts(str(tmp_path / name)).is_transparent


@pytest.mark.parametrize("alpha", [0, 51, 255])
@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_half_transparent_colours_are_mixed_with_white(tmp_path: Path, mode: str, alpha: int) -> None:
    Image.new(mode, (8, 8), (*[100] * (len(mode) - 1), alpha)).save(tmp_path / "1.png")
    mixed = 100 * alpha / 255 + 255 - alpha
    assert np.ravel(corners(tmp_path / "1.png")) == pytest.approx([mixed] * 9, abs=1)


OPAQUE = {
    "1.png": (RGB.convert("L").point(lambda value: 255 * (value > 60)).convert("1"), [WHITE, [0] * 3, [0] * 3]),
    "L.png": (RGB.convert("L"), [[grey(RED)] * 3, [grey(BLUE)] * 3, [0] * 3]),
    "P.png": (RGB.quantize(8), [RED, BLUE, [0] * 3]),
    "CMYK.tif": (RGB.convert("CMYK"), [RED, BLUE, [0] * 3]),
    "YCbCr.tif": (RGB.convert("YCbCr"), [RED, BLUE, [0] * 3]),
    "LAB.tif": (ImageCms.applyTransform(RGB, ImageCms.buildTransform(SRGB, LAB, "RGB", "LAB")), [RED, BLUE, [0] * 3]),
}


@pytest.mark.parametrize("name", OPAQUE)
def test_other_modes_become_rgb_or_grey(tmp_path: Path, name: str) -> None:
    image, expected = OPAQUE[name]
    image.save(tmp_path / name)
    try:
        Image.open(tmp_path / name).load()
    except OSError:  # YCbCr TIFF, before 13.0
        pytest.skip(f"Pillow {PIL.__version__} cannot read what it has written")
    tolerance = 15 if "LAB" in name else 2  # sRGB's blue is out of the profile's gamut
    assert np.ravel(corners(tmp_path / name)) == pytest.approx(np.ravel(expected), abs=tolerance)
    assert np.ravel(corners(tmp_path / name, 1)) == pytest.approx([grey(color) for color in expected], abs=tolerance)
    assert read_facts(str(tmp_path / name)).mode == name.split(".")[0]


RAMP = np.arange(64).reshape(8, 8)  # 0 to 63, in the corners 0, 7, 63


@pytest.mark.parametrize(
    ("name", "values", "white"),
    [
        ("16.png", RAMP.astype(np.uint16), 65535),
        ("16.tif", RAMP.astype(np.uint16), 65535),
        ("16.pgm", RAMP.astype(np.uint16), 65535),
        ("32.tif", RAMP.astype(np.int32), 65535),
        ("float.tif", (RAMP / 64).astype(np.float32), 1),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_more_than_8_bits_are_scaled_by_their_range(tmp_path, name, values, white, channels) -> None:
    Image.fromarray(values).save(tmp_path / name)
    expected = np.repeat(values[[0, 0, 7], [0, 7, 7]] * 255.0 / white, channels)
    assert np.ravel(corners(tmp_path / name, channels)) == pytest.approx(expected, rel=1e-5)
    assert read_facts(str(tmp_path / name)).is_deep


def test_a_pgm_of_12_bits_has_its_own_white(tmp_path: Path) -> None:
    (tmp_path / "12.pgm").write_bytes(b"P5 8 8 4095\n" + (RAMP * 65).astype(">u2").tobytes())
    assert np.ravel(corners(tmp_path / "12.pgm", 1)) == pytest.approx([0, 7 * 65 * 255 / 4095, 255], abs=0.01)


@pytest.mark.parametrize(
    ("pixels", "transparent", "expected"),
    [
        (np.full((8, 8, 3), 1080), (), [1080 / 257] * 3),
        (np.full((8, 8, 4), [257, 514, 771, 65535]), (), [1, 2, 3]),
        (np.full((8, 8, 4), [257, 514, 771, 0]), (), WHITE),
        (np.full((8, 8, 2), [0, 13107]), (), [204] * 3),
        (np.full((8, 8, 3), [1, 2, 3]), (1, 2, 3), WHITE),
        (np.full((8, 8, 1), 7), (7,), WHITE),
    ],
)
def test_colours_of_16_bits_keep_them(tmp_path, pixels, transparent, expected) -> None:
    path = save_png16(tmp_path / "1.png", pixels, transparent)
    assert corners(path)[0] == pytest.approx(expected, rel=1e-5)
    assert corners(path, 1)[0] == pytest.approx([grey(expected)], rel=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("large.tif", np.full((8, 8), 70000, np.int32), "32-bit values from 70000 to 70000; only 0 to 65535"),
        ("negative.tif", np.full((8, 8), -1, np.int32), "32-bit values from -1 to -1; only 0 to 65535"),
        ("depth.tif", np.full((8, 8), 3.5, np.float32), "float values from 3.5 to 3.5; only 0 to 1 have"),
        ("nan.tif", np.full((8, 8), np.nan, np.float32), "float values from nan to nan"),
        ("16.ppm", b"P6 8 8 65535\n" + bytes(8 * 8 * 6), "16 bits per channel of colour in PPM, which only PNG can"),
    ],
)
def test_values_of_no_known_range_are_refused(tmp_path, name, content, message) -> None:
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(content).save(path)
    with pytest.raises(DataError, match=rf"{name}: .*{message}.*\n  "):
        read_image(str(path), (3, 8, 8))


@pytest.mark.parametrize("shape", [(3, 16, 24), (1, 160, 240)])
@pytest.mark.parametrize("extension", ["jpg", "tif", "webp"])
def test_every_exif_orientation_is_shown_upright(tmp_path: Path, extension: str, shape: tuple[int, int, int]) -> None:
    upright = Image.fromarray(np.add.outer(np.arange(160), np.arange(240) * 0.4).clip(0, 255).astype(np.uint8))
    upright.paste(255, (0, 0, 60, 40))
    options = {"quality": 95} if extension in ("jpg", "webp") else {}
    upright.save(tmp_path / f"upright.{extension}", **options)
    expected, size = read_image(str(tmp_path / f"upright.{extension}"), shape)
    inverse = {"ROTATE_90": "ROTATE_270", "ROTATE_270": "ROTATE_90"}
    for orientation, name in UPRIGHT.items():
        path = tmp_path / f"{orientation}.{extension}"
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = upright.transpose(Image.Transpose[inverse.get(name, name)])
        stored.save(path, exif=exif, **options)
        found, found_size = read_image(str(path), shape)
        assert found_size == size == (240, 160)
        assert np.abs(np.array(found, float) - np.array(expected, float)).mean() < 2, orientation
        assert read_facts(str(path)).is_turned


def test_damaged_exif_data_does_not_matter(tmp_path: Path) -> None:
    RGB.save(tmp_path / "1.jpg", exif=b"Exif\0\0garbage", quality=100)
    assert np.ravel(corners(tmp_path / "1.jpg")[0]) == pytest.approx(RED, abs=8)


def test_the_first_frame_of_several_is_read_and_reported(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (8, 8), color) for color in (RED, BLUE))
    for name in ("1.gif", "1.tif", "1.webp", "1.png"):
        red.save(tmp_path / name, save_all=True, append_images=[blue])
        assert np.ravel(corners(tmp_path / name)[0]) == pytest.approx(RED, abs=6)
        assert read_facts(str(tmp_path / name)).has_frames
    red.save(tmp_path / "phone.mpo", save_all=True, append_images=[blue])  # its second image is a preview
    assert not read_facts(str(tmp_path / "phone.mpo")).has_frames


@pytest.mark.parametrize(("ink", "blank"), [(255, True), (0, False)])
def test_white_on_transparent_is_blank(tmp_path: Path, ink: int, blank: bool) -> None:
    shape = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    Image.merge("LA", [Image.new("L", (8, 8), ink), shape]).save(tmp_path / "1.png")
    assert is_blank(str(tmp_path / "1.png")) == blank
    Image.new("RGBA", (8, 8), "white").save(tmp_path / "paper.png")  # has no shape to lose
    assert not is_blank(str(tmp_path / "paper.png"))
