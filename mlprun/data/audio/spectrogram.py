"""Log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlprun.data.audio.mel import Frames

Samples = npt.NDArray[np.float32]
FLOOR = 1e-10  # of the power: -100 decibels
SPECTRUM_VALUES = 2**23  # transformed together: 32 MiB


def log_mel(clips: Tensor, frames: Frames) -> Tensor:
    """Log-mel spectrograms in decibels: float32 (N, num_samples) from -1 to 1 -> float32 (N, 1, num_mels, num_frames).

    A sine from -1 to 1 peaks near 0, and -100 is the floor. The power of the FFT of each Hann window,
    `|Σ w[n] x[n] e^(-iωn)|² / (Σ w[n] / 2)²`, summed in triangles of height 1 evenly spaced in mel (`mel_filters`),
    then `10 log10(max(power, 1e-10))`. After Davis & Mermelstein, IEEE Trans. ASSP 28(4), 1980, without the cosine
    transform. Row 0 is the highest band, so that pictures of inputs or filters have the low notes at the bottom.
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


def features(clips: Iterator[Samples], count: int, frames: Frames) -> Tensor:
    """`log_mel` of `count` clips, (count, 1, num_mels, num_frames), a few at a time: all at once would not fit."""
    features = torch.empty(count, *frames.shape)
    at_once = max(1, SPECTRUM_VALUES // frames.num_samples)
    for start in range(0, count, at_once):
        some = torch.from_numpy(np.stack(list(islice(clips, at_once))))
        features[start : start + len(some)] = log_mel(some, frames)
    return features
