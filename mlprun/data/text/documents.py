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

    The folders of splits are those of `list_parts`. Without them, a share of each class of `root/CLASS/*.txt` becomes
    the test part.

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
    _, names, train_files, test_files, val_files, fingerprints = list_parts(root, "texts", classes)
    if test_files is None:
        targets = torch.tensor(train_files.targets)
        rest, chosen = hold_out_texts(len(targets), targets, test_fraction, split_seed)
        train_files, test_files = train_files.take(rest), train_files.take(chosen)

    in_memory = hold == "memory"
    texts: Iterable[str] = map(read_text, train_files.paths)
    texts = list(texts) if in_memory else texts
    tokenizer = tokenizer_of(texts, text)
    max_length = text["max_length"]

    parts = {"train": train_files, "test": test_files} | ({"val": val_files} if val_files else {})
    read: dict[str, Part] = {}
    if in_memory:
        lengths, unknown = [], []
        for part, files in parts.items():
            of_part = texts if part == "train" else map(read_text, files.paths)
            ids, lengths_of_part = encode_with_lengths(of_part, tokenizer, max_length)
            read[part] = Examples(ids, torch.tensor(files.targets))
            lengths.append(lengths_of_part)
            unknown.append(share_unknown(ids))
        warn_of_cut(torch.cat(lengths), max_length, [path for files in parts.values() for path in files.paths])
        warn_of_unknown(unknown[0], tokenizer, text)
    else:
        lazy = {part: TextFiles(files, tokenizer, max_length) for part, files in parts.items()}
        read |= lazy
        if hold == "stream":
            read["train"] = TextStream(lazy["train"])
    return Source(
        read["train"],
        read["test"],
        val=read.get("val"),
        class_names=tuple(names),
        fingerprints=fingerprints,
        inputs=TokenIds(tokenizer),
    )
