"""Predict files, rows, texts and test examples with the best checkpoint of a finished run."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlprun.config.schema import Config
from mlprun.data.audio.mel import Frames
from mlprun.data.text.tokenizer import PADDING, Tokenizer
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.formatting import one_line
from mlprun.job.place import where_run_began
from mlprun.predict.finished import Finished, load

if TYPE_CHECKING:
    import numpy as np
    import pandas
    import torch

    from mlprun.data.batches import EvalBatches
    from mlprun.data.nested import Batch
    from mlprun.data.normalize import Normalizer
    from mlprun.data.splits import Splits
    from mlprun.predict.inputs import ImageFormat, Input


@dataclass(frozen=True)
class Prediction:
    """The prediction for one input."""

    name: str
    outputs: list[float]  # of the model, one per class or value
    predicted: int | None  # the class; None for a regression
    probabilities: list[float] | None  # per class; None for a regression, and if the loss gives mere scores
    target: int | list[float] | None  # the true class or values, if known
    pixels: (
        np.ndarray[Any, Any] | None
    )  # float, image (C, H, W), black 0 to white 1; decibels (1, num_mels, num_frames)
    notes: tuple[str, ...] = ()  # how the input was changed, and warnings


@dataclass(frozen=True)
class Answer:
    """The predictions of a run."""

    class_names: list[str]  # their numbers if they have no names; empty for a regression
    loss: str  # class of the criterion
    predictions: list[Prediction]
    frames: Frames | None = None  # how sounds became spectrograms


def predict(
    path: Path,
    words: Sequence[str] = (),
    indices: Sequence[range] | Literal["all"] = (),
    *,
    trust: bool = False,
    changed_data: bool = False,
    invert: bool = False,
    value_range: tuple[float, float] | None = None,
    root: Path | None = None,
    checkpoint: str = "best",
) -> Answer:
    """Predict inputs, or else test examples, with the best checkpoint of a run; all is read and checked first.

    Args:
        words: image files for image data, WAV files for sounds, texts and .txt files for text, else rows of numbers and
            .csv files; DataError if one does not fit.
        indices: parts of the test split, or "all"; only they need the data set, and all of its test split, which is
            compared with the record. ConfigError if one is too large.
        trust, root, checkpoint: as for `load`.
        changed_data: take test examples even if the test split has changed since the run; else it raises a DataError.
        invert: invert image files.
        value_range: of black and white, if the data set does not say.
    """
    from mlprun.data.parts import size

    show = partial(_predict, invert=invert, value_range=value_range)
    if not indices:
        return show(load(path, trust=trust, checkpoint=checkpoint), words, ())
    with where_run_began(path, trust=trust, data=root is None) as there:
        run = load(there, trust=trust, data=True, root=root, checkpoint=checkpoint)
        assert run.splits is not None
        count = size(run.splits.test)
        if indices == "all":
            if count is None:
                raise ConfigError("--index", "all", "the test part has no known end", "choose some: --index 0-68")
            indices = [range(count)]
        if count is not None:
            _check_indices(indices, count)
        digest = None if changed_data else run.digest_of_test_split()
        run.check_test_split(changed_data=changed_data, digest=digest)
        return show(run, (), [index for part in indices for index in part])


def _predict(
    run: Finished,
    words: Sequence[str],
    indices: Sequence[int],
    *,
    invert: bool,
    value_range: tuple[float, float] | None,
) -> Answer:

    from mlprun.data.sequences import concat_batches

    task = run.task
    notes: list[tuple[str, ...]] = [()] * len(indices)
    known: list[int | list[float] | None] = [None] * len(indices)
    if indices:
        assert run.splits is not None
        normalizer = run.splits.normalizer
        batches = _test_batches(run, run.splits, indices)
        names = [f"test {index}" for index in indices]
        if run.state.tokenizer is not None:
            decode = Tokenizer.from_plain(run.state.tokenizer).decode
            texts = [one_line(decode(ids)) for ids in concat_batches(batches).inputs.tolist()]
            names = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    else:
        given = read_inputs(run, words, invert=invert, value_range=value_range)
        names, notes = [each.name for each in given], [each.notes for each in given]
        known = [each.target for each in given]
        normalizer = normalizer_of(run)
        batches = list(batches_of(run, as_in_evaluation(run, [each.inputs for each in given])))
    inputs = concat_batches(batches).inputs
    outputs, targets = run.learner.predict(batches)
    probabilities, classes = task.probabilities(outputs), task.predicted_classes(outputs)
    pixels = _pixels(run, inputs, normalizer, value_range)
    predictions = [
        Prediction(
            name,
            outputs[i].tolist(),
            None if classes is None else int(classes[i]),
            None if probabilities is None else probabilities[i].tolist(),
            targets[i].tolist() if indices else known[i],
            None if pixels is None else pixels[i].numpy(),
            notes[i],
        )
        for i, name in enumerate(names)
    ]
    return Answer(
        task.class_names(run.state.class_names), type(task.criterion).__name__, predictions, _frames(run.config)
    )


def normalizer_of(run: Finished) -> Normalizer:
    """The scaling of the run's inputs, on the CPU."""
    from mlprun.data.normalize import Normalizer

    return Normalizer(**{name: value.cpu() for name, value in run.state.normalizer.items()})


def batches_of(run: Finished, inputs: torch.Tensor) -> EvalBatches:
    """Batches of inputs (N, *input_shape) that are not scaled yet, on the run's device."""
    import torch

    from mlprun.data.batches import EvalBatches
    from mlprun.data.source import Examples

    padding = None if run.state.tokenizer is None else PADDING
    examples = Examples(inputs, torch.zeros(len(inputs), 1, dtype=torch.int64))
    return EvalBatches(examples, len(inputs), normalizer_of(run), run.device, padding=padding)


def as_in_evaluation(run: Finished, inputs: Sequence[torch.Tensor] | torch.Tensor) -> torch.Tensor:
    """Inputs (N, *stored_shape) after `data.transforms.eval`."""
    import torch

    from mlprun.job.build_transforms import build_chain

    if (chain := build_chain(run.config, "eval")) is not None:
        return chain.in_evaluation(inputs)
    return inputs if isinstance(inputs, torch.Tensor) else torch.stack(list(inputs))


def stored_shape(run: Finished) -> list[int]:
    """The shape of an input as the data set gives it."""
    shape: list[int] | None = run.state.image_format.get("transformed", {}).get("shape")
    return shape or run.config.data.input_shape or []


def _frames(config: Config) -> Frames | None:
    return None if config.data.audio is None else Frames(**dataclasses.asdict(config.data.audio))


def words_of(run: Finished) -> str | None:
    """What the inputs of a run are if they are words alone; None if they may be arrays."""
    if run.state.tokenizer is not None:
        return "texts"
    if "table" in run.state:  # whose columns are found by name
        return "DataFrames, lists of dicts, and names of .csv or .parquet files"
    return None if run.config.data.audio is None else "names of .wav files"


def read_inputs(
    run: Finished, words: Sequence[str], *, invert: bool = False, value_range: tuple[float, float] | None = None
) -> list[Input]:
    """The inputs that words of the command line are or name, see `predict`; DataError if one does not fit."""
    from mlprun.predict.inputs import files_of, is_image

    shape = stored_shape(run)
    is_sound = run.config.data.audio is not None
    if is_sound or run.state.tokenizer is not None or is_image(shape):
        kind = "sounds" if is_sound else "images" if run.state.tokenizer is None else "texts"
        files, notes = files_of(words, kind)
        first, *others = _read(run, files, shape, invert=invert, value_range=value_range)
        return [dataclasses.replace(first, notes=(*notes, *first.notes)), *others]
    return _read(run, words, shape, invert=invert, value_range=value_range)


def _read(
    run: Finished, words: Sequence[str], shape: Sequence[int], *, invert: bool, value_range: tuple[float, float] | None
) -> list[Input]:
    from mlprun.predict.inputs import from_image, from_numbers, from_sound, is_image

    if (frames := _frames(run.config)) is not None:
        return [from_sound(word, frames) for word in words]
    if run.state.tokenizer is not None:
        from mlprun.predict.inputs import from_text

        tokenizer = Tokenizer.from_plain(run.state.tokenizer)
        longest = run.config.data.text.max_length
        texts = [(word, text_of(word)) for word in words]
        return [from_text(text, tokenizer, longest, None if text is word else word) for word, text in texts]
    if "table" in run.state:
        return [each for word in words for each in read_table(run, word)]
    if not is_image(shape):
        return [each for word in words for each in from_numbers(word, shape)]
    wanted = image_format(run, value_range)
    if wanted is None:
        raise RunError(
            f"the data set, {run.config.data.dataset['_target_']}, does not say what black and white are in its images"
            "\n  say it: --range 0,1, --range 0,255 or --range=-1,1; or predict examples of the test part: --index 0"
        )
    return [from_image(word, shape, wanted, invert=invert) for word in words]


def read_table(run: Finished, file: str, cells: pandas.DataFrame | None = None) -> list[Input]:
    """The rows of a file, or of a table in memory, which have the columns of the run."""
    from mlprun.data.table.inputs import Rows
    from mlprun.predict.inputs import from_table

    return from_table(file, Rows.from_plain(run.state["table"]), run.state.normalizer["scale"].cpu(), cells)


def text_of(word: str) -> str:
    """The text of a word of the command line: the content of a .txt file, or the word itself; DataError if neither."""
    from mlprun.data.text.files import read_text
    from mlprun.predict.inputs import is_one_name

    is_name = is_one_name(word)
    if word.lower().endswith(".txt") and (is_name or os.path.isfile(word)):
        text = read_text(word)
        if not text.strip():
            raise DataError(f"{word}: has no tokens: the file is empty")
        return text
    if word and is_name and os.path.isdir(word):
        raise DataError(f"{word}: is a folder: name the .txt files in it")
    if is_name and ("/" in word or "." in word) and os.path.exists(word):  # but not a text of one word
        raise DataError(f"{word}: is no .txt file: copy it to one")
    try:
        word.encode()
    except UnicodeEncodeError as error:  # typed in another encoding
        raise DataError(f"{word!a}: is no UTF-8 text: character {error.start + 1}") from error
    return word


def image_format(
    run: Finished, value_range: tuple[float, float] | None = None, *, transformed: bool = False
) -> ImageFormat | None:
    """How the run's data stores images, or what `data.transforms.eval` makes of them; None if black is unknown."""
    from mlprun.predict.inputs import ImageFormat

    stored = run.state.image_format
    limits = value_range or stored["range"]
    if transformed and "transformed" in stored:
        limits = stored["transformed"]["range"]
    return (
        None if limits is None else ImageFormat(limits[0], limits[1], stored["border"], stored.get("resize", "cover"))
    )


def _test_batches(run: Finished, splits: Splits, indices: Sequence[int]) -> list[Batch]:
    from torch.utils.data import IterableDataset

    from mlprun.data.batches import EvalBatches
    from mlprun.data.nested import Batch

    part = splits.test
    if not isinstance(part, IterableDataset):
        targets = run.learner.task.target_normalizer
        return list(EvalBatches(part, 256, splits.normalizer, run.device, indices=indices, targets=targets))
    count, examples = 0, dict[int, Batch]()
    for batch in run.test_batches():
        inside = {i for i in indices if count <= i < count + len(batch.targets)}
        examples |= {i: Batch(batch.inputs[i - count, None], batch.targets[i - count, None]) for i in inside}
        count += len(batch.targets)
        if len(examples) == len({*indices}):
            break
    _check_indices([range(i, i + 1) for i in indices if i not in examples], count)
    return [examples[i] for i in indices]


def _check_indices(indices: Sequence[range], count: int) -> None:
    for index in (end for part in indices for end in (part[0], part[-1])):
        if not 0 <= index < count:
            raise ConfigError("--index", index, f"the test part has {count:,} examples", f"choose 0 to {count - 1}")


def _pixels(
    run: Finished, inputs: torch.Tensor, normalizer: Normalizer, value_range: tuple[float, float] | None
) -> torch.Tensor | None:
    """Sounds in decibels, images from 0 (black) to 1; None for other data.

    Images of unknown format are scaled by their own smallest and largest value.
    """
    from mlprun.predict.inputs import is_image

    if run.config.data.audio is not None:
        return normalizer.inverse(inputs)
    if not is_image(run.config.data.input_shape or []):
        return None
    raw = normalizer.inverse(inputs)
    if (known := image_format(run, value_range, transformed=True)) is not None:
        return ((raw - known.low) / (known.high - known.low)).clamp(0, 1)
    low, high = raw.amin((1, 2, 3), keepdim=True), raw.amax((1, 2, 3), keepdim=True)
    return (raw - low) / (high - low).clamp(min=1e-12)
