"""CIFAR-10 and CIFAR-100, from their binary archives."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlprun.data import archives
from mlprun.data.source import Examples, Source
from mlprun.files import expand_home

log = logging.getLogger("mlprun")
NUM_PIXELS = 3 * 32 * 32  # red, green and blue plane


@dataclass(frozen=True)
class CifarSet:
    """The files of a CIFAR data set.

    Attributes:
        archive: file name of the published binary version, with its checksum `md5`.
        folder: what the archive unpacks to.
        pickled: torchvision's folder of the pickled version, which is not read.
        train, test: the files of records.
        names: the file of class names, one per line; optional.
        num_labels: label bytes before the pixels of a record; the last one is the class.
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


MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
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

    50,000 training and 10,000 test examples: inputs uint8 (N, 3, 32, 32), targets int64 (N,). Read from
    `root/cifar-10-batches-bin` or `root/cifar-100-binary`; else from the archive in `root`, which is unpacked there,
    and downloaded first if it is missing too.

    Args:
        name: `cifar10` or `cifar100`.
        mirrors: base URLs instead of the published one; the checksum stays.

    Raises:
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    chosen = archives.find_set(name, CIFAR_SETS)
    base = expand_home(root)
    folder, archive = base / chosen.folder, base / chosen.archive
    records = [*chosen.train, *chosen.test]
    wanted = [chosen.names, *records]  # unpacked in this order: if all records are there, so are the names
    if all(os.path.isfile(folder / file) for file in records):
        files = {file: archives.read_content(folder / file) for file in wanted if os.path.isfile(folder / file)}
    else:
        if not os.path.isfile(archive):
            pickled = base / chosen.pickled
            note = f"{pickled} is not read: it holds pickles, which can run code.\n" if pickled.exists() else ""
            put = f"{archive.name}, or the folder {folder.name} that it unpacks to,"
            archives.fetch(name, archive, mirrors or MIRRORS, chosen.md5, wanted=put, note=note)
        files = archives.unpack(archive, folder, wanted)

    train = _cifar_examples([files[file] for file in chosen.train], chosen)
    test = _cifar_examples([files[file] for file in chosen.test], chosen)
    if (len(train), len(test)) != (50_000, 10_000):
        log.warning(
            "%s holds %d + %d images, the published %s 50,000 + 10,000: a selection, or a truncated file",
            *(folder, len(train), len(test), name),
        )
    names: list[str] = []
    if chosen.names in files:
        names = files[chosen.names].data.tobytes().decode(errors="replace").split()
        if len(names) != chosen.num_classes:
            raise archives.damaged_file(folder / chosen.names, f"{chosen.num_classes} class names", len(names))
    return archives.image_source(train, test, names, folder, files.values())


def _cifar_examples(files: Sequence[archives.Content], chosen: CifarSet) -> Examples:
    """The examples of binary files: records of label bytes, then a red, a green and a blue plane."""
    length = chosen.num_labels + NUM_PIXELS
    inputs, targets = [], []
    for file in files:
        if len(file.data) == 0 or len(file.data) % length:
            raise archives.damaged_file(file.path, f"records of {length:,} bytes", f"{len(file.data):,} bytes in all")
        records = file.data.reshape(-1, length)
        labels = records[:, chosen.num_labels - 1]
        archives.check_labels(file.path, labels, chosen.num_classes)
        inputs.append(records[:, chosen.num_labels :])
        targets.append(labels.astype(np.int64))
    pixels = np.concatenate(inputs).reshape(-1, 3, 32, 32)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(np.concatenate(targets)))
