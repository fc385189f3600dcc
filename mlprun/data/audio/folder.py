"""Class-named folders of WAV files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mlprun import randomness
from mlprun.data.audio.mel import Frames
from mlprun.data.audio.spectrogram import features
from mlprun.data.audio.wav import read_clip
from mlprun.data.folders import class_folders, listing, part_folders
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
    """The sounds under `root`, one folder a class, as log-mel spectrograms in memory.

    `root/CLASS/*.wav`, or `root/train/CLASS/*.wav` with `root/test/CLASS/*.wav` (or else `root/val`), as images lie in
    `image_folder`; sounds may lie deeper in their class folder. Where Speech Commands' `testing_list.txt` and
    `validation_list.txt` lie in `root`, the files that they name (`WORD/FILE.wav`) are the test and the val part;
    its `_background_noise_` is no class.

    `split_by=name` puts all files of one name into the same part, whatever their class. In CMU ARCTIC the
    same sentences are read by every speaker, in files of the same name: were the files drawn one by one, a sentence
    of the test part would have been heard in training from the other speakers, and be told from them by elimination
    of what is said. By name, no sentence of the val and test parts was ever heard. In Speech Commands a file's name up
    to `_nohash_` is its speaker, so that likewise no speaker is in two parts; it is what those lists do.

    Args:
        root: the folder.
        audio: the keys of `data.audio`.
        split_by: `none` leaves the choice of val and test to mlprun, at random; or `name`.
        val_fraction, test_fraction: shares of the names; `test_fraction` of all, `val_fraction` of the rest.
        seed: chooses the names.

    Returns:
        Inputs float32 (N, 1, num_mels, num_frames), see `log_mel`. The fingerprint is one for each part: of the names
        and sizes of its files, not of their content.

    Raises:
        ConfigError: `split_by` is another word.
        DataError: `root` is missing, has no classes or an empty one, the test part has a class of its own, a list
            names none of the files, there are too few names to split, or a file is no sound WAV file.
    """
    if split_by not in ("none", "name"):
        raise ConfigError("split_by", split_by, "is neither `none` nor `name`")
    frames = Frames(**audio)
    folder, test_folder = part_folders(root, "sounds")
    classes = class_folders(folder, "sounds")
    paths, targets, fingerprint = listing(folder, classes, "sounds")
    fingerprints = {str(folder): fingerprint}
    parts = {"train": _Files(paths, targets)}
    if test_folder:
        test_paths, test_targets, fingerprints[str(test_folder)] = listing(test_folder, classes, "sounds")
        parts["test"] = _Files(test_paths, test_targets)
    elif lists := [Path(folder) / name for name in LISTS.values() if (Path(folder) / name).is_file()]:
        parts = _by_lists(folder, paths, targets)
        fingerprints |= {str(file): f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" for file in lists}
    if split_by == "name":
        if "test" not in parts:
            parts["train"], parts["test"] = _by_name(parts["train"], test_fraction, seed, "test")
        if "val" not in parts:
            parts["train"], parts["val"] = _by_name(parts["train"], val_fraction, seed, "val")
    examples = {name: _read(part, frames) for name, part in parts.items()}
    return Source(
        train=examples["train"],
        test=examples.get("test"),
        val=examples.get("val"),
        # CMU ARCTIC's folders: cmu_us_bdl_arctic is the speaker bdl
        class_names=tuple(name.removeprefix("cmu_us_").removesuffix("_arctic") for name in classes),
        fingerprints=fingerprints,
    )


class _Files(NamedTuple):
    paths: list[str]
    targets: list[int]

    def take(self, indices: Iterable[int]) -> _Files:
        """Those at `indices`."""
        chosen = list(indices)
        return _Files([self.paths[i] for i in chosen], [self.targets[i] for i in chosen])


def _read(files: _Files, frames: Frames) -> Examples:
    clips = (read_clip(path, frames)[0] for path in files.paths)
    return Examples(features(clips, len(files.paths), frames), torch.tensor(files.targets, dtype=torch.int64))


def _by_lists(folder: Path, paths: Sequence[str], targets: Sequence[int]) -> dict[str, _Files]:
    """train, and test and val where there is a list of its files."""
    files = _Files(list(paths), list(targets))
    names = [Path(path).relative_to(folder).as_posix() for path in paths]
    part_of: dict[str, str] = {}
    for part, name in LISTS.items():
        if (file := folder / name).is_file():
            listed = {line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()}
            here = listed.intersection(names)
            if not here:
                raise DataError(f"{file}: names none of the files in {folder}\n  a line of it is CLASS/FILE.wav")
            part_of |= dict.fromkeys(here, part)
    placed = [part_of.get(name, "train") for name in names]
    if "train" not in placed:
        raise DataError(f"{folder}: {' and '.join(LISTS.values())} name all of its files: none is left to train on")
    return {part: files.take(i for i, its in enumerate(placed) if its == part) for part in ("train", *set(placed))}


def _by_name(files: _Files, fraction: float, seed: int, part: str) -> tuple[_Files, _Files]:
    """What is left, and the part: a share of the names, at least one."""
    own = [Path(path).stem.partition("_nohash_")[0] for path in files.paths]
    names = sorted(set(own))
    if len(names) < 2:
        raise DataError(
            f"{Path(files.paths[0]).parent}: all files that are left for training are called {names[0]}: "
            f"none can be kept for {part}\n  data.dataset.split_by=none splits at random"
        )
    order = torch.randperm(len(names), generator=randomness.generator(seed, part)).tolist()
    count = min(max(1, round(fraction * len(names))), len(names) - 1)
    chosen = {names[i] for i in order[:count]}
    return tuple(files.take(i for i, name in enumerate(own) if (name in chosen) == there) for there in (False, True))  # type: ignore[return-value]
