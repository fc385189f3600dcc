"""Synthetic tones, a first audio data set that needs no file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mlprun.data.audio.inputs import Spectrograms
from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import log_mel
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError

GLIDES = ("rising", "falling", "hill", "valley")
LONGEST, SHORTEST = 0.5, 0.25  # length of a note, as a share of the clip
PITCHES = 0.08, 0.6  # middle of a note, as a share of the Nyquist frequency


def tones(
    audio: Mapping[str, Any], num_samples: int = 2000, octaves: float = 0.8, snr_db: float = 5.0, seed: int = 0
) -> Source:
    """One note per clip, in white noise: its pitch rises, falls, rises then falls (hill), or falls then rises (valley).

    All classes contain the same pitches for the same time, so the spectrum of a whole clip does not determine the
    class. Pitch, length, onset, phase and level are random, so no single place in the spectrogram does either.

    Args:
        audio: the keys of `data.audio`.
        num_samples: number of clips, of the four classes in turn.
        octaves: range of the pitch, in (0, 2].
        snr_db: power of the note over that of the noise in the whole band, decibels.

    Returns:
        inputs float32 (num_samples, 1, num_mels, num_frames), see `log_mel`.
    """
    if num_samples < len(GLIDES):
        raise ConfigError("num_samples", num_samples, f"must be {len(GLIDES)} or more: one of each class")
    if not 0 < octaves <= 2:
        raise ConfigError("octaves", octaves, "must be above 0 and at most 2")
    frames = Frames(**audio)
    rng = np.random.default_rng(seed)
    targets = torch.arange(num_samples) % len(GLIDES)
    features = torch.empty(num_samples, *frames.shape)
    for start in range(0, num_samples, 1000):
        classes = targets[start : start + 1000].numpy()
        clips = _clips(rng, classes, frames, octaves, snr_db)
        features[start : start + len(classes)] = log_mel(torch.from_numpy(clips), frames)
    return Source(train=Examples(features, targets), class_names=GLIDES, inputs=Spectrograms())


def _clips(
    rng: np.random.Generator, classes: np.ndarray[Any, Any], frames: Frames, octaves: float, snr_db: float
) -> np.ndarray[Any, Any]:
    """float32 (len(classes), num_samples)."""
    column = (len(classes), 1)
    length = rng.uniform(SHORTEST, LONGEST, column)
    onset = rng.uniform(0, 1 - length)
    middle = frames.sample_rate / 2 * np.exp(rng.uniform(math.log(PITCHES[0]), math.log(PITCHES[1]), column))
    level = 10 ** rng.uniform(-1.5, 0, column)
    phase = rng.uniform(0, 2 * np.pi, column)
    # 0 to 1 during the note
    time = ((np.arange(frames.num_samples) / frames.num_samples - onset) / length).astype(np.float32)
    is_on = (time >= 0) & (time < 1)
    up_and_down = 1 - np.abs(2 * time - 1)
    kind = classes[:, None]
    height = np.where(kind < 2, time, up_and_down)  # 0 to 1, each value for the same time
    height = np.where(kind % 2 == 0, height, 1 - height).clip(0, 1)
    frequency = middle * 2 ** (octaves * (height - 0.5))
    angle = phase + np.cumsum(frequency, 1) * (2 * np.pi / frames.sample_rate)
    fade = np.minimum(1, 20 * np.minimum(time, 1 - time)).clip(0, 1)  # no click at the ends
    noise = rng.standard_normal(time.shape, dtype=np.float32) * 10 ** (-snr_db / 20) / np.sqrt(2)
    clips: np.ndarray[Any, Any] = 0.2 * level * (np.sin(angle) * fade * is_on + noise)
    return clips.astype(np.float32)
