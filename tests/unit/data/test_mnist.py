"""MNIST and its like: real small files of the same format, served from loopback."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from mlprun.data import download
from mlprun.data.mnist import IDX_FILES, idx
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError
from tests.helpers.downloads import (
    TEST_LABELS,
    TRAIN_IMAGES,
    TRAIN_LABELS,
    closed_port,
    idx_contents,
    leftovers,
)
from tests.helpers.files import idx_bytes, write


def check_idx(source: Source) -> None:
    contents = idx_contents()
    assert isinstance(source.train, Examples)
    assert isinstance(source.test, Examples)
    assert source.train.inputs.shape == (20, 1, 28, 28)
    assert source.train.inputs.dtype == torch.uint8
    assert source.train.inputs.numpy().tobytes() == contents[TRAIN_IMAGES][16:]
    assert source.test.inputs.shape == (7, 1, 28, 28)
    assert source.test.targets.dtype == torch.int64
    assert source.test.targets.tolist() == list(range(7))
    assert source.value_range == (0, 255)
    assert len(source.class_names) == 10
    source.train.inputs[0] = 0  # the memory may be written


@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST"), ("kmnist", "KMNIST")]
)
@pytest.mark.parametrize("packed", [(), IDX_FILES, (TRAIN_LABELS,)])
def test_idx_files_in_torchvisions_layout(tmp_path: Path, name: str, folder: str, packed: tuple[str, ...]) -> None:
    files = {}
    for file, content in idx_contents().items():
        files[f"{file}.gz" if file in packed else file] = gzip.compress(content) if file in packed else content
    raw = write(tmp_path / folder / "raw", files)
    source = idx(name, str(tmp_path), mirrors=[closed_port()])
    check_idx(source)
    expected = {str(raw / f): f"sha256:{hashlib.sha256(c).hexdigest()}" for f, c in files.items()}
    assert source.fingerprints == expected


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "kmnist"])
def test_idx_downloads_once(tmp_path: Path, idx_mirror: str, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "new" / "root"
    check_idx(idx(name, root, mirrors=[closed_port(), idx_mirror]))  # the second mirror serves
    assert "%" not in capfd.readouterr().err  # no bar without a terminal
    assert not leftovers(root)
    check_idx(idx(name, root, mirrors=[closed_port()]))


def test_torchvision_finds_what_was_downloaded(tmp_path: Path, idx_mirror: str) -> None:
    idx("mnist", tmp_path / "root", mirrors=[idx_mirror])
    from torchvision.datasets import MNIST

    assert MNIST(tmp_path / "root", train=False).targets.tolist() == list(range(7))


def test_only_missing_files_are_downloaded(tmp_path: Path, idx_mirror: str, served: tuple[Path, str]) -> None:
    contents = idx_contents()
    missing = contents.pop(TEST_LABELS)
    raw = write(tmp_path / "root" / "MNIST" / "raw", contents)
    for other in contents:
        (served[0] / f"{other}.gz").unlink()
    check_idx(idx("mnist", tmp_path / "root", mirrors=[idx_mirror]))
    assert (raw / TEST_LABELS).read_bytes() == missing


def test_checksum_mismatch_of_a_download(tmp_path: Path, idx_mirror: str, served: tuple[Path, str]) -> None:
    write(served[0], {f"{TRAIN_IMAGES}.gz": gzip.compress(b"other")})
    with pytest.raises(DataError, match=r"checksum mismatch: expected md5 \w{32}, found \w{32}") as caught:
        idx("mnist", tmp_path / "root", mirrors=[idx_mirror])
    assert f"{idx_mirror}/{TRAIN_IMAGES}.gz" in str(caught.value)
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


LABELS = idx_contents()[TRAIN_LABELS]


IMAGES = idx_contents()[TRAIN_IMAGES]


@pytest.mark.parametrize(
    ("file", "content", "expected", "found"),
    [
        (TRAIN_IMAGES, b"", "an IDX header of 16 bytes", "0 bytes"),
        (TRAIN_IMAGES, IMAGES[:9], "an IDX header of 16 bytes", "9 bytes"),
        (TRAIN_IMAGES, IMAGES[:-1], "15,696 bytes by its header", "15,695 bytes"),
        (TRAIN_IMAGES, IMAGES + b"x", "15,696 bytes by its header", "15,697 bytes"),
        (TRAIN_IMAGES, b"<!DOCTYPE html><html>", "magic number 0x00000803", "0x3c21444f"),
        (TRAIN_IMAGES, LABELS, "magic number 0x00000803", "0x00000801"),
        (TRAIN_IMAGES, idx_bytes(np.zeros((20, 8, 8))), r"\(N, 28, 28\)", r"\(20, 8, 8\)"),
        (TRAIN_IMAGES, idx_bytes(np.zeros((0, 28, 28))), "N > 0", r"\(0, 28, 28\)"),
        (TRAIN_LABELS, idx_bytes(np.arange(19) % 10), "20 labels", "19"),
        (TRAIN_LABELS, idx_bytes(np.arange(20)), "labels from 0 to 9", "10 at position 10"),
        (f"{TRAIN_IMAGES}.gz", gzip.compress(IMAGES)[:-20], "a readable file", "end-of-stream"),
        (f"{TRAIN_IMAGES}.gz", b"garbage", "a readable file", "Not a gzipped file"),
        (f"{TRAIN_IMAGES}.gz", b"", "an IDX header", "0 bytes"),
        (f"{TRAIN_IMAGES}.gz", gzip.compress(IMAGES)[:50] + b"\0" * 4000, "a readable file", "."),
    ],
)
def test_damaged_idx_files(tmp_path: Path, file: str, content: bytes, expected: str, found: str) -> None:
    raw = write(tmp_path / "MNIST" / "raw", idx_contents())
    if file.endswith(".gz"):
        (raw / file.removesuffix(".gz")).unlink()
    write(raw, {file: content})
    with pytest.raises(DataError, match=f"{file}: damaged.*expected .*{expected}.*found .*{found}"):
        idx("mnist", tmp_path, mirrors=[closed_port()])
    assert not (raw / download.FINGERPRINTS).exists()  # no fingerprint of a damaged file


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match="did you mean 'mnist'"):
        idx("mnits", "/nowhere")


def test_changed_file_is_reported_and_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "mlprun")
    raw = write(tmp_path / "MNIST" / "raw", idx_contents())
    idx("mnist", tmp_path)
    idx("mnist", tmp_path)
    assert not caplog.records
    write(raw, {TEST_LABELS: idx_bytes(np.arange(7)[::-1])})
    for _ in range(2):  # a later run is told as well
        caplog.clear()
        source = idx("mnist", tmp_path)
        assert isinstance(source.test, Examples)
        assert source.test.targets.tolist() == list(range(7))[::-1]
        assert [str(raw / TEST_LABELS) in r.getMessage() for r in caplog.records] == [True]
        assert "has changed since its first use" in caplog.text
    (raw / download.FINGERPRINTS).unlink()
    caplog.clear()
    idx("mnist", tmp_path)
    assert not caplog.records


@pytest.mark.parametrize("content", ["", "{", "[1]", "3"])
def test_damaged_record_of_fingerprints(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "MNIST" / "raw", idx_contents())
    (raw / download.FINGERPRINTS).write_text(content)
    idx("mnist", tmp_path)
    assert "cannot be read" in caplog.text
    assert set(json.loads((raw / download.FINGERPRINTS).read_text())) == set(IDX_FILES)


def test_read_only_folder_keeps_no_fingerprints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = write(tmp_path / "MNIST" / "raw", idx_contents())
    raw.chmod(0o555)
    check_idx(idx("mnist", tmp_path))
    assert not caplog.records
    assert set(os.listdir(raw)) == set(IDX_FILES)
