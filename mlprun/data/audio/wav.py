"""WAV files of any rate and format."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import Samples
from mlprun.errors import DataError

RATES = 1_000, 400_000  # Hz, of files; others mean a damaged header, and resampling them would take for ever


class Clip(NamedTuple):
    """A clip of a file, float32 (num_samples,) from -1 to 1, and what of the file it leaves out."""

    samples: Samples
    seconds: float  # length of the file
    rate: int  # samples per second of the file
    lost_power: float  # share of the power above half of `data.audio.sample_rate`, which no clip has


def read_clip(path: str | os.PathLike[str], frames: Frames) -> Clip:
    """Read a WAV file as a clip.

    Reads PCM of 8, 16, 24, 32 or 64 bits and floats; averages the channels, resamples, and cuts or pads both ends.

    Raises:
        DataError: the file is missing, of another format, truncated, empty, or holds NaN.
    """
    from scipy.io import wavfile
    from scipy.signal import resample_poly

    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rate, stored = wavfile.read(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = "ffmpeg -i IN -c:a pcm_s16le OUT.wav converts most formats"
        raise DataError(f"{path}: cannot be read as a WAV file: {reason}\n  {remedy}") from error
    if any("prematurely" in str(warning.message) for warning in caught):
        raise DataError(
            f"{path}: the file ends before the sound that it announces: truncated, or written through a pipe"
            "\n  ffmpeg -i IN -c:a pcm_s16le OUT.wav keeps what is there"
        )
    if not RATES[0] <= rate <= RATES[1]:
        raise DataError(f"{path}: {rate} samples per second: the header is damaged")
    if stored.size == 0:
        raise DataError(f"{path}: holds no sound: it is 0 seconds long")
    length = len(stored)
    sound = _middle(stored, math.ceil(frames.seconds * rate))  # first of all: files may be hours long
    if stored.dtype == np.uint8:  # the one format whose zero is not 0
        mono = (sound.astype(np.float64) - 128) / 128
    elif np.issubdtype(stored.dtype, np.integer):
        mono = sound.astype(np.float64) / 2.0 ** (8 * stored.dtype.itemsize - 1)
    else:
        mono = sound.astype(np.float64)
    mono = mono.reshape(len(mono), -1).mean(1)
    if not np.isfinite(mono).all():
        raise DataError(f"{path}: holds NaN or infinite values")
    lost_power = 0.0
    if rate != frames.sample_rate:
        common, power = math.gcd(rate, frames.sample_rate), np.square(mono).mean()
        mono = resample_poly(mono, frames.sample_rate // common, rate // common)
        if rate > frames.sample_rate and power > 0:
            lost_power = max(0.0, 1 - float(np.square(mono).mean() / power))
    mono = _middle(mono, frames.num_samples)
    before = (frames.num_samples - len(mono)) // 2
    samples = np.pad(mono, (before, frames.num_samples - len(mono) - before)).astype(np.float32)
    return Clip(samples, length / rate, rate, lost_power)


def _middle(sound: npt.NDArray[Any], count: int) -> npt.NDArray[Any]:
    """At most `count` samples, from the middle."""
    start = max(0, len(sound) - count) // 2
    return sound[start : start + count]
