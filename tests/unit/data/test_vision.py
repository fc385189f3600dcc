"""MNIST-like and CIFAR files: real small files of the same formats, served from loopback."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import io
import json
import logging
import os
import socket
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from mlprun.data import download
from mlprun.data.cifar import CIFAR_SETS, cifar
from mlprun.data.mnist import IDX_FILES, IDX_SETS, idx
from mlprun.data.source import Examples, Source
from mlprun.errors import ConfigError, DataError
from tests.helpers.files import REPOSITORY, idx_bytes, write

REAL = Path(os.environ.get("MLPRUN_DATA") or REPOSITORY.parent / "shared" / "data")
TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


def idx_contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: idx_bytes(rng.integers(0, 256, (20, 28, 28))),
        TRAIN_LABELS: idx_bytes(np.arange(20) % 10),
        TEST_IMAGES: idx_bytes(rng.integers(0, 256, (7, 28, 28))),
        TEST_LABELS: idx_bytes(np.arange(7)),
    }


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


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder and the URL that serves it."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def idx_mirror(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A mirror of small IDX files, whose checksums count as the published ones."""
    packed = {f"{name}.gz": gzip.compress(content) for name, content in idx_contents().items()}
    write(served[0], packed)
    md5 = tuple(hashlib.md5(content).hexdigest() for content in packed.values())
    for name, chosen in IDX_SETS.items():
        monkeypatch.setitem(IDX_SETS, name, dataclasses.replace(chosen, md5=md5))
    return served[1]


@pytest.fixture
def cifar_mirror(served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    for name, chosen in CIFAR_SETS.items():
        inside = {f"{chosen.folder}/{file}": content for file, content in cifar_contents(name).items()}
        archive = tar_gz({**inside, f"{chosen.folder}/readme.html": b"no", "../escaped": b"no"})
        write(served[0], {chosen.archive: archive})
        md5 = hashlib.md5(archive).hexdigest()
        monkeypatch.setitem(CIFAR_SETS, name, dataclasses.replace(chosen, md5=md5))
    return served[1]


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))


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


def test_processes_that_download_at_once(tmp_path: Path, served: tuple[Path, str]) -> None:
    content = os.urandom(3_000_000)
    write(served[0], {"file": content})
    target, md5 = tmp_path / "root" / "file", hashlib.md5(content).hexdigest()
    with ProcessPoolExecutor(4) as pool:
        list(pool.map(download.download, [[f"{served[1]}/file"]] * 4, [target] * 4, [md5] * 4))
    assert target.read_bytes() == content
    assert os.listdir(target.parent) == ["file"]


def test_progress_bar_on_a_terminal(tmp_path: Path, served: tuple[Path, str]) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    write(served[0], {"file": b"x" * 1000})
    code = (
        "import sys; from pathlib import Path; from mlprun.data.download import download;"
        f"download([{served[1]!r} + '/file'], Path({str(tmp_path / 'file')!r}), sys.argv[1])"
    )
    leader, follower = pty.openpty()
    termios.tcsetwinsize(follower, (24, 80))  # a new one has no rows, and tqdm shows nothing
    md5 = hashlib.md5(b"x" * 1000).hexdigest()
    subprocess.run([sys.executable, "-c", code, md5], stderr=follower, check=True)
    os.write(follower, b"end")  # so that the read never waits
    shown = os.read(leader, 10_000)
    os.close(follower)
    os.close(leader)
    assert b"file:" in shown
    assert b"/1.00k" in shown


def test_checksum_mismatch_of_a_download(tmp_path: Path, idx_mirror: str, served: tuple[Path, str]) -> None:
    write(served[0], {f"{TRAIN_IMAGES}.gz": gzip.compress(b"other")})
    with pytest.raises(DataError, match=r"checksum mismatch: expected md5 \w{32}, found \w{32}") as caught:
        idx("mnist", tmp_path / "root", mirrors=[idx_mirror])
    assert f"{idx_mirror}/{TRAIN_IMAGES}.gz" in str(caught.value)
    assert [p for p in (tmp_path / "root").rglob("*") if p.is_file()] == []


def test_transfer_that_is_cut_off(tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 10)

        def log_message(self, *args: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        with pytest.raises(DataError, match="cut off after 10 of 1,000 bytes"):
            download.download([f"http://127.0.0.1:{server.server_port}/file"], tmp_path / "file", "0" * 32)
        server.shutdown()
    assert os.listdir(tmp_path) == []


def test_no_network_fails_soon_and_says_what_to_do(tmp_path: Path) -> None:
    mirrors = [closed_port(), closed_port(), "no-url"]
    started = time.monotonic()
    with pytest.raises(DataError) as caught:
        idx("mnist", tmp_path, mirrors=mirrors)
    assert time.monotonic() - started < 60  # the promise is seconds, not minutes
    text = str(caught.value)
    assert len(text.splitlines()) <= 12
    for part in (*mirrors, "refused", "unknown url type", str(tmp_path / "MNIST" / "raw"), *IDX_FILES):
        assert part in text
    for part in ("data=digits", "data.root", "MLPRUN_DATA"):
        assert part in text


def test_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "ANSWER_SEC", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        with pytest.raises(DataError, match=r"no answer within 0\.3 s"):
            download.download([url], tmp_path / "file", "0" * 32)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("load", [functools.partial(idx, "mnist"), functools.partial(cifar, "cifar10")])
def test_root_that_cannot_be_written(tmp_path: Path, load: Callable[..., Source], idx_mirror: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot write .*(Not a directory|File exists)") as caught:
        load(tmp_path / "file", mirrors=[idx_mirror])
    assert "data.root" in str(caught.value)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    with pytest.raises(DataError, match=r"cannot write .*read-only folder"):
        load(locked, mirrors=[idx_mirror])
    assert os.listdir(locked) == []


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
    assert "holds 30 + 6 pictures, the published cifar10 50,000 + 10,000" in caplog.text


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


@pytest.mark.mnist
@pytest.mark.skipif(not (REAL / "MNIST").is_dir(), reason=f"no MNIST in {REAL}")
def test_real_mnist() -> None:
    before = sorted(os.listdir(REAL / "MNIST" / "raw"))
    source = idx("mnist", REAL)
    assert isinstance(source.train, Examples)
    assert isinstance(source.test, Examples)
    assert (len(source.train), len(source.test)) == (60_000, 10_000)
    assert source.train.targets[:5].tolist() == [5, 0, 4, 1, 9]
    assert source.train.inputs.float().mean() / 255 == pytest.approx(0.1307, abs=1e-4)
    if not (REAL / "MNIST" / "raw").stat().st_mode & 0o222:
        assert sorted(os.listdir(REAL / "MNIST" / "raw")) == before
