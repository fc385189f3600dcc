"""Reads an image file, the same way for training and for `mlprun predict`; docs/data.md has the table of modes."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import PIL
import PIL.Image
import torch
from torch import Tensor

from mlprun.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

RESIZE = ("cover", "squash", "pad")
WHITE_16, WHITE_12 = 65535, 4095
ORIENTATION = 0x0112  # the EXIF tag
HAS_EXIF = frozenset({"exif", "xmp", "XML:com.adobe.xmp", "Raw profile type exif"})  # in PIL's `info`
UPRIGHT = {  # EXIF orientation -> name of PIL's transposition
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)


class Picture(NamedTuple):
    """A decoded image, upright and without transparency.

    Attributes:
        pixels: a PIL image of 8 bits per channel, RGB or L; of a file with more, float32 (C, H, W) with 255 for white.
        size: (width, height) before it was resized.
    """

    pixels: Image | Tensor
    size: tuple[int, int]


def read_image(path: str, input_shape: Sequence[int], resize: str = "cover") -> Picture:
    """Read an image, resized for (channels, height, width); with `cover` it is still to be cropped in one direction.

    Raises:
        DataError: the file is missing, damaged, or its values have no known range.
    """
    channels, height, width = input_shape
    try:
        with PIL.Image.open(path) as file:
            size = file.size
            # JPEG can be decoded at a fraction of its size; never below the size requested.
            wanted = (height, width) if _orientation(file) > 4 else (width, height)
            is_draft = file.draft(None, wanted) is not None
            if file.format == "TIFF":  # Pillow 13 maps a turned one into memory by rows of the wrong length
                file.filename = ""
            if _is_deep(file):
                bands = _deep_bands(path, file, channels)
            else:
                file.load()
                bands = [_converted(file, "RGB" if channels == 3 else "L")]
            size = size if is_draft else bands[0].size
            turned = _orientation(file)  # read again: PNG may have it at its end, and PIL itself turns TIFF
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise _unreadable(path, error) from error
    if turned > 1:
        bands = [band.transpose(PIL.Image.Transpose[UPRIGHT[turned]]) for band in bands]
        size = size[::-1] if turned > 4 else size
    if bands[0].mode != "F":
        return Picture(_resized(bands[0], height, width, resize), size)
    resized = [np.asarray(_resized(band, height, width, resize)) for band in bands]
    return Picture(torch.from_numpy(np.stack(resized)), size)


class Facts(NamedTuple):
    """What the header of an image file says."""

    mode: str  # PIL's
    is_deep: bool  # more than 8 bits per channel
    is_transparent: bool
    is_turned: bool  # by its EXIF orientation
    has_frames: bool  # further frames or pages, which are not read; a phone's MPO only has previews

    def decision(self) -> str:
        """The mode, and what becomes of it."""
        if self.is_deep:
            return f"{self.mode} (more than 8 bits, scaled by their range)"
        if self.is_transparent:
            return f"{self.mode} (composited on white)"
        return self.mode if self.mode in ("RGB", "L") else f"{self.mode} (converted)"


def read_facts(path: str) -> Facts:
    """Read the header of an image; DataError if it has none."""
    with _opened(path) as file:
        turned = file.getexif().get(ORIENTATION, 1) if file.format == "TIFF" else _orientation(file)
        frames = getattr(file, "n_frames", 1) if file.format != "MPO" else 1
        return Facts(file.mode, _is_deep(file), file.has_transparency_data, turned > 1, frames > 1)


def is_blank(path: str) -> bool:
    """Whether a transparent image is of one colour once composited, such as white on nothing; DataError if damaged."""
    with _opened(path) as file:
        if _is_deep(file) or not file.has_transparency_data:
            return False
        alpha, colours = np.asarray(_with_alpha(file))[..., 3], np.asarray(_converted(file, "RGB"))
        return bool(np.ptp(alpha) and not np.ptp(colours, (0, 1)).any())


@contextmanager
def _opened(path: str) -> Iterator[ImageFile]:
    try:
        with PIL.Image.open(path) as file:
            yield file
    except DataError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise anything
        raise _unreadable(path, error) from error


def _is_deep(file: ImageFile) -> bool:
    """Of colours of 16 bits PIL itself reads only the upper 8."""
    if file.mode[0] in "IF":
        return True
    if file.format not in ("PNG", "TIFF", "PPM"):
        return False
    arguments = _arguments(file)
    largest = arguments[-1] if file.format == "PPM" else 0
    return ";16" in arguments[0] or (isinstance(largest, int) and largest > 255)


def _arguments(file: ImageFile) -> tuple[Any, ...]:
    """Those of the decoder: PIL's raw mode, such as `RGB;16B`, and others."""
    arguments = (file.tile[0][3] if file.tile else None) or ("",)
    return arguments if isinstance(arguments, tuple) else (arguments,)


def _orientation(file: ImageFile) -> int:
    if HAS_EXIF.isdisjoint(file.info):
        return 1
    try:
        turned = file.getexif().get(ORIENTATION, 1)
    except Exception:  # damaged EXIF data, which viewers ignore too
        return 1
    return turned if turned in UPRIGHT else 1


def _with_alpha(image: Image) -> Image:
    return image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")


def _converted(image: Image, mode: str) -> Image:
    """Convert to RGB or L; transparency is composited on white."""
    if image.has_transparency_data:
        image = _with_alpha(image)
        image = PIL.Image.alpha_composite(PIL.Image.new("RGBA", image.size, "white"), image)
    elif image.mode == "LAB":  # PIL has no way from it to grey
        image = image.convert("RGB")
    return image if image.mode == mode else image.convert(mode)


def _deep_bands(path: str, file: ImageFile, channels: int) -> list[Image]:
    """The channels of an image of more than 8 bits, in PIL's mode F, in which white is 255."""
    if file.mode[0] in "IF":
        values = np.asarray(file, dtype=np.float32)[None]
        white = 1 if file.mode == "F" else WHITE_12 if _arguments(file)[0] == "I;12" else WHITE_16
    else:
        values, white = _deep_colours(path, file), WHITE_16
    if "transparency" in file.info:  # PNG: one colour is transparent
        is_key = (values == np.reshape(file.info["transparency"], (-1, 1, 1))).all(0)
        values = np.where(is_key, np.float32(white), values)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white):
        kind = "float" if white == 1 else "32-bit"
        problem = f"{kind} values from {low:g} to {high:g}; only 0 to {white} have a known black and white"
        raise DataError(f"{path}: {problem}\n  scale the values to 0 to {white}, the same way in all images")
    values = values * np.float32(255 / white)
    if len(values) in (2, 4):
        alpha = values[-1:] / np.float32(255)
        values = values[:-1] * alpha + 255 * (1 - alpha)
    if channels == 1 and len(values) == 3:
        values = np.tensordot(GREY, values, 1)[None]
    elif channels == 3 and len(values) == 1:
        values = values.repeat(3, 0)
    return [PIL.Image.fromarray(band) for band in values]


def _deep_colours(path: str, file: ImageFile) -> Any:
    """The colours of a PNG of 16 bits per channel, float32 (C, H, W), as stored."""
    try:  # as long as PIL reads 8 of the bits; deprecated in torchvision 0.29
        from torchvision.io import ImageReadMode, decode_png
    except ImportError:
        readable = "mlprun cannot read here"
    else:
        readable = "only PNG can have here"
        if file.format == "PNG":
            # the deprecation is known, and would be repeated for each file
            with open(path, "rb") as stored, warnings.catch_warnings(action="ignore"):
                content = torch.frombuffer(bytearray(stored.read()), dtype=torch.uint8)
                return decode_png(content, ImageReadMode.UNCHANGED).to(torch.float32).numpy()
    problem = f"has 16 bits per channel of colour in {file.format}, which {readable}"
    raise DataError(f"{path}: {problem}\n  convert it to 8 bits per channel, or to a PNG")


def _unreadable(path: str, error: Exception) -> DataError:
    if isinstance(error, PIL.UnidentifiedImageError):
        is_empty = os.path.getsize(path) == 0
        reason = "the file is empty" if is_empty else "it has none of the formats that Pillow knows"
    elif isinstance(error, OSError):
        reason = error.strerror or str(error)  # such as "image file is truncated"
    else:
        reason = f"{type(error).__name__}: {error}"
    return DataError(f"{path}: cannot be read as an image: {reason}")


def _resized(image: Image, height: int, width: int, resize: str) -> Image:
    size = width, height
    if resize != "squash":
        choose = min if resize == "pad" else max
        scale = choose(height / image.height, width / image.width)
        size = choose(width, max(1, round(image.width * scale))), choose(height, max(1, round(image.height * scale)))
    image = image if image.size == size else image.resize(size, PIL.Image.Resampling.BILINEAR)
    if resize != "pad" or size == (width, height):
        return image
    padded = PIL.Image.new(image.mode, (width, height))
    padded.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
    return padded
