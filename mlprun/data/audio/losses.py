"""What of the files no example holds: reported once, when they are read."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from mlprun.data.audio.mel import Frames
from mlprun.data.audio.wav import Clip
from mlprun.formatting import first_few, format_share

log = logging.getLogger("mlprun")


def warn_of_losses(paths: Sequence[str], clips: Sequence[Clip], frames: Frames) -> None:
    """Warn of sounds that are cut, and of rates at which frequencies are lost or missing.

    Args:
        clips: of `paths`; their samples are not read.
    """
    nyquist = frames.sample_rate / 2
    longer = [i for i, clip in enumerate(clips) if (clip.seconds - frames.seconds) * frames.sample_rate >= 1]
    if longer:
        longest = max(clips[i].seconds for i in longer)
        cut = sum(clips[i].seconds - frames.seconds for i in longer) / sum(clip.seconds for clip in clips)
        head = f"are longer than data.audio.seconds={frames.seconds:g} (up to {longest:.4g} s)"
        _warn(
            paths, longer, f"{head}: only the middle of each is used, and {format_share(cut)} of all sound is cut off"
        )
    faster = [i for i, clip in enumerate(clips) if clip.rate > frames.sample_rate]
    if faster:
        lost = sum(clips[i].lost_power for i in faster) / len(faster)
        head = f"have up to {max(clips[i].rate for i in faster):,} samples per second"
        rest = f"frequencies above {nyquist:g} Hz, {format_share(lost)} of their power, are lost"
        _warn(paths, faster, f"{head}: with data.audio.sample_rate={frames.sample_rate} {rest}")
    edges = frames.edges()[: frames.num_mels]
    slower = [i for i, clip in enumerate(clips) if clip.rate / 2 <= edges[-1]]
    if slower:
        rate = min(clips[i].rate for i in slower)
        empty = sum(edge >= rate / 2 for edge in edges)
        head = f"have down to {rate:,} samples per second, so nothing above {rate / 2:g} Hz"
        remedy = f"data.audio.sample_rate={rate} or data.audio.f_max={rate / 2:g} leaves none empty"
        _warn(paths, slower, f"{head}: {empty} of their {frames.num_mels} mel bands are empty; {remedy}")


def _warn(paths: Sequence[str], indices: Sequence[int], problem: str) -> None:
    names = first_few([paths[i] for i in indices], 2)
    log.warning("%d of %d sounds %s (%s)", len(indices), len(paths), problem, names)
