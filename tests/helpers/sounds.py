"""Tones, their spectrograms, and WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from scipy.io import wavfile

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import log_mel

AUDIO = {
    "sample_rate": 8000, "seconds": 0.5, "num_mels": 32,
    "window_ms": 25.0, "hop_ms": 10.0, "f_min": 20.0, "f_max": None,
}  # fmt: skip
FRAMES = Frames(**AUDIO)


def sine(frequency: float, rate: int = 8000, seconds: float = 0.5, amplitude: float = 0.5) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def features(clip: np.ndarray, frames: Frames = FRAMES) -> torch.Tensor:
    """(num_mels, num_frames), the lowest band first."""
    return log_mel(torch.from_numpy(clip)[None], frames)[0, 0].flip(0)


def loudest(clip: np.ndarray, frames: Frames = FRAMES) -> float:
    """Hz, the middle of the band that is loudest on average."""
    return frames.edges()[int(features(clip, frames).mean(1).argmax()) + 1]


def save(file: Path, sound: np.ndarray, rate: int = 8000) -> Path:
    """`sound` from -1 to 1, as 16 bits."""
    file.parent.mkdir(parents=True, exist_ok=True)
    wavfile.write(file, rate, (sound * 32767).astype(np.int16))
    return file
