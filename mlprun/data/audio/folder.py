"""Folders of WAV files, one per class."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mlprun import randomness
from mlprun.data.audio.inputs import Spectrograms
from mlprun.data.audio.losses import warn_of_losses
from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import Samples, features
from mlprun.data.audio.wav import Clip, read_clip
from mlprun.data.folders import Files, list_parts
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError

LISTS = {"test": "testing_list.txt", "val": "validation_list.txt"}  # of Speech Commands


def audio_folder(
    root: str | os.PathLike[str],
    audio: Mapping[str, Any],
    split_by: str = "none",
    val_fraction: float = 0.1,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Source:
    """The sounds under `root`, one folder per class, as log-mel spectrograms in memory.

    `root/CLASS/*.wav`, or `root/train/CLASS/*.wav` with the other splits, see `list_parts`. If `root` has Speech
    Commands' `testing_list.txt` and `validation_list.txt`, the files that they name (`WORD/FILE.wav`) are the test and
    the val part; its `_background_noise_` is no class.

    `split_by=name` puts all files of one name into the same part, whatever their class. In CMU ARCTIC every speaker
    reads the same sentences, in files of the same name: split file by file, a model would know each sentence of the
    test part from the other speakers, and could find the speaker by elimination. By name, no sentence of val and test
    occurs in training. In Speech Commands a file's name up to `_nohash_` is its speaker, so that no speaker is in two
    parts; its lists do the same.

    Args:
        audio: the keys of `data.audio`.
        split_by: `none` leaves the choice of val and test to mlprun, at random; or `name`.
        val_fraction, test_fraction: shares of the names; `test_fraction` of all, `val_fraction` of the rest.
        seed: chooses the names.

    Returns:
        Inputs float32 (N, 1, num_mels, num_frames), see `log_mel`.

    Raises:
        DataError: as `list_parts`, or a list names none of the files, there are too few names to split, or a WAV file
            is damaged.
    """
    if split_by not in ("none", "name"):
        raise ConfigError("split_by", split_by, "is neither `none` nor `name`")
    frames = Frames(**audio)
    folder, classes, train, test, val, fingerprints = list_parts(root, "sounds")
    parts = {"train": train}
    if test:
        parts |= {"test": test} | ({"val": val} if val else {})
    elif lists := {part: folder / name for part, name in LISTS.items() if (folder / name).is_file()}:
        parts = _by_lists(folder, train, lists)
        fingerprints |= {str(f): f"sha256:{hashlib.sha256(f.read_bytes()).hexdigest()}" for f in lists.values()}
    if split_by == "name":
        for part, fraction in (("test", test_fraction), ("val", val_fraction)):
            if part not in parts:
                parts["train"], parts[part] = _by_name(parts["train"], fraction, seed, part)
    clips: dict[str, Clip] = {}
    examples = {part: _read(files, frames, clips) for part, files in parts.items()}
    warn_of_losses(list(clips), list(clips.values()), frames)
    return Source(
        train=examples["train"],
        test=examples.get("test"),
        val=examples.get("val"),
        # CMU ARCTIC's folders: cmu_us_bdl_arctic is the speaker bdl
        class_names=tuple(name.removeprefix("cmu_us_").removesuffix("_arctic") for name in classes),
        fingerprints=fingerprints,
        inputs=Spectrograms(),
    )


def _read(files: Files, frames: Frames, read: dict[str, Clip]) -> Examples:
    """The examples of the files; their clips, without samples, are added to `read`."""

    def samples_of(path: str) -> Samples:
        clip = read_clip(path, frames)
        read[path] = clip._replace(samples=clip.samples[:0].copy())
        return clip.samples

    clips = map(samples_of, files.paths)
    return Examples(features(clips, len(files.paths), frames), torch.tensor(files.targets, dtype=torch.int64))


def _by_lists(folder: Path, files: Files, lists: Mapping[str, Path]) -> dict[str, Files]:
    """train, and the parts that have a list."""
    names = [Path(path).relative_to(folder).as_posix() for path in files.paths]
    part_of: dict[str, str] = {}
    for part, file in lists.items():
        listed = {line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()}
        if not listed.intersection(names):
            raise DataError(f"{file}: names none of the files in {folder}\n  a line of it is CLASS/FILE.wav")
        part_of |= dict.fromkeys(listed, part)
    indices: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        indices.setdefault(part_of.get(name, "train"), []).append(index)
    if "train" not in indices:
        raise DataError(f"{folder}: {' and '.join(LISTS.values())} name all of its files: none is left to train on")
    return {part: files.take(chosen) for part, chosen in indices.items()}


def _by_name(files: Files, fraction: float, seed: int, part: str) -> tuple[Files, Files]:
    """The rest, and a part with a share of the names, at least one."""
    name_of = [Path(path).stem.partition("_nohash_")[0] for path in files.paths]
    names = sorted(set(name_of))
    if len(names) < 2:
        raise DataError(
            f"{Path(files.paths[0]).parent}: all files that are left for training are called {names[0]}: "
            f"none can be kept for {part}\n  data.dataset.split_by=none splits at random"
        )
    order = torch.randperm(len(names), generator=randomness.generator(seed, part)).tolist()
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = {names[i] for i in order[:count]}
    rest = files.take(i for i, name in enumerate(name_of) if name not in chosen)
    return rest, files.take(i for i, name in enumerate(name_of) if name in chosen)
