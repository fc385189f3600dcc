"""Spectrograms: what a tone, silence and a clip of any length become."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlprun.data.audio.mel import Frames, hertz, mel
from mlprun.data.audio.spectrogram import FLOOR, log_mel, mel_filters
from tests.helpers.sounds import AUDIO, FRAMES, features, loudest, sine


@given(st.floats(0, 20000))
def test_mel_and_hertz_are_inverse_and_1000_hz_are_1000_mel(frequency):
    assert hertz(mel(frequency)) == pytest.approx(frequency, abs=1e-6)
    assert mel(1000) == pytest.approx(1000, abs=0.1)


@pytest.mark.parametrize(
    ("changed", "num_samples", "num_frames"),
    [
        ({}, 4000, 48),  # the last window that lies wholly inside begins at 47 · 80 + 200 = 3960
        ({"seconds": 1.0, "sample_rate": 16000}, 16000, 98),
        ({"seconds": 0.025}, 200, 1),
        ({"hop_ms": 25.0}, 4000, 20),
    ],
)
def test_the_frames_of_a_clip_are_known_without_torch(changed, num_samples, num_frames):
    frames = Frames(**{**AUDIO, **changed})
    assert (frames.num_samples, frames.num_frames) == (num_samples, num_frames)
    assert log_mel(torch.zeros(2, num_samples), frames).shape == (2, *frames.shape)


@settings(max_examples=30)
@given(
    sample_rate=st.sampled_from([8000, 16000, 22050, 44100]), num_mels=st.integers(1, 128), f_min=st.floats(0, 300),
    window_ms=st.floats(15, 60),
)  # fmt: skip
def test_the_filters_cover_the_spectrum_and_none_is_empty(sample_rate, num_mels, f_min, window_ms):
    frames = Frames(
        **{**AUDIO, "sample_rate": sample_rate, "num_mels": num_mels, "f_min": f_min, "window_ms": window_ms}
    )
    filters = mel_filters(frames)
    assert filters.shape == (frames.fft_size // 2 + 1, num_mels)
    assert (filters.sum(0) > 0).all()
    bins = torch.arange(len(filters)) * sample_rate / frames.fft_size
    edges = frames.edges()
    # two neighbours overlap so that each frequency between the middles of the first and last band counts once
    inside = (bins >= edges[1]) & (bins <= edges[-2])
    assert torch.allclose(filters[inside].sum(1), torch.ones(int(inside.sum())), atol=1e-4)
    assert float(filters[(bins <= edges[0]) | (bins >= edges[-1])].sum()) < 1e-6
    assert float(filters.min()) >= 0
    assert float(filters.max()) <= 1


@settings(max_examples=30)
@given(st.floats(100, 3800))
def test_a_pure_tone_is_in_its_band_all_the_time(frequency):
    assert abs(mel(loudest(sine(frequency))) - mel(frequency)) <= 0.51 * (mel(4000) - mel(20)) / 33 + 10
    assert float(features(sine(frequency)).amax(0).std()) < 1.0  # dB from frame to frame


def test_decibels_are_of_full_scale_and_fall_with_the_level():
    frequency = FRAMES.edges()[16]  # the middle of a band
    peak = features(sine(frequency, amplitude=1.0)).max().item()
    assert peak == pytest.approx(0, abs=4)  # the window spreads a sine over some bins of the band
    assert features(sine(frequency, amplitude=0.1)).max().item() == pytest.approx(peak - 20, abs=0.01)


def test_the_top_row_is_the_highest_band_as_in_a_picture():
    picture = log_mel(torch.from_numpy(sine(300))[None], FRAMES)[0, 0]
    assert picture.mean(1).argmax() > 16


def test_silence_is_finite():
    assert (features(np.zeros(4000, np.float32)) == 10 * math.log10(FLOOR)).all()


def test_many_clips_are_what_each_alone_would_be(monkeypatch):
    clips = torch.randn(7, 4000, generator=torch.Generator().manual_seed(0))
    together = log_mel(clips, FRAMES)
    monkeypatch.setattr("mlprun.data.audio.spectrogram.SPECTRUM_VALUES", 2 * FRAMES.num_frames * FRAMES.fft_size)
    assert torch.allclose(log_mel(clips, FRAMES), together, atol=1e-3)
    assert torch.allclose(torch.cat([log_mel(clip[None], FRAMES) for clip in clips]), together, atol=1e-3)
