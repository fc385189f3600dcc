"""Sounds are read from WAV files of every usual kind, resampled, and cut or filled up."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from scipy.io import wavfile

from mlprun.data.audio.wav import read_clip
from mlprun.errors import DataError
from tests.helpers.sounds import FRAMES, loudest, save, sine


def pcm24(sound: np.ndarray, rate: int) -> bytes:
    """A WAV file of 24 bits, which scipy reads but does not write."""
    values = (sound * (2**23 - 1)).astype("<i4")
    data = values.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, rate, rate * 3, 3, 24)
    body = b"WAVE" + form + struct.pack("<4sI", b"data", len(data)) + data
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize("kind", ["uint8", "int16", "24 bits", "int32", "float32", "float64", "stereo"])
def test_every_sample_format_gives_the_same_sound(tmp_path, kind):
    file, sound = tmp_path / "a.wav", sine(440)
    if kind == "24 bits":
        file.write_bytes(pcm24(sound, 8000))
    else:
        stored = {
            "uint8": lambda: (128 + 127 * sound).astype(np.uint8),
            "int16": lambda: (32767 * sound).astype(np.int16),
            "int32": lambda: ((2**31 - 1) * sound.astype(np.float64)).astype(np.int32),
            "float32": lambda: sound,
            "float64": lambda: sound.astype(np.float64),
            "stereo": lambda: np.stack([1.5 * sound, 0.5 * sound], 1),
        }[kind]()
        wavfile.write(file, 8000, stored)
    clip, seconds, *_ = read_clip(file, FRAMES)
    assert (clip.dtype, clip.shape, seconds) == (np.float32, (4000,), 0.5)
    assert np.abs(clip - sound).max() < (0.02 if kind == "uint8" else 1e-4)


@pytest.mark.parametrize("rate", [6000, 11025, 16000, 22050, 44100, 48000])
def test_resampling_keeps_a_tone_where_it_is(tmp_path, rate):
    clip, *_ = read_clip(save(tmp_path / "a.wav", sine(1000, rate), rate), FRAMES)
    assert clip.shape == (4000,)
    assert loudest(clip) == loudest(sine(1000))
    assert np.abs(clip[200:-200]).max() == pytest.approx(0.5, abs=0.02)


def test_what_is_above_half_the_sample_rate_is_not_folded_down(tmp_path):
    clip, *_ = read_clip(save(tmp_path / "a.wav", sine(7000, 44100), 44100), FRAMES)
    assert np.abs(clip[200:-200]).max() < 0.01


def test_of_a_long_sound_the_middle_is_kept_and_a_short_one_stands_in_silence(tmp_path):
    clip, seconds, *_ = read_clip(save(tmp_path / "long.wav", np.linspace(0, 1, 24001)), FRAMES)
    assert seconds == pytest.approx(3, abs=1e-3)
    assert (clip[0], clip[-1]) == (pytest.approx(10000 / 24000, abs=1e-3), pytest.approx(14000 / 24000, abs=1e-3))
    clip, *_ = read_clip(save(tmp_path / "short.wav", np.ones(2000)), FRAMES)
    assert np.flatnonzero(clip).tolist() == list(range(1000, 3000))


GOOD = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)


def riff(*chunks: bytes) -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return struct.pack("<4sI", b"RIFF", len(body)) + body


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "cannot be read as a WAV file"),
        (b"ID3\x03 an mp3 that was renamed", "cannot be read as a WAV file"),
        (riff(GOOD)[:30], "cannot be read as a WAV file"),
        (riff(GOOD), "cannot be read as a WAV file"),  # no sound in it at all
        (
            riff(GOOD.replace(b"\x01\0\x01\0", b"\x07\0\x01\0", 1), b"data\x04\0\0\0abcd"),
            "Unknown wave file format: MULAW",
        ),
        (riff(GOOD, b"data\0\0\0\0"), "holds no sound"),
        (
            riff(GOOD, struct.pack("<4sI", b"data", 8000), b"\1\2" * 4000)[:3001],
            "ends before the sound that it announces: truncated, or written through a pipe",
        ),
        (
            riff(struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 7, 14, 2, 16), b"data\x04\0\0\0abcd"),
            "7 samples per second",
        ),
        ("NaN", "NaN or infinite values"),
        ("missing", "cannot be read: No such file"),
    ],
)
def test_a_bad_file_is_one_error_that_names_it(tmp_path, content, said):
    file = tmp_path / "bad.wav"
    if content == "NaN":
        wavfile.write(file, 8000, np.where(np.arange(4000) == 77, np.nan, sine(440)).astype(np.float32))
    elif content != "missing":
        file.write_bytes(content)
    with pytest.raises(DataError, match=rf"bad\.wav: .*{said}"):
        read_clip(file, FRAMES)
