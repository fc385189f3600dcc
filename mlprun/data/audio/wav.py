"""WAV files of any rate and format."""

from __future__ import annotations

import math
import os
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import Samples
from mlprun.errors import DataError

RATES = 1_000, 400_000  # Hz, of files; others mean a damaged header, and resampling them would take for ever


def read_clip(path: str | os.PathLike[str], frames: Frames) -> tuple[Samples, float]:
    """Read a WAV file as a clip, float32 (num_samples,) from -1 to 1; also returns the seconds of the file.

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
