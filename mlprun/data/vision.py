"""MNIST and its likes, CIFAR-10 and CIFAR-100: the published files, read as plain bytes.

Files lie where torchvision puts them; what is missing is downloaded at first use. Nothing here imports
torchvision, and no pickle is ever loaded.
"""

from __future__ import annotations

import gzip
import hashlib
import logging
import math
import os
import tarfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from mlprun.data.download import check_fingerprints, download, replacing
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError, suggestion

log = logging.getLogger("mlprun")

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")

NUM_PIXELS = 3 * 32 * 32  # of a CIFAR picture: red, green and blue plane
IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class IdxSet:
    """Where an MNIST-like data set lies and comes from.

    Attributes:
        folder: torchvision's name for it, under the root.
        mirrors: base URLs, tried in order.
        md5: the published checksums of the `.gz` files, in the order of `IDX_FILES`.
        class_names: one a label.
    """

    folder: str
    mirrors: tuple[str, ...]
    md5: tuple[str, str, str, str]
    class_names: tuple[str, ...]


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


class Content(NamedTuple):
    """A data file as read: where it lies, its bytes (unpacked) and the `sha256:…` of the file."""

    path: Path
    data: Bytes
    fingerprint: str


IDX_SETS = {
    "mnist": IdxSet(
        folder="MNIST",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "http://yann.lecun.com/exdb/mnist/",
        ),
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


def idx(name: str, root: str | os.PathLike[str], mirrors: Sequence[str] | None = None) -> Source:
    """MNIST, Fashion-MNIST or KMNIST from its four IDX files, plain or `.gz`, in `root/MNIST/raw` etc.

    Args:
        name: `mnist`, `fashion_mnist` or `kmnist`.
        root: the folder that torchvision calls root; missing files are downloaded into it.
        mirrors: base URLs instead of the published ones; the checksums stay.

    Returns:
        60,000 training and 10,000 test examples: inputs uint8 (N, 1, 28, 28), targets int64 (N,).

    Raises:
        ConfigError: no such name.
        DataError: files are missing and cannot be downloaded, or are damaged.
    """
    chosen = _named(name, IDX_SETS)
    folder = Path(root).expanduser() / chosen.folder / "raw"
    files = []
    for file, md5 in zip(IDX_FILES, chosen.md5, strict=True):
        plain, packed = folder / file, folder / f"{file}.gz"
        if not os.path.isfile(plain) and not os.path.isfile(packed):
            try:
                download([f"{m.rstrip('/')}/{packed.name}" for m in mirrors or chosen.mirrors], packed, md5)
            except DataError as error:
                wanted = f"{', '.join(IDX_FILES)} (each plain or .gz)"
                raise _missing(name, f"{file}(.gz)", folder, error, wanted) from error
            # Unpacked once, as torchvision does, which then finds it too: reading is far faster.
            _write(plain, _read(packed).data)
        files.append(_read(plain if os.path.isfile(plain) else packed))

    num_classes = len(chosen.class_names)
    train = _idx_examples(files[0], files[1], num_classes)
    test = _idx_examples(files[2], files[3], num_classes)
    return _source(train, test, chosen.class_names, folder, files)


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
    chosen = _named(name, CIFAR_SETS)
    base = Path(root).expanduser()
    folder, archive = base / chosen.folder, base / chosen.archive
    records = [*chosen.train, *chosen.test]
    wanted = [chosen.names, *records]  # unpacked in this order: where all records lie, the names do too
    if all(os.path.isfile(folder / file) for file in records):
        files = {file: _read(folder / file) for file in wanted if os.path.isfile(folder / file)}
    else:
        if not os.path.isfile(archive):
            urls = [f"{m.rstrip('/')}/{archive.name}" for m in mirrors or chosen.mirrors]
            try:
                download(urls, archive, chosen.md5)
            except DataError as error:
                put = f"{archive.name}, or the folder {folder.name} that it unpacks to,"
                pickled = base / chosen.pickled
                note = f"{pickled} is not read: it holds pickles, which can run code.\n"
                raise _missing(name, archive.name, base, error, put, note if os.path.exists(pickled) else "") from error
        files = _unpack(archive, folder, wanted)

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
            raise _damaged(folder / chosen.names, f"{chosen.num_classes} class names", len(names))
    return _source(train, test, names, folder, files.values())


def _named(name: str, sets: Mapping[str, T]) -> T:
    if name not in sets:
        raise ConfigError("name", name, "no such data set", suggestion(name, sets))
    return sets[name]


def _source(
    train: Examples, test: Examples, class_names: Sequence[str], folder: Path, files: Collection[Content]
) -> Source:
    """The finished `Source`; compares the files, now known to be sound, with those of the first use."""
    check_fingerprints(folder, {file.path.name: file.fingerprint for file in files})
    return Source(
        train=train,
        test=test,
        value_range=(0, 255),
        class_names=tuple(class_names),
        fingerprints={str(file.path): file.fingerprint for file in files},
    )


def _idx_examples(images: Content, labels: Content, num_classes: int) -> Examples:
    inputs, targets = _parse_idx(images, 28, 28), _parse_idx(labels)
    if len(inputs) != len(targets):
        raise _damaged(labels.path, f"{len(inputs):,} labels, as many as {images.path.name} has images", len(targets))
    _check_labels(labels.path, targets, num_classes)
    return Examples(torch.from_numpy(inputs).unsqueeze(1), torch.from_numpy(targets.astype(np.int64)))


def _parse_idx(file: Content, *shape: int) -> Bytes:
    """The array of shape (N, *shape) in an IDX file of bytes, a view of `file.data`.

    The format: two zero bytes, a type (8: unsigned byte), the number of dimensions, the size of each as a
    big-endian 32-bit integer, the values.
    """
    ndim = 1 + len(shape)
    start = 4 + 4 * ndim
    if len(file.data) < start:
        raise _damaged(file.path, f"an IDX header of {start} bytes", f"{len(file.data)} bytes in all")
    magic, *sizes = file.data[:start].view(">u4").tolist()
    if magic != 0x800 + ndim:
        raise _damaged(file.path, f"the IDX magic number 0x{0x800 + ndim:08x}", f"0x{magic:08x}")
    if sizes[0] == 0 or tuple(sizes[1:]) != shape:
        raise _damaged(file.path, f"a shape of {('N', *shape)}, N > 0".replace("'", ""), tuple(sizes))
    size = start + math.prod(sizes)
    if len(file.data) != size:
        raise _damaged(file.path, f"{size:,} bytes by its header", f"{len(file.data):,} bytes")
    return file.data[start:].reshape(sizes)


def _cifar_examples(files: Sequence[Content], chosen: CifarSet) -> Examples:
    """The examples of binary CIFAR files: records of label bytes, then a red, a green and a blue plane."""
    length = chosen.num_labels + NUM_PIXELS
    inputs, targets = [], []
    for file in files:
        if len(file.data) == 0 or len(file.data) % length:
            raise _damaged(file.path, f"records of {length:,} bytes", f"{len(file.data):,} bytes in all")
        records = file.data.reshape(-1, length)
        labels = records[:, chosen.num_labels - 1]
        _check_labels(file.path, labels, chosen.num_classes)
        inputs.append(records[:, chosen.num_labels :])
        targets.append(labels.astype(np.int64))
    pixels = np.concatenate(inputs).reshape(-1, 3, 32, 32)
    return Examples(torch.from_numpy(pixels), torch.from_numpy(np.concatenate(targets)))


def _check_labels(path: Path, labels: Bytes, num_classes: int) -> None:
    if labels.max() >= num_classes:
        position = int(np.argmax(labels >= num_classes))
        raise _damaged(path, f"labels from 0 to {num_classes - 1}", f"{labels[position]} at position {position}")


def _read(path: Path) -> Content:
    """A data file; what ends in `.gz` is unpacked in memory."""
    try:
        data = np.fromfile(path, np.uint8)
        fingerprint = _fingerprint(data)
        if path.suffix == ".gz":
            # A bytearray, because torch wants memory that may be written.
            data = np.frombuffer(bytearray(gzip.decompress(data.tobytes())), np.uint8)
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, "a readable file", error) from error
    return Content(path, data, fingerprint)


def _unpack(archive: Path, folder: Path, wanted: Sequence[str]) -> dict[str, Content]:
    """The `wanted` files of `folder` out of the archive, by exact name, also written to the folder."""
    found = {}
    try:
        with tarfile.open(archive, "r|gz") as tar:
            for member in tar:
                directory, _, file = os.path.normpath(member.name).rpartition("/")
                if directory == folder.name and file in wanted and (stream := tar.extractfile(member)):
                    data = np.frombuffer(stream.read(), np.uint8)
                    found[file] = Content(folder / file, data, _fingerprint(data))
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise _damaged(archive, "a whole tar.gz archive", error) from error
    missing = [f"{folder.name}/{file}" for file in wanted[1:] if file not in found]
    if missing:
        raise _damaged(archive, f"{', '.join(missing)} in it", f"only {sorted(found)}")
    for file in wanted:
        if file in found:
            _write(folder / file, found[file].data)
    return found


def _write(path: Path, data: Bytes) -> None:
    """Keep `data` unpacked for the next start; where that cannot be written, the packed file serves."""
    try:
        with replacing(path) as file:
            file.write(data.data)
    except OSError as error:
        log.info("%s is not kept unpacked: %s", path, error)


def _fingerprint(data: Any) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _damaged(path: Path, expected: str, found: object) -> DataError:
    return DataError(
        f"{path}: damaged, or not the file its name says: expected {expected}, found {found}\n"
        "  Delete it, and the next run fetches it again."
    )


def _missing(name: str, what: str, where: Path, failures: DataError, wanted: str, note: str = "") -> DataError:
    return DataError(
        f"{name}: {what} is not in {where} and cannot be downloaded:\n{failures}\n{note}"
        f"Put {wanted} into {where},\n"
        "or name another root with data.root=DIR or MLPRUN_DATA. data=digits needs no download."
    )
