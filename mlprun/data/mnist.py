"""MNIST and its likes, from their IDX files."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from mlprun.data import archives
from mlprun.data.source import Examples, Source
from mlprun.files import expand_home

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxSet:
    """An MNIST-like data set: torchvision's folder for it, base URLs, checksums of the `.gz` files, in their order."""

    folder: str
    mirrors: tuple[str, ...]
    md5: tuple[str, str, str, str]
    class_names: tuple[str, ...]


IDX_SETS = {
    "mnist": IdxSet(
        folder="MNIST",
        mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
        md5=(
            "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "d53e105ee54ea40749a09fcbcd1e9432",
            "9fb629c4189551a2d022fa330f9573f3",
            "ec29112dd5afa0611ce80d1b7f02629c",
        ),
        class_names=tuple("0123456789"),
    ),
    "fashion_mnist": IdxSet(
        folder="FashionMNIST",
        mirrors=("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
        md5=(
            "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "25c81989df183df01b3e8a0aad5dffbe",
            "bef4ecab320f06d8554ea6380940ec79",
            "bb300cfdad3c16e7a12a480ee83cd310",
        ),
        class_names=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
    ),
    "kmnist": IdxSet(
        folder="KMNIST",
        mirrors=("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
        md5=(
            "bdb82020997e1d708af4cf47b453dcf7",
            "e144d726b3acfaa3e44228e80efcd344",
            "5c965bf0a639b31b8f53240b1b52f4d7",
            "7320c461ea6c1c855c0b718fb2a4b134",
        ),
        class_names=("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    ),
}


def idx(name: str, root: str | os.PathLike[str], mirrors: Sequence[str] | None = None) -> Source:
    """MNIST, Fashion-MNIST or KMNIST from its four IDX files, plain or `.gz`, in `root/MNIST/raw` etc.

    60,000 training and 10,000 test examples: inputs uint8 (N, 1, 28, 28), targets int64 (N,).

    Args:
        name: `mnist`, `fashion_mnist` or `kmnist`.
        root: the folder that torchvision calls root; missing files are downloaded into it.
        mirrors: base URLs instead of the published ones; the checksums stay.

    Raises:
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    chosen = archives.find_set(name, IDX_SETS)
    folder = expand_home(root) / chosen.folder / "raw"
    files = []
    for file, md5 in zip(IDX_FILES, chosen.md5, strict=True):
        plain, packed = folder / file, folder / f"{file}.gz"
        if not os.path.isfile(plain) and not os.path.isfile(packed):
            wanted = f"{', '.join(IDX_FILES)} (each plain or .gz)"
            archives.fetch(name, packed, mirrors or chosen.mirrors, md5, wanted=wanted)
            # Unpacked once, as by torchvision, which then finds it too: reading is far faster.
            archives.write_unpacked(plain, archives.read_content(packed).data)
        files.append(archives.read_content(plain if os.path.isfile(plain) else packed))

    num_classes = len(chosen.class_names)
    train = _idx_examples(files[0], files[1], num_classes)
    test = _idx_examples(files[2], files[3], num_classes)
    return archives.image_source(train, test, chosen.class_names, folder, files)


def _idx_examples(images: archives.Content, labels: archives.Content, num_classes: int) -> Examples:
    inputs, targets = _parse_idx(images, 28, 28), _parse_idx(labels)
    if len(inputs) != len(targets):
        expected = f"{len(inputs):,} labels, as many as {images.path.name} has images"
        raise archives.damaged_file(labels.path, expected, len(targets))
    archives.check_labels(labels.path, targets, num_classes)
    return Examples(torch.from_numpy(inputs).unsqueeze(1), torch.from_numpy(targets.astype(np.int64)))


def _parse_idx(file: archives.Content, *shape: int) -> archives.Bytes:
    """The array of shape (N, *shape) in an IDX file of bytes, a view of `file.data`.

    The format: two zero bytes, a type (8: unsigned byte), the number of dimensions, the size of each as a
    big-endian 32-bit integer, the values.
    """
    ndim = 1 + len(shape)
    start = 4 + 4 * ndim
    if len(file.data) < start:
        raise archives.damaged_file(file.path, f"an IDX header of {start} bytes", f"{len(file.data)} bytes in all")
    magic, *sizes = file.data[:start].view(">u4").tolist()
    if magic != 0x800 + ndim:
        raise archives.damaged_file(file.path, f"the IDX magic number 0x{0x800 + ndim:08x}", f"0x{magic:08x}")
    if sizes[0] == 0 or tuple(sizes[1:]) != shape:
        raise archives.damaged_file(file.path, f"a shape of {('N', *shape)}, N > 0".replace("'", ""), tuple(sizes))
    size = start + math.prod(sizes)
    if len(file.data) != size:
        raise archives.damaged_file(file.path, f"{size:,} bytes by its header", f"{len(file.data):,} bytes")
    return file.data[start:].reshape(sizes)
