"""The arithmetic of log-mel spectrograms: how many frames, which bands. No torch, so the config layer may ask."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlprun.errors import ConfigError

# The FFT is made longer, by zeros, until every band has a bin of its own; so many times longer is enough for any
# bands that a window can tell apart.
MOST_PADDING = 8


@dataclass(frozen=True)
class Frames:
    """What `data.audio` says, and what follows from it. Its keys are explained there.

    Raises:
        ConfigError: values that do not go together; each alone is checked by the config layer.
    """

    sample_rate: int
    seconds: float
    num_mels: int
    window_ms: float
    hop_ms: float
    f_min: float
    f_max: float | None

    def __post_init__(self) -> None:
        if self.window < 2:
            raise ConfigError(
                "data.audio.window_ms", self.window_ms, f"is {self.window} samples at {self.sample_rate} Hz"
            )
        if self.num_samples < self.window:
            raise ConfigError(
                "data.audio.seconds", self.seconds, f"is shorter than a window of {self.window_ms:g} ms"
            )  # fmt: skip
        if self.highest > self.sample_rate / 2:
            raise ConfigError(
                "data.audio.f_max", self.f_max, f"sound of {self.sample_rate} samples a second has no such frequency",
                f"at most half of that, {self.sample_rate / 2:g}, or null for it",
            )  # fmt: skip
        if self.f_min >= self.highest:
            raise ConfigError("data.audio.f_min", self.f_min, f"must be below f_max, {self.highest:g} Hz")
        if self._padding > MOST_PADDING:
            raise ConfigError(
                "data.audio.num_mels", self.num_mels, f"so many bands cannot be told apart by windows of "
                f"{self.window_ms:g} ms", "use fewer, a longer window, or a larger f_min",
            )  # fmt: skip

    @property
    def num_samples(self) -> int:
        """Of a clip."""
        return round(self.seconds * self.sample_rate)

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples from the start of a window to the start of the next."""
        return max(1, round(self.hop_ms * self.sample_rate / 1000))

    @property
    def num_frames(self) -> int:
        """Windows that lie wholly inside a clip: nothing is made up beyond its ends."""
        return 1 + (self.num_samples - self.window) // self.hop

    @property
    def fft_size(self) -> int:
        """The power of two that a window is filled up to, by zeros."""
        return self._shortest_fft * self._padding

    @property
    def highest(self) -> float:
        """Hz, the upper end of the highest band."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the features of a clip: (1, num_mels, num_frames)."""
        return 1, self.num_mels, self.num_frames

    def edges(self) -> list[float]:
        """num_mels + 2 frequencies in Hz, evenly apart in mel; band b begins at b, peaks at b + 1, ends at b + 2."""
        low, high = mel(self.f_min), mel(self.highest)
        return [hertz(low + (high - low) * i / (self.num_mels + 1)) for i in range(self.num_mels + 2)]

    @property
    def _shortest_fft(self) -> int:
        return 1 << max(0, self.window - 1).bit_length()

    @property
    def _padding(self) -> int:
        """A power of two: by it the lowest band, which is the narrowest, is wider than the bins are apart."""
        edges = self.edges()
        bin_width = self.sample_rate / self._shortest_fft
        return 1 << max(0, math.floor(math.log2(bin_width / (edges[2] - edges[0]))) + 1)


def mel(frequency: float) -> float:
    """Pitch in mel of a frequency in Hz: `2595 log10(1 + f / 700)` (O'Shaughnessy, Speech Communication, 1987)."""
    return 2595 * math.log10(1 + frequency / 700)


def hertz(pitch: float) -> float:
    """Frequency in Hz of a pitch in mel; the inverse of `mel`."""
    return 700 * (10 ** (pitch / 2595) - 1)
