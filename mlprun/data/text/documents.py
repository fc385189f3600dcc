"""Documents with a class: folders of text files, in memory, read lazily or as a stream."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset

from mlprun import randomness
from mlprun.data.folders import Files, list_parts
from mlprun.data.source import Examples, Part, Source
from mlprun.data.text.files import Text, read_text, tokenizer_of
from mlprun.data.text.inputs import TokenIds
from mlprun.data.text.language_model import hold_out_texts
from mlprun.data.text.losses import share_unknown, warn_of_cut, warn_of_unknown
from mlprun.data.text.tokenizer import Tokenizer, encode_all, encode_with_lengths
from mlprun.errors import ConfigError


class TextFiles(Dataset[tuple[Tensor, int]]):
    """Text files that are read and tokenized one by one, when needed.

    An item is (int32 ids of shape (max_length,), class). `targets`, int64 of shape (N,), are readable without opening
    a file.
    """

    def __init__(self, files: Files, tokenizer: Tokenizer, max_length: int) -> None:
        self.paths, self.targets = files.paths, torch.tensor(files.targets)
        self.tokenizer, self.max_length = tokenizer, max_length

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        ids = encode_all([read_text(self.paths[index])], self.tokenizer, self.max_length)
        return ids[0], int(self.targets[index])


class TextStream(IterableDataset[tuple[Tensor, int]]):
    """The same examples as a stream, in an order that is shuffled once and the same in every pass."""

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
    """The `.txt` files under `root`, one folder per class.

    `root/train/CLASS/*.txt` is the training part and `root/test/CLASS/*.txt` (else `root/val`) the test part. Without
    `root/train`, a share of each class of `root/CLASS/*.txt` becomes the test part.

    Args:
        text: `data.text`.
        hold: `memory` tokenizes all texts at the start; `files` reads and tokenizes a file each time it is needed,
            `stream` one after another. The ids are the same.
        classes: names of the class folders to use, in this order; None: all, sorted.
        test_fraction: share of the test part if `root` has none.
        split_seed: chooses its texts.

    Returns:
        Examples of int32 ids (N, max_length) and int64 classes (N,), or a `TextFiles` or `TextStream` of the same.

    Raises:
        ConfigError: a value of `data.text` or `hold` that cannot work.
        DataError: as `list_parts`, or a file is not UTF-8.
    """
    if hold not in ("memory", "files", "stream"):
        raise ConfigError("hold", hold, "not known", "choose from: memory, files, stream")
    _, names, train_files, test_files, fingerprints = list_parts(root, "texts", classes)
    if test_files is None:
        targets = torch.tensor(train_files.targets)
        rest, chosen = hold_out_texts(len(targets), targets, test_fraction, split_seed)
        train_files, test_files = train_files.take(rest), train_files.take(chosen)

    in_memory = hold == "memory"
    texts: Iterable[str] = map(read_text, train_files.paths)
    texts = list(texts) if in_memory else texts
    tokenizer = tokenizer_of(texts, text)
    max_length = text["max_length"]
    train: Part
    test: Part
    if in_memory:
        test_ids, test_lengths = encode_with_lengths(map(read_text, test_files.paths), tokenizer, max_length)
        train_ids, lengths = encode_with_lengths(texts, tokenizer, max_length)
        train = Examples(train_ids, torch.tensor(train_files.targets))
        test = Examples(test_ids, torch.tensor(test_files.targets))
        warn_of_cut(torch.cat([lengths, test_lengths]), max_length, train_files.paths + test_files.paths)
        warn_of_unknown(share_unknown(train_ids), tokenizer, text)
    else:
        files, test = (TextFiles(part, tokenizer, max_length) for part in (train_files, test_files))
        train = TextStream(files) if hold == "stream" else files
    class_names = tuple(names)
    return Source(train, test, class_names=class_names, fingerprints=fingerprints, inputs=TokenIds(tokenizer))
