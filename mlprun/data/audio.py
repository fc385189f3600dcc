"""Sounds: WAV files as log-mel spectrograms, held in memory.

A clip is brought to `data.audio.sample_rate` and `data.audio.seconds`. Of a longer one the middle is kept, a shorter
one gets silence on both sides: what was in the middle of the recording is in the middle of the picture either way,
and nothing is drawn at random, so that a file always gives the same features.
"""

from __future__ import annotations

import hashlib
import math
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlprun import seeding
from mlprun.data.folders import class_folders, listing, part_folders
from mlprun.data.mel import Frames
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError

Samples = npt.NDArray[np.float32]

FLOOR = 1e-10  # power; decibels are -100 and more
RATES = 1_000, 400_000  # Hz, of files; what lies beyond is a damaged header, and resampling it would take for ever
SPECTRUM_VALUES = 2**23  # of the windows that are transformed together: 32 MiB
LISTS = {"test": "testing_list.txt", "val": "validation_list.txt"}  # of Speech Commands


# ------------------------------------------------------------------------------------------------ features


def log_mel(clips: Tensor, frames: Frames) -> Tensor:
    """Log-mel spectrograms in decibels, where a sine from -1 to 1 peaks near 0, and -100 is the floor.

    The power of the FFT of each Hann window, `|Σ w[n] x[n] e^(-iωn)|² / (Σ w[n] / 2)²`, summed in triangles of height
    1 that stand evenly apart in mel (`mel_filters`), then `10 log10(max(power, 1e-10))`. After Davis & Mermelstein,
    IEEE Trans. ASSP 28(4), 1980, without the cosine transform. Row 0 is the highest band, as row 0 of a picture is its
    top: all that draws inputs or filters as pictures has the low notes at the bottom.

    Args:
        clips: float32 (N, num_samples), from -1 to 1.
        frames: what they are cut into.

    Returns:
        float32 (N, 1, num_mels, num_frames).
    """
    window = torch.hann_window(frames.window, periodic=True)
    window = window / (window.sum() / 2)
    filters = mel_filters(frames).flip(1)
    features = torch.empty(len(clips), *frames.shape)
    at_once = max(1, SPECTRUM_VALUES // (frames.num_frames * frames.fft_size))
    for start in range(0, len(clips), at_once):
        windows = clips[start : start + at_once].unfold(1, frames.window, frames.hop) * window
        spectrum = torch.fft.rfft(windows, n=frames.fft_size)
        power = (spectrum.real.square() + spectrum.imag.square()) @ filters
        features[start : start + at_once, 0] = power.clamp(min=FLOOR).log10().mul(10).transpose(1, 2)
    return features


def mel_filters(frames: Frames) -> Tensor:
    """The triangles: float32 (fft_size // 2 + 1, num_mels), weights of each FFT bin in each band, lowest band first."""
    bins = torch.arange(frames.fft_size // 2 + 1, dtype=torch.float64) * frames.sample_rate / frames.fft_size
    edges = torch.tensor(frames.edges(), dtype=torch.float64)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins[:, None] - left) / (centre - left), (right - bins[:, None]) / (right - centre)
    return torch.minimum(rising, falling).clamp(min=0).float()


def _features(clips: Iterator[Samples], count: int, frames: Frames) -> Tensor:
    """(count, 1, num_mels, num_frames): the clips are taken by and by, for all at once would not fit."""
    features = torch.empty(count, *frames.shape)
    at_once = max(1, SPECTRUM_VALUES // frames.num_samples)
    for start in range(0, count, at_once):
        some = torch.from_numpy(np.stack(list(islice(clips, at_once))))
        features[start : start + len(some)] = log_mel(some, frames)
    return features


# --------------------------------------------------------------------------------------------------- files


def read_clip(path: str | os.PathLike[str], frames: Frames) -> tuple[Samples, float]:
    """The sound in a WAV file as a clip: one channel (the mean of several), resampled, cut or filled up.

    PCM of 8, 16, 24, 32 or 64 bits and floats are read; whole numbers become values from -1 to 1.

    Returns:
        float32 (num_samples,), and the seconds that the file has.

    Raises:
        DataError: there is no such file, it is no WAV file of these, it is cut off, or empty, or holds NaN.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            rate, stored = wavfile.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # what a damaged file makes a decoder raise is open-ended
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{path}: cannot be read as a WAV file: {reason}\n  ffmpeg -i IN -c:a pcm_s16le OUT.wav makes one of most"
        ) from error
    if any("prematurely" in str(warning.message) for warning in said):
        raise DataError(
            f"{path}: the file ends before the sound that it announces: cut off, or written through a pipe"
            "\n  ffmpeg -i IN -c:a pcm_s16le OUT.wav keeps what is there"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path}: {rate} samples a second: the header is damaged")
    if stored.size == 0:
        raise DataError(f"{path}: holds no sound: it is 0 seconds long")
    length = len(stored)
    sound = _middle(stored, math.ceil(frames.seconds * rate))  # before all else: files may be hours long
    if stored.dtype == np.uint8:  # the one format that has its zero elsewhere
        mono = (sound.astype(np.float64) - 128) / 128
    elif np.issubdtype(stored.dtype, np.integer):
        mono = sound.astype(np.float64) / 2.0 ** (8 * stored.dtype.itemsize - 1)
    else:
        mono = sound.astype(np.float64)
    mono = mono.reshape(len(mono), -1).mean(1)
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: holds NaN or infinite values")
    if rate != frames.sample_rate:
        common = math.gcd(rate, frames.sample_rate)
        mono = resample_poly(mono, frames.sample_rate // common, rate // common)
    mono = _middle(mono, frames.num_samples)
    before = (frames.num_samples - len(mono)) // 2
    return np.pad(mono, (before, frames.num_samples - len(mono) - before)).astype(np.float32), length / rate


def _middle(sound: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """At most `count` samples, from the middle."""
    start = max(0, len(sound) - count) // 2
    return sound[start : start + count]


def audio_folder(
    root: str | os.PathLike[str],
    audio: Mapping[str, Any],
    split_by: str = "none",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """The sounds under `root`, one folder a class, as log-mel spectrograms in memory.

    `root/CLASS/*.wav`, or `root/train/CLASS/*.wav` with `root/test/CLASS/*.wav` (or else `root/val`), as images lie in
    `image_folder`; sounds may lie deeper in their class folder. Where Speech Commands' `testing_list.txt` and
    `validation_list.txt` lie in `root`, the files that they name (`WORD/FILE.wav`) are the test and the val part;
    its `_background_noise_` is no class.

    `split_by=name` puts all files of one name into the same part, whatever their class. In CMU ARCTIC the
    same sentences are read by every speaker, in files of the same name: were the files drawn one by one, a sentence
    of the test part would have been heard in training from the other speakers, and be told from them by elimination
    of what is said. By name, no sentence of the val and test parts was ever heard. In Speech Commands a file's name up
    to `_nohash_` is its speaker, so that likewise no speaker is in two parts; it is what those lists do.

    Args:
        root: the folder.
        audio: the keys of `data.audio`.
        split_by: `none` leaves the choice of val and test to mlprun, at random; or `name`.
        val_fraction, test_fraction: shares of the names; `test_fraction` of all, `val_fraction` of the rest.
        seed: chooses the names.

    Returns:
        Inputs float32 (N, 1, num_mels, num_frames), see `log_mel`. The fingerprint is one for each part: of the names
        and sizes of its files, not of their content.

    Raises:
        ConfigError: `split_by` is another word.
        DataError: `root` is missing, has no classes or an empty one, the test part has a class of its own, a list
            names none of the files, there are too few names to split, or a file is no sound WAV file.
    """
    if split_by not in ("none", "name"):
        raise ConfigError("split_by", split_by, "is neither `none` nor `name`")
    frames = Frames(**audio)
    folder, test_folder = part_folders(root, "sounds")
    classes = class_folders(folder, "sounds")
    paths, targets, fingerprint = listing(folder, classes, "sounds")
    fingerprints = {str(folder): fingerprint}
    parts = {"train": _Files(paths, targets)}
    if test_folder:
        test_paths, test_targets, fingerprints[str(test_folder)] = listing(test_folder, classes, "sounds")
        parts["test"] = _Files(test_paths, test_targets)
    elif lists := [Path(folder) / name for name in LISTS.values() if (Path(folder) / name).is_file()]:
        parts = _by_lists(folder, paths, targets)
        fingerprints |= {str(file): f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in lists}
    if split_by == "name":
        if "test" not in parts:
            parts["train"], parts["test"] = _by_name(parts["train"], test_fraction, seed, "test")
        if "val" not in parts:
            parts["train"], parts["val"] = _by_name(parts["train"], val_fraction, seed, "val")
    examples = {name: _read(part, frames) for name, part in parts.items()}
    return Source(
        train=examples["train"],
        test=examples.get("test"),
        val=examples.get("val"),
        # CMU ARCTIC's folders: cmu_us_bdl_arctic is the speaker bdl
        class_names=tuple(name.removeprefix("cmu_us_").removesuffix("_arctic") for name in classes),
        fingerprints=fingerprints,
    )


class _Files(NamedTuple):
    paths: list[str]
    targets: list[int]

    def take(self, indices: Iterable[int]) -> _Files:
        """Those at `indices`."""
        chosen = list(indices)
        return _Files([self.paths[i] for i in chosen], [self.targets[i] for i in chosen])


def _read(files: _Files, frames: Frames) -> Examples:
    clips = (read_clip(path, frames)[0] for path in files.paths)
    return Examples(_features(clips, len(files.paths), frames), torch.tensor(files.targets, dtype=torch.int64))


def _by_lists(folder: Path, paths: Sequence[str], targets: Sequence[int]) -> dict[str, _Files]:
    """train, and test and val where there is a list of its files."""
    files = _Files(list(paths), list(targets))
    names = [Path(path).relative_to(folder).as_posix() for path in paths]
    part_of: dict[str, str] = {}
    for part, name in LISTS.items():
        if (file := folder / name).is_file():
            listed = {line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()}
            here = listed.intersection(names)
            if not here:
                raise DataError(f"{file}: names none of the files in {folder}\n  a line of it is CLASS/FILE.wav")
            part_of |= dict.fromkeys(here, part)
    placed = [part_of.get(name, "train") for name in names]
    if "train" not in placed:
        raise DataError(f"{folder}: {' and '.join(LISTS.values())} name all of its files: none is left to train on")
    return {part: files.take(i for i, its in enumerate(placed) if its == part) for part in ("train", *set(placed))}


def _by_name(files: _Files, fraction: float, seed: int, part: str) -> tuple[_Files, _Files]:
    """What is left, and the part: a share of the names, at least one."""
    own = [Path(path).stem.partition("_nohash_")[0] for path in files.paths]
    names = sorted(set(own))
    if len(names) < 2:
        raise DataError(
            f"{Path(files.paths[0]).parent}: all files that are left for training are called {names[0]}: "
            f"none can be kept for {part}\n  data.dataset.split_by=none splits at random"
        )
    order = torch.randperm(len(names), generator=seeding.generator(seed, part)).tolist()
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = {names[i] for i in order[:count]}
    return tuple(files.take(i for i, name in enumerate(own) if (name in chosen) == there) for there in (False, True))  # type: ignore[return-value]
