"""CIFAR-10 and CIFAR-100, from their binary archives."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mlprun.data.archives import (
    Content,
    check_labels,
    damaged_file,
    find_set,
    image_source,
    missing_files,
    read_content,
    unpack,
)
from mlprun.data.download import download
from mlprun.data.mnist import NUM_PIXELS
from mlprun.data.source import Examples, Source
from mlprun.errors import DataError

log = logging.getLogger("mlprun")


@dataclass(frozen=True)
class CifarSet:
    """Where a CIFAR data set lies and comes from.

    Attributes:
        archive: file name of the published binary version, with its checksum `md5`.
        folder: what the archive unpacks to.
        pickled: torchvision's folder of the pickled version, which is not read.
        train, test: the files of records.
        names: the file of class names, one a line; a folder without it serves as well.
        num_labels: label bytes before the pixels of a record; the last one is the class.
        num_classes: how many classes there are.
        mirrors: base URLs, tried in order.
    """

    archive: str
    md5: str
    folder: str
    pickled: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    num_labels: int
    num_classes: int
    mirrors: tuple[str, ...] = ("https://www.cs.toronto.edu/~kriz/",)


CIFAR_SETS = {
    "cifar10": CifarSet(
        archive="cifar-10-binary.tar.gz",
        md5="c32a1d4ab5d03f1284b67883e8d87530",
        folder="cifar-10-batches-bin",
        pickled="cifar-10-batches-py",
        train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
        test=("test_batch.bin",),
        names="batches.meta.txt",
        num_labels=1,
        num_classes=10,
    ),
    "cifar100": CifarSet(
        archive="cifar-100-binary.tar.gz",
        md5="03b5dce01913d631647c71ecec9e9cb8",
        folder="cifar-100-binary",
        pickled="cifar-100-python",
        train=("train.bin",),
        test=("test.bin",),
        names="fine_label_names.txt",
        num_labels=2,
        num_classes=100,
    ),
}


def cifar(name: str, root: str | os.PathLike[str], mirrors: Sequence[str] | None = None) -> Source:
    """CIFAR-10, or CIFAR-100 with its fine labels, from the binary version (never the pickled one).

    Read from `root/cifar-10-batches-bin` or `root/cifar-100-binary`; else from the archive in `root`,
    which is unpacked there, and downloaded first when it is missing too.

    Args:
        name: `cifar10` or `cifar100`.
        root: the folder that holds the archive or what it unpacks to.
        mirrors: base URLs instead of the published one; the checksum stays.

    Returns:
        50,000 training and 10,000 test examples: inputs uint8 (N, 3, 32, 32), targets int64 (N,).

    Raises:
        ConfigError: no such name.
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    chosen = find_set(name, CIFAR_SETS)
    base = Path(root).expanduser()
    folder, archive = base / chosen.folder, base / chosen.archive
    records = [*chosen.train, *chosen.test]
    wanted = [chosen.names, *records]  # unpacked in this order: where all records lie, the names do too
    if all(os.path.isfile(folder / file) for file in records):
        files = {file: read_content(folder / file) for file in wanted if os.path.isfile(folder / file)}
    else:
        if not os.path.isfile(archive):
            urls = [f"{m.rstrip('/')}/{archive.name}" for m in mirrors or chosen.mirrors]
            try:
                download(urls, archive, chosen.md5)
            except DataError as error:
                put = f"{archive.name}, or the folder {folder.name} that it unpacks to,"
                pickled = base / chosen.pickled
                note = f"{pickled} is not read: it holds pickles, which can run code.\n"
                raise missing_files(
                    name, archive.name, base, error, put, note if os.path.exists(pickled) else ""
                ) from error
        files = unpack(archive, folder, wanted)

    train = _cifar_examples([files[file] for file in chosen.train], chosen)
    test = _cifar_examples([files[file] for file in chosen.test], chosen)
    if (len(train), len(test)) != (50_000, 10_000):
        log.warning(
            "%s holds %d + %d pictures, the published %s 50,000 + 10,000: a selection, or a file cut short",
            *(folder, len(train), len(test), name),
        )
    names: list[str] = []
    if chosen.names in files:
        names = files[chosen.names].data.tobytes().decode(errors="replace").split()
        if len(names) != chosen.num_classes:
            raise damaged_file(folder / chosen.names, f"{chosen.num_classes} class names", len(names))
    return image_source(train, test, names, folder, files.values())


def _cifar_examples(files: Sequence[Content], chosen: CifarSet) -> Examples:
    """The examples of binary CIFAR files: records of label bytes, then a red, a green and a blue plane."""
    length = chosen.num_labels + NUM_PIXELS
    inputs, targets = [], []
    for file in files:
        if len(file.data) == 0 or len(file.data) % length:
            raise damaged_file(file.path, f"records of {length:,} bytes", f"{len(file.data):,} bytes in all")
        records = file.data.reshape(-1, length)
        labels = records[:, chosen.num_labels - 1]
        check_labels(file.path, labels, chosen.num_classes)
        inputs.append(records[:, chosen.num_labels :])
        targets.append(labels.astype(np.int64))
    pixels = np.concatenate(inputs).reshape(-1, 3, 32, 32)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(np.concatenate(targets)))
