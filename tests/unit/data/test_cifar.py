"""CIFAR-10 and CIFAR-100: real small files of the same format, served from loopback."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mlprun.data import download
from mlprun.data.cifar import CIFAR_SETS, cifar
from mlprun.data.source import Examples, Source
from mlprun.errors import DataError
from tests.helpers.downloads import closed_port, leftovers
from tests.helpers.files import write


def cifar_contents(name: str) -> dict[str, bytes]:
    chosen = CIFAR_SETS[name]
    rng = np.random.default_rng(0)
    contents = {}
    for file in (*chosen.train, *chosen.test):
        records = rng.integers(0, 256, (6, chosen.num_labels + 3072)).astype(np.uint8)
        records[:, : chosen.num_labels] = 0
        records[:, chosen.num_labels - 1] = np.arange(6)
        contents[file] = records.tobytes()
    return contents | {chosen.names: "\n".join(f"class{i}" for i in range(chosen.num_classes)).encode() + b"\n\n"}


def tar_gz(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def cifar_mirror(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, chosen in CIFAR_SETS.items():
        inside = {f"{chosen.folder}/{file}": content for file, content in cifar_contents(name).items()}
        archive = tar_gz({**inside, f"{chosen.folder}/readme.html": b"no", "../escaped": b"no"})
        write(served[0], {chosen.archive: archive})
        md5 = hashlib.md5(archive).hexdigest()
        monkeypatch.setitem(CIFAR_SETS, name, dataclasses.replace(chosen, md5=md5))
    return served[1]


def check_cifar(source: Source, name: str) -> None:
    chosen = CIFAR_SETS[name]
    contents = cifar_contents(name)
    assert isinstance(source.train, Examples)
    assert isinstance(source.test, Examples)
    assert source.train.inputs.shape == (6 * len(chosen.train), 3, 32, 32)
    assert source.train.inputs.dtype == torch.uint8
    assert source.train.targets.tolist() == list(range(6)) * len(chosen.train)
    assert (
        source.train.inputs[1].numpy().tobytes()
        == (contents[chosen.train[0]][chosen.num_labels + 3072 + chosen.num_labels :][:3072])
    )
    assert source.test.inputs.shape == (6, 3, 32, 32)
    assert source.test.targets.dtype == torch.int64
    assert source.class_names == tuple(f"class{i}" for i in range(chosen.num_classes))
    assert len(source.fingerprints) == len(contents)
    source.test.inputs[0] = 0


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_downloads_once_and_unpacks_only_its_files(tmp_path: Path, name: str, cifar_mirror: str) -> None:
    root = tmp_path / "root"
    chosen = CIFAR_SETS[name]
    first = cifar(name, root, mirrors=[cifar_mirror])
    check_cifar(first, name)
    (root / chosen.archive).unlink()
    again = cifar(name, root, mirrors=[closed_port()])
    check_cifar(again, name)
    assert again.fingerprints == first.fingerprints
    unpacked = {p.name for p in (root / chosen.folder).iterdir()}
    assert unpacked == {*cifar_contents(name), download.FINGERPRINTS}
    assert not (tmp_path / "escaped").exists()
    assert not leftovers(root)


def test_cifar_archive_in_a_read_only_root(tmp_path: Path, cifar_mirror: str) -> None:
    chosen = CIFAR_SETS["cifar10"]
    archive = (tmp_path / "served" / chosen.archive).read_bytes()
    root = write(tmp_path / "root", {chosen.archive: archive})
    root.chmod(0o555)
    check_cifar(cifar("cifar10", root, mirrors=[closed_port()]), "cifar10")
    assert os.listdir(root) == [chosen.archive]


def test_recompressed_cifar_archive_is_read(tmp_path: Path) -> None:
    inside = {f"./cifar-10-batches-bin/{f}": c for f, c in cifar_contents("cifar10").items()}
    write(tmp_path, {"cifar-10-binary.tar.gz": tar_gz(inside)})
    check_cifar(cifar("cifar10", tmp_path, mirrors=[closed_port()]), "cifar10")


def test_half_a_cifar_file_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(tmp_path / "cifar-10-batches-bin", cifar_contents("cifar10"))
    cifar("cifar10", tmp_path)
    assert "holds 30 + 6 images, the published cifar10 50,000 + 10,000" in caplog.text


ALL_BUT_ONE = {f"cifar-10-batches-bin/{f}": c for f, c in cifar_contents("cifar10").items() if f != "test_batch.bin"}
WRONG_LABEL = b"\x0a" + cifar_contents("cifar10")["test_batch.bin"][1:]


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("test_batch.bin", b"", r"test_batch\.bin: damaged.* records of 3,073 bytes, found 0 bytes"),
        ("test_batch.bin", b"x" * 5000, r"test_batch\.bin: damaged.* found 5,000 bytes"),
        ("data_batch_3.bin", WRONG_LABEL, r"data_batch_3\.bin: .*labels from 0 to 9, found 10 at position 0"),
        ("batches.meta.txt", b"cat\ndog\n", r"batches\.meta\.txt: .*expected 10 class names, found 2"),
        ("archive", b"", r"cifar-10-binary\.tar\.gz: damaged"),
        ("archive", b"garbage" * 100, r"cifar-10-binary\.tar\.gz: damaged"),
        ("archive", tar_gz(ALL_BUT_ONE)[:-5000], r"cifar-10-binary\.tar\.gz: damaged"),
        ("archive", tar_gz(ALL_BUT_ONE), r"expected cifar-10-batches-bin/test_batch\.bin in it"),
    ],
)
def test_damaged_cifar_files(tmp_path: Path, file: str, content: bytes, message: str) -> None:
    if file == "archive":
        write(tmp_path, {"cifar-10-binary.tar.gz": content})
    else:
        write(tmp_path / "cifar-10-batches-bin", cifar_contents("cifar10") | {file: content})
    with pytest.raises(DataError, match=message):
        cifar("cifar10", tmp_path, mirrors=[closed_port()])


@pytest.mark.parametrize(("name", "pickled"), [("cifar10", "cifar-10-batches-py"), ("cifar100", "cifar-100-python")])
def test_pickled_cifar_is_named_not_read(tmp_path: Path, name: str, pickled: str) -> None:
    (tmp_path / pickled).mkdir()
    with pytest.raises(DataError) as caught:
        cifar(name, tmp_path, mirrors=[closed_port()])
    assert f"{tmp_path / pickled} is not read: it holds pickles" in str(caught.value)
    assert "refused" in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 12
