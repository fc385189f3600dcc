"""Spectrograms as inputs of a model."""

from __future__ import annotations

from dataclasses import dataclass

from mlprun.data.source import Inputs


@dataclass(frozen=True)
class Spectrograms(Inputs):
    """Log-mel spectrograms, (N, 1, num_mels, num_frames): pictures for a model, but not to be mirrored or shifted."""

    section = "audio"
    why_not_augment = "is for images: it would play sound backwards"
