"""What a finished run's best checkpoint predicts for files, rows, texts and the test part."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlprun.config.schema import Config
from mlprun.data.audio.mel import Frames
from mlprun.errors import ConfigError, DataError, RunError
from mlprun.predict.finished import Finished, load

if TYPE_CHECKING:
    import numpy as np
    import torch

    from mlprun.data.nested import Batch
    from mlprun.data.normalize import Normalizer
    from mlprun.predict.inputs import ImageFormat, Input


@dataclass(frozen=True)
class Prediction:
    """What the model says of one input.

    Attributes:
        name: of the input.
        outputs: of the model, one a class or value.
        predicted: the class, None in a regression.
        probabilities: one a class; None in a regression, and where outputs are scores without that meaning.
        target: the class or the values that are true, where they are known.
        pixels: of an image, float from 0 (black) to 1, shape (C, H, W), of a sound its decibels (1, num_mels,
            num_frames); else None.
        notes: what was done to the input, and what looks odd.
    """

    name: str
    outputs: list[float]
    predicted: int | None
    probabilities: list[float] | None
    target: int | list[float] | None
    pixels: np.ndarray[Any, Any] | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a run says of all that it was asked.

    Attributes:
        class_names: one a class, its number where it has no name; empty in a regression.
        loss: the criterion's class.
        frames: of sounds, what their spectrograms are made of; else None.
    """

    class_names: list[str]
    loss: str
    predictions: list[Prediction]
    frames: Frames | None = None


def predict(
    path: Path,
    words: Sequence[str] = (),
    indices: Sequence[int] = (),
    *,
    trust: bool = False,
    invert: bool = False,
    value_range: tuple[float, float] | None = None,
) -> Answer:
    """What the best checkpoint of a run says of files or rows of numbers, or else of examples of its test part.

    Everything is read and checked before anything is predicted. Only `indices` need the data set.

    Args:
        path: of the run.
        words: image files for image data, WAV files for sounds, texts and .txt files for text, else rows of numbers and
            .csv files.
        indices: of the test part.
        trust: as for `load`.
        invert: exchange black and white of image files.
        value_range: what black and white are, where the data set does not say.

    Raises:
        RunError: as `load`.
        DataError: an input that cannot be read or does not fit.
        ConfigError: an index that the test part does not have.
    """
    run = load(path, trust=trust, data=bool(indices))

    from mlprun.predict.inputs import is_image

    data, task = run.config.data, run.task
    asked = (
        _of_test(run, indices) if indices else _of_words(run, _read(run, words, invert=invert, value_range=value_range))
    )
    outputs, targets = asked.outputs, asked.targets
    probabilities = task.probabilities(outputs)
    classes = task.predicted_classes(outputs)
    pixels, frames = None, _frames(run.config)
    if frames is not None:
        pixels = asked.normalizer.inverse(asked.inputs)
    elif is_image(data.input_shape or []):
        pixels = _pixels(asked.inputs, asked.normalizer, _image_format(run, value_range))
    predictions = [
        Prediction(
            name,
            outputs[i].tolist(),
            None if classes is None else int(classes[i]),
            None if probabilities is None else probabilities[i].tolist(),
            None if targets is None else targets[i].tolist(),
            None if pixels is None else pixels[i].numpy(),
            asked.notes[i],
        )
        for i, name in enumerate(asked.names)
    ]
    return Answer(_class_names(run), type(task.criterion).__name__, predictions, frames)


@dataclass(frozen=True)
class _Outputs:
    """Of all inputs: names, scaled inputs (N, *input_shape), outputs (N, num_outputs), targets if known, notes."""

    names: list[str]
    inputs: torch.Tensor
    outputs: torch.Tensor
    targets: torch.Tensor | None
    notes: list[tuple[str, ...]]
    normalizer: Normalizer


def _of_words(run: Finished, given: list[Input]) -> _Outputs:
    import torch

    from mlprun.data.batches import EvalBatches
    from mlprun.data.normalize import Normalizer
    from mlprun.data.source import Examples
    from mlprun.data.text.tokenizer import PADDING

    # Every run that mlprun made has these; a checkpoint without them is damaged.
    normalizer = Normalizer(**{name: value.cpu() for name, value in run.state.normalizer.items()})
    padding = None if run.state.tokenizer is None else PADDING
    stacked = Examples(torch.stack([each.inputs for each in given]), torch.zeros(len(given), dtype=torch.int64))
    outputs, _ = run.learner.predict(EvalBatches(stacked, len(given), normalizer, run.where, padding=padding))
    names, notes = [each.name for each in given], [each.notes for each in given]
    return _Outputs(names, normalizer(stacked.inputs), outputs, None, notes, normalizer)


def _class_names(run: Finished) -> list[str]:
    data, known = run.config.data, run.state.class_names
    num_classes = max(data.num_outputs, 2) if data.task == "classification" else 0
    return known if len(known) == num_classes else [str(i) for i in range(num_classes)]


def _frames(config: Config) -> Frames | None:
    """How the run's sounds became pictures; None where its data are no sounds."""
    return None if config.data.audio is None else Frames(**dataclasses.asdict(config.data.audio))


def _read(run: Finished, words: Sequence[str], *, invert: bool, value_range: tuple[float, float] | None) -> list[Input]:
    """All that was named, each checked."""
    from mlprun.predict.inputs import from_image, from_numbers, from_sound, is_image

    if (frames := _frames(run.config)) is not None:
        return [from_sound(word, frames) for word in words]
    shape = run.config.data.input_shape or []
    if run.state.tokenizer is not None:
        from mlprun.data.text.tokenizer import Tokenizer
        from mlprun.predict.inputs import from_text

        tokenizer = Tokenizer.from_plain(run.state.tokenizer)
        longest = run.config.data.text.max_length
        texts = [(word, text_of(word)) for word in words]
        return [from_text(text, tokenizer, longest, None if text is word else word) for word, text in texts]
    if not is_image(shape):
        return [each for word in words for each in from_numbers(word, shape)]
    wanted = _image_format(run, value_range)
    if wanted is None:
        raise RunError(
            f"the data set, {run.config.data.dataset['_target_']}, does not say what black and white are in its images"
            "\n  say it: --range 0,1, --range 0,255 or --range=-1,1; or predict examples of the test part: --index 0"
        )
    return [from_image(word, shape, wanted, invert=invert) for word in words]


def text_of(word: str) -> str:
    """What a word of the command line says: the content of a .txt file as the data of a run would hold it, or itself.

    Raises:
        DataError: the file is not there, is no text or empty; the word is no text, or names what is no .txt file.
    """
    from mlprun.data.text.files import read_text

    is_name = not any(space in word for space in " \n")
    if word.lower().endswith(".txt") and (is_name or os.path.isfile(word)):
        text = read_text(word)
        if not text.strip():
            raise DataError(f"{word}: has no tokens: the file is empty")
        return text
    if word and is_name and os.path.isdir(word):
        raise DataError(f"{word}: is a folder: name the .txt files in it")
    if is_name and ("/" in word or "." in word) and os.path.exists(word):  # a text that is one word is no path
        raise DataError(f"{word}: is no .txt file: copy it to one")
    try:
        word.encode()
    except UnicodeEncodeError as error:  # of what the terminal typed in another encoding
        raise DataError(f"{word!a}: is no UTF-8 text: character {error.start + 1}") from error
    return word


def _image_format(run: Finished, value_range: tuple[float, float] | None) -> ImageFormat | None:
    from mlprun.predict.inputs import ImageFormat

    stored = run.state.image_format
    found = value_range or stored["range"]
    return None if found is None else ImageFormat(found[0], found[1], stored["border"])


def _of_test(run: Finished, indices: Sequence[int]) -> _Outputs:
    """Of examples of the test part, each read as an evaluation reads it."""
    from mlprun.data.sequences import concat_batches
    from mlprun.predict.inputs import shortened

    assert run.parts is not None
    normalizer = run.parts.normalizer
    batches = _test_batches(run, indices, normalizer)
    outputs, targets = run.learner.predict(batches)
    inputs = concat_batches(batches).inputs
    names = [f"test {index}" for index in indices]
    if (tokenizer := run.parts.tokenizer) is not None:
        texts = [tokenizer.decode(ids) for ids in inputs.tolist()]
        names = [f"{name}: {shortened(text)}" for name, text in zip(names, texts, strict=True)]
    return _Outputs(names, inputs, outputs, targets, [()] * len(indices), normalizer)


def _test_batches(run: Finished, indices: Sequence[int], normalizer: Normalizer) -> list[Batch]:
    from torch.utils.data import IterableDataset

    from mlprun.data.batches import EvalBatches
    from mlprun.data.nested import Batch
    from mlprun.data.parts import size
    from mlprun.job.build_data import build_eval_batches

    assert run.parts is not None
    part = run.parts.test
    if not isinstance(part, IterableDataset):
        _check_indices(indices, size(part) or 0)
        return list(EvalBatches(part, 256, normalizer, run.where, indices=indices, targets=run.learner.targets))
    count, found = 0, dict[int, Batch]()
    for batch in build_eval_batches(run.config, part, run.parts, run.where, run.task):
        inside = {i for i in indices if count <= i < count + len(batch.targets)}
        found |= {i: Batch(batch.inputs[i - count, None], batch.targets[i - count, None]) for i in inside}
        count += len(batch.targets)
        if len(found) == len({*indices}):
            break
    _check_indices([i for i in indices if i not in found], count)
    return [found[i] for i in indices]


def _check_indices(indices: Sequence[int], count: int) -> None:
    for index in indices:
        if not 0 <= index < count:
            raise ConfigError("--index", index, f"the test part has {count:,} examples", f"choose 0 to {count - 1}")


def _pixels(scaled: torch.Tensor, normalizer: Normalizer, known: ImageFormat | None) -> torch.Tensor:
    """Images from 0 (black) to 1; where nobody says what black is, by each one's own smallest and largest value."""
    raw = normalizer.inverse(scaled)
    if known is not None:
        return ((raw - known.low) / (known.high - known.low)).clamp(0, 1)
    low, high = raw.amin((1, 2, 3), keepdim=True), raw.amax((1, 2, 3), keepdim=True)
    return (raw - low) / (high - low).clamp(min=1e-12)
