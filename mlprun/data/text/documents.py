"""Documents with a class: folders of text files, in memory, read lazily or as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.folders import class_folders, listing, part_folders
from mlprun.data.source import Examples, Source
from mlprun.data.text.files import Text, read_text, tokenizer_of
from mlprun.data.text.language_model import carve_texts
from mlprun.data.text.tokenizer import PADDING, Tokenizer, encode_all
from mlprun.errors import ConfigError


class TextFiles(Dataset[tuple[Tensor, int]]):
    """Texts that are read and cut into tokens one by one, when asked for.

    An item is (int32 ids of shape (max_length,), int).

    Args:
        paths: the files.
        targets: class indices, int64 of shape (N,); readable without opening a file.
        tokenizer: its vocabulary is made already.
        max_length: tokens of an example.

    Raises:
        DataError: on reading an item, when the file is missing or is not UTF-8.
    """

    def __init__(self, paths: Sequence[str], targets: Tensor, tokenizer: Tokenizer, max_length: int) -> None:
        self.paths, self.targets, self.tokenizer, self.max_length = paths, targets, tokenizer, max_length

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ids = encode_all([read_text(self.paths[index])], self.tokenizer, self.max_length)
        return ids[0], int(self.targets[index])


class TextStream(IterableDataset[tuple[Tensor, int]]):
    """The same examples one after another, in an order that was shuffled once and is the same in every pass."""

    def __init__(self, files: TextFiles) -> None:
        self.files = files
        self.order = torch.randperm(len(files), generator=randomness.generator(0, "text stream")).tolist()

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        return map(self.files.__getitem__, self.order)


def text_folder(
    root: str | os.PathLike[str] | None,
    text: Text,
    hold: str = "memory",
    classes: Sequence[str] | None = None,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Source:
    """The `.txt` files under `root`, one folder a class.

    `root/train/CLASS/*.txt` is the training part and `root/test/CLASS/*.txt` (else `root/val`) the test part. Without
    a `root/train`, `root/CLASS/*.txt` is all there is, and a share of each class becomes the test part.

    Args:
        root: the folder.
        text: `data.text`.
        hold: `memory` cuts all texts into tokens at the start; `files` reads and cuts a file each time it is needed,
            `stream` one after another. The ids are the same.
        classes: names of the class folders that are used, in this order; None: all, sorted.
        test_fraction: share that becomes the test part where there is none.
        split_seed: which texts those are.

    Returns:
        Examples of int32 ids (N, max_length) and int64 classes (N,), or a `TextFiles` or `TextStream` of the same.

    Raises:
        ConfigError: a value of `data.text` or `hold` that cannot work.
        DataError: `root` is missing, has no classes or an empty one, or a file is not UTF-8.
    """
    if hold not in ("memory", "files", "stream"):
        raise ConfigError("hold", hold, "not known", "choose from: memory, files, stream")
    train_folder, test_folder = part_folders(root, "texts")
    names = list(classes) if classes is not None else class_folders(train_folder, "texts")
    paths, labels, fingerprint = listing(train_folder, names, "texts", only=classes is not None)
    fingerprints = {str(train_folder): fingerprint}
    targets = torch.tensor(labels)
    if test_folder:
        found = listing(test_folder, names, "texts", only=classes is not None)
        test_paths, test_targets, fingerprints[str(test_folder)] = found[0], torch.tensor(found[1]), found[2]
    else:
        left, carved = carve_texts(len(paths), targets, test_fraction, split_seed)
        test_paths, test_targets = [paths[i] for i in carved], targets[carved]
        paths, targets = [paths[i] for i in left], targets[left]

    def part(paths: list[str], targets: Tensor, texts: Iterable[str] | None) -> Examples | Dataset[Any]:
        if texts is not None:
            return Examples(encode_all(texts, tokenizer, text["max_length"]), targets)
        return TextFiles(paths, targets, tokenizer, text["max_length"])

    train_texts = [read_text(path) for path in paths] if hold == "memory" else None
    tokenizer = tokenizer_of(train_texts if train_texts is not None else map(read_text, paths), text)
    train = part(paths, targets, train_texts)
    return Source(
        train=TextStream(train) if hold == "stream" and isinstance(train, TextFiles) else train,
        test=part(test_paths, test_targets, map(read_text, test_paths) if hold == "memory" else None),
        class_names=tuple(names),
        fingerprints=fingerprints,
        padding=PADDING,
        tokenizer=tokenizer,
    )
