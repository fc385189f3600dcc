"""The number of frames and the bands of log-mel spectrograms. Imports no torch, so that the config layer can use it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mlprun.errors import ConfigError

# The FFT is padded with zeros until every band has a bin of its own; this factor is enough for any bands that a window
# can resolve.
MOST_PADDING = 8


@dataclass(frozen=True)
class Frames:
    """The keys of `data.audio`, and what follows from them.

    Raises:
        ConfigError: values that contradict each other; the config layer checks each by itself.
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
            problem = f"is {self.window} samples at {self.sample_rate} Hz"
            raise ConfigError("data.audio.window_ms", self.window_ms, problem)
        if self.num_samples < self.window:
            raise ConfigError("data.audio.seconds", self.seconds, f"is shorter than a window of {self.window_ms:g} ms")
        if self.highest > self.sample_rate / 2:
            problem = f"sound of {self.sample_rate} samples per second has no such frequency"
            remedy = f"at most half of that, {self.sample_rate / 2:g}, or null for it"
            raise ConfigError("data.audio.f_max", self.f_max, problem, remedy)
        if self.f_min >= self.highest:
            raise ConfigError("data.audio.f_min", self.f_min, f"must be below f_max, {self.highest:g} Hz")
        if self._padding > MOST_PADDING:
            problem = f"windows of {self.window_ms:g} ms cannot resolve so many bands"
            remedy = "use fewer, a longer window, or a larger f_min"
            raise ConfigError("data.audio.num_mels", self.num_mels, problem, remedy)

    @property
    def num_samples(self) -> int:
        """Samples per clip."""
        return round(self.seconds * self.sample_rate)

    @property
    def window(self) -> int:
        """Samples per window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop(self) -> int:
        """Samples from the start of a window to the start of the next."""
        return max(1, round(self.hop_ms * self.sample_rate / 1000))

    @property
    def num_frames(self) -> int:
        """Windows that are wholly inside a clip: its ends are not padded."""
        return 1 + (self.num_samples - self.window) // self.hop

    @property
    def fft_size(self) -> int:
        """The power of two to which zeros fill up a window."""
        return self._shortest_fft * self._padding

    @property
    def highest(self) -> float:
        """Upper end of the highest band in Hz."""
        return self.sample_rate / 2 if self.f_max is None else self.f_max

    @property
    def shape(self) -> tuple[int, int, int]:
        """(1, num_mels, num_frames), the shape of a spectrogram."""
        return 1, self.num_mels, self.num_frames

    def edges(self) -> list[float]:
        """num_mels + 2 frequencies in Hz, evenly spaced in mel; band b begins at b, peaks at b + 1, ends at b + 2."""
        low, high = mel(self.f_min), mel(self.highest)
        return [hertz(low + (high - low) * i / (self.num_mels + 1)) for i in range(self.num_mels + 2)]

    @property
    def _shortest_fft(self) -> int:
        return 1 << max(0, self.window - 1).bit_length()

    @property
    def _padding(self) -> int:
        """A power of two that makes the lowest band, the narrowest, wider than the distance of two bins."""
        edges = self.edges()
        bin_width = self.sample_rate / self._shortest_fft
        return 1 << max(0, math.floor(math.log2(bin_width / (edges[2] - edges[0]))) + 1)


def mel(frequency: float) -> float:
    """Pitch in mel of a frequency in Hz: `2595 log10(1 + f / 700)` (O'Shaughnessy, Speech Communication, 1987)."""
    return 2595 * math.log10(1 + frequency / 700)


def hertz(pitch: float) -> float:
    """Frequency in Hz of a pitch in mel; the inverse of `mel`."""
    return 700 * (10 ** (pitch / 2595) - 1)
