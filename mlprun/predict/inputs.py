"""Inputs of `mlprun predict`, in the form of the run's data; DataError for invalid ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import log_mel
from mlprun.data.audio.wav import read_clip
from mlprun.data.image_file import is_blank, read_facts, read_image
from mlprun.data.listing import EXTENSIONS, scan
from mlprun.data.table.inputs import Rows
from mlprun.data.table.rows import read_rows
from mlprun.data.text.tokenizer import PADDING, UNKNOWN, Tokenizer
from mlprun.errors import ConfigError, DataError
from mlprun.formatting import first_few, one_line, pluralize

if TYPE_CHECKING:
    import pandas


class ImageFormat(NamedTuple):
    """How a run's data stores images."""

    low: float  # value of black
    high: float  # value of white
    border: float | None  # mean of the outermost pixels of the training images; None if unknown
    resize: str = "cover"


LARGEST = float(torch.finfo(torch.float32).max)


@dataclass(frozen=True)
class Input:
    """An input to predict."""

    name: str  # for the terminal: `digits/seven.png`, `rows.csv, line 2`
    inputs: Tensor  # of `data.input_shape`, not scaled yet: uint8 or float32
    notes: tuple[str, ...] = ()  # how it was changed, and warnings
    target: int | list[float] | None = None  # the true class or value, if the file has it


def is_image(input_shape: Sequence[int]) -> bool:
    return len(input_shape) == 3 and input_shape[0] in (1, 3)


def from_image(file: str, input_shape: Sequence[int], wanted: ImageFormat, *, invert: bool = False) -> Input:
    """Read an image in the run's channels, resized to its height and width as the run's data are.

    Args:
        input_shape: (1 or 3, height, width).
        wanted: format of the run's data; 0 to 255 become `low` to `high`.
    """
    _file(file)
    image, size = read_image(file, input_shape, wanted.resize)
    pixels = image if isinstance(image, Tensor) else torch.from_numpy(np.array(image))
    pixels = pixels[None] if pixels.dim() == 2 else pixels if pixels is image else pixels.permute(2, 0, 1)
    _, height, width = input_shape
    top, left = (round((has - wants) / 2) for has, wants in zip(pixels.shape[1:], (height, width), strict=True))
    is_cropped = pixels.shape[1:] != (height, width)
    pixels = pixels[:, top : top + height, left : left + width]
    notes = _notes_on_file(file, pixels)
    if size != (width, height):
        done = {"squash": ", squashed", "pad": ", padded with black"}.get(wanted.resize, ", center-cropped")
        same_ratio = size[0] * height == size[1] * width
        done = done if is_cropped or (wanted.resize != "cover" and not same_ratio) else ""
        notes.append(f"note: {file} is {size[0]}x{size[1]}, resized to {width}x{height}{done}")
    pixels = 255 - pixels if invert else pixels
    inputs = pixels
    if (wanted.low, wanted.high) != (0, 255):
        inputs = wanted.low + pixels.float() / 255 * (wanted.high - wanted.low)
    if wanted.border is not None and len(pixels) == 1:
        edges = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
        is_bright = float(torch.cat([edge.flatten() for edge in edges]).double().mean()) > 255 / 2
        if is_bright != (wanted.border > (wanted.low + wanted.high) / 2):
            border, expected = ("bright", "dark") if is_bright else ("dark", "bright")
            remedy = "leave out --invert" if invert else "--invert exchanges black and white"
            odd = f"its border is {border}, that of the training images {expected}"
            notes.append(f"warning: {file} looks inverted: {odd}; {remedy}")
    return Input(file, inputs, tuple(notes))


def _notes_on_file(file: str, pixels: Tensor) -> list[str]:
    """What was done to an image because of its mode, orientation or frames."""
    facts, notes = read_facts(file), []
    if facts.has_frames:
        notes.append(f"note: {file} has several frames or pages: the first is used")
    if facts.is_turned:
        notes.append(f"note: {file} is turned upright, as its EXIF orientation says")
    if facts.is_deep:
        brightest = f"its brightest pixel is {float(pixels.max()) / 255:.1%} of white"
        notes.append(f"note: {file} has more than 8 bits per channel, which are scaled by their range: {brightest}")
    if facts.is_transparent:
        notes.append(f"note: {file} is transparent: it is composited on white")
    if is_blank(file):
        notes.append(f"warning: {file} is of one colour then: its shape is white, on transparent")
    return notes


def from_array(values: object, input_shape: Sequence[int], wanted: ImageFormat | None = None) -> Tensor:
    """Inputs (N, *input_shape) from a tensor, an array or nested lists, uint8 or float32, not scaled.

    Args:
        wanted: the run's images, if they are images of known range.
    """
    try:
        inputs = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))  # a copy, writable
    except (TypeError, ValueError) as error:
        remedy = "give a tensor, an array or lists of numbers; or names of files, one for each input"
        raise DataError(f"inputs: are no array of numbers, but {type(values).__name__}\n  {remedy}") from error
    shape, example = tuple(inputs.shape), tuple(input_shape)
    if shape[1:] != example or not shape or not len(inputs):
        remedy = "for one example, write inputs[None]" if shape == example else "the first dimension counts examples"
        raise DataError(f"inputs: have the shape {shape}, not (N, {', '.join(map(str, example))})\n  {remedy}")
    if inputs.is_complex():
        raise DataError(f"inputs: are complex numbers ({inputs.dtype})\n  give real ones")
    inputs = inputs.detach().cpu().contiguous()  # other strides give other last bits
    inputs = inputs if inputs.dtype == torch.uint8 else inputs.float()
    if inputs.is_floating_point() and not inputs.isfinite().all():
        where = int((~inputs.isfinite()).flatten(1).any(1).nonzero()[0])
        raise DataError(f"inputs[{where}]: holds NaN or infinity\n  replace them, or leave the example out")
    if wanted is not None:
        _check_range(inputs, wanted)
    return inputs


def _check_range(inputs: Tensor, wanted: ImageFormat) -> None:
    """Refuse images of another range than the run's: 0 to 1 for 0 to 255, or the other way round."""
    low, high, slack = float(inputs.min()), float(inputs.max()), 0.01 * (wanted.high - wanted.low)
    is_outside = low < wanted.low - slack or high > wanted.high + slack
    is_tiny = wanted.high > 2 and high <= 1 and bool((inputs != inputs.round()).any())
    if is_outside or is_tiny:
        problem = f"go from {low:g} to {high:g}, and the images of the run from {wanted.low:g} to {wanted.high:g}"
        raise DataError(f"inputs: {problem}\n  give them as the run's data set does, before it is normalised")


def from_sound(file: str, frames: Frames) -> Input:
    """Read a WAV file as a log-mel spectrogram, cropped to its middle or padded with silence on both sides."""
    path = _file(file)
    clip, seconds, _, _ = read_clip(path, frames)
    notes = []
    if abs(seconds - frames.seconds) * frames.sample_rate >= 1:
        done = "cropped to its middle" if seconds > frames.seconds else "padded with silence"
        notes.append(f"note: {file} is {seconds:.2f} s long, an example {frames.seconds:g} s: {done}")
    return Input(file, log_mel(torch.from_numpy(clip)[None], frames)[0], tuple(notes))


def _file(name: str) -> Path:
    path = Path(name)
    if not path.is_file():
        raise DataError(f"{name}: there is no such file")
    return path


def files_of(words: Sequence[str], kind: str) -> tuple[list[str], list[str]]:
    """The words, with the files of a kind (`images`, `sounds`, `texts`) in place of a folder; and notes on the others.

    Raises:
        DataError: a folder has no such file, or cannot be read.
    """
    files, notes = list[str](), list[str]()
    for word in words:
        if not is_one_name(word) or not Path(word).is_dir():
            files.append(word)
            continue
        found, others = scan(Path(word), kind)
        if not found:
            looked = " ".join(EXTENSIONS[kind])
            raise DataError(f"{word}: has no {kind} in it\n  looked for {looked}")
        files += found
        if others:
            notes.append(f"note: {word}: {pluralize(len(others), 'other file')} not read: {first_few(others, 3)}")
    return files, notes


def is_one_name(word: str) -> bool:
    """Whether a word of the command line may name a file; else it is a text."""
    return bool(word) and not any(space in word for space in " \n")


def from_text(text: str, tokenizer: Tokenizer, max_length: int, file: str | None = None) -> Input:
    """The token ids of a text, which may be from a `file`, int32 (max_length,), padded or cut at the end."""
    ids, notes = token_ids(text, tokenizer, max_length)
    inputs = torch.full((max_length,), PADDING, dtype=torch.int32)
    inputs[: len(ids)] = torch.tensor(ids, dtype=torch.int32)
    if file is not None:
        notes = tuple(note.replace("note:", f"note: {file}:", 1) for note in notes)
    return Input(one_line(text) if file is None else file, inputs, notes)


def token_ids(text: str, tokenizer: Tokenizer, max_length: int | None = None) -> tuple[list[int], tuple[str, ...]]:
    """The ids of a text, at most the first `max_length`, and notes about unknown tokens and truncation."""
    ids, notes = tokenizer.encode(text), []
    if not text.strip():
        raise DataError(f"'{text}': has no tokens\n  write some words, or name a .txt file")
    if unknown := sum(token == UNKNOWN for token in ids):
        count = f"{unknown} of {len(ids)} tokens"
        notes.append(f"note: {count} are not in the run's vocabulary of {len(tokenizer):,}")
    if max_length is not None and len(ids) > max_length:
        notes.append(f"note: cut to the first {max_length} of {len(ids)} tokens (data.text.max_length)")
    return ids[:max_length], tuple(notes)


def from_table(file: str, rows: Rows, scale: Tensor, cells: pandas.DataFrame | None = None) -> list[Input]:
    """The rows of a CSV or Parquet file that has the run's columns, in any order, with or without the target.

    Args:
        scale: of the run's inputs, infinite for categories that no training row has.
        cells: as of `read_rows`.
    """
    read = read_rows(file, rows, torch.isfinite(scale).numpy(), cells)
    inputs = torch.from_numpy(read.inputs)
    names = [f"{Path(file).name}, row {number}" for number in range(1, len(inputs) + 1)]
    given = [Input(*each) for each in zip(names, inputs, read.notes, read.targets, strict=True)]
    return [replace(given[0], notes=(*read.about, *given[0].notes)), *given[1:]]


def from_numbers(word: str, input_shape: Sequence[int]) -> list[Input]:
    """The rows of a .csv file, or the row that the word itself is, such as `5.1,3.5,1.4,0.2`.

    A first line without a number is a header, and so is 0,1,2,…, which pandas writes of an array. A lone 0 above one
    column may be either, and counts as a value.
    """
    path = Path(word)
    if path.suffix.lower() != ".csv" and not path.is_file():
        cells = word.split(",")
        if not any(map(_is_number, cells)):
            remedy = f"write {_example(input_shape)}, or name a .csv file"
            raise DataError(f"{word or repr(word)}: is neither a file nor numbers\n  {remedy}")
        return [Input(word, _row(cells, word, input_shape))]
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = enumerate(csv.reader(file), 1)
            rows = [(number, row) for number, row in lines if any(cell.strip() for cell in row)]
    except FileNotFoundError as error:
        raise DataError(f"{word}: there is no such file") from error
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a table of numbers"
        raise DataError(f"{word}: cannot be read as a table: {reason}") from error
    notes: tuple[str, ...] = ()
    if rows and not any(map(_is_number, rows[0][1])):
        rows = rows[1:]
    elif len(rows) > 1 and len(rows[0][1]) > 1 and rows[0][1] == [str(i) for i in range(len(rows[0][1]))]:
        notes = (f"note: {path.name}: its first line, {','.join(rows[0][1][:4])}{',…' * (len(rows[0][1]) > 4)}, "
                 "is taken for a header",)  # fmt: skip
        rows = rows[1:]
    elif len(rows) > 1 and rows[0][1] == ["0"]:
        notes = (f"note: {path.name}: its first line, 0, is taken for a value; if it is a header, remove it",)
    if not rows:
        raise DataError(f"{word}: holds no row of numbers")
    names = [f"{path.name}, line {number}" for number, _ in rows]
    given = [Input(name, _row(row, name, input_shape)) for name, (_, row) in zip(names, rows, strict=True)]
    return [replace(given[0], notes=notes), *given[1:]]


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _row(cells: Sequence[str], name: str, input_shape: Sequence[int]) -> Tensor:
    if len(cells) != math.prod(input_shape):
        problem = f"has {pluralize(len(cells), 'number')}, and an example has {math.prod(input_shape)}"
        raise DataError(f"{name}: {problem}\n  write {_example(input_shape)}")
    for cell in cells:
        if not (_is_number(cell) and abs(float(cell)) <= LARGEST):
            raise DataError(f"{name}: '{cell.strip()}' is not a finite number")
    return torch.tensor([float(cell) for cell in cells], dtype=torch.float32).reshape(tuple(input_shape))


def _example(input_shape: Sequence[int]) -> str:
    count = math.prod(input_shape)
    numbers = [f"{i / 10:g}" for i in range(1, min(count, 4) + 1)]
    if count == 1:
        return "one number, such as 0.1"
    return f"{count} numbers with commas and without spaces, such as {','.join(numbers)}{',…' * (count > 4)}"


def parse_range(text: str) -> tuple[float, float]:
    """`0,1` -> (0.0, 1.0)."""
    cells = text.split(",")
    if len(cells) != 2 or not all(map(_is_number, cells)) or not float(cells[0]) < float(cells[1]):
        raise ConfigError("--range", text, "is not the values of black and white", "write --range 0,1 or --range=-1,1")
    return float(cells[0]), float(cells[1])
