"""Sounds drawn from a formula, for a first look at sound without a file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import log_mel
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError

GLIDES = ("rising", "falling", "hill", "valley")
LONGEST, SHORTEST = 0.5, 0.25  # of a note, as a share of the clip
PITCHES = 0.08, 0.6  # of the middle of a note, as a share of the highest frequency there is


def tones(
    audio: Mapping[str, Any],
    num_samples: int = 2000,
    octaves: float = 0.8,
    snr_db: float = 5.0,
    seed: int = 0,
) -> Source:
    """One note a clip, whose pitch rises, falls, rises and falls (hill), or falls and rises (valley), in white noise.

    Of a note that goes from pitch a to b, the four classes hold the same pitches for the same time: the spectrum
    of the whole clip says nothing of the class, only the picture does. Pitch, length, onset, phase and
    level are random, so that no place of the picture has a meaning of its own either.

    Args:
        audio: the keys of `data.audio`.
        num_samples: number of clips, of the four classes in turn.
        octaves: how far the pitch goes, > 0.
        snr_db: power of the note over that of the noise in the whole band, decibels.
        seed: the same seed gives the same bits.

    Returns:
        Inputs float32 (num_samples, 1, num_mels, num_frames), see `log_mel`.

    Raises:
        ConfigError: an argument has a value that cannot work; its `key` names the argument.
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
    return Source(train=Examples(features, targets), class_names=GLIDES)


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
    # 0 to 1 while the note lasts
    place = ((np.arange(frames.num_samples) / frames.num_samples - onset) / length).astype(np.float32)
    there = (place >= 0) & (place < 1)
    up_and_down = 1 - np.abs(2 * place - 1)
    kind = classes[:, None]
    height = np.where(kind < 2, place, up_and_down)  # 0 to 1, each value for the same time
    height = np.where(kind % 2 == 0, height, 1 - height).clip(0, 1)
    frequency = middle * 2 ** (octaves * (height - 0.5))
    angle = phase + np.cumsum(frequency, 1) * (2 * np.pi / frames.sample_rate)
    fade = np.minimum(1, 20 * np.minimum(place, 1 - place)).clip(0, 1)  # no click at the ends
    noise = rng.standard_normal(place.shape, dtype=np.float32) * 10 ** (-snr_db / 20) / np.sqrt(2)
    clips: np.ndarray[Any, Any] = 0.2 * level * (np.sin(angle) * fade * there + noise)
    return clips.astype(np.float32)
