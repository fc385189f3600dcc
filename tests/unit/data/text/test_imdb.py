"""IMDB's reviews: the archive, its layout, and what is said where it cannot be had."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import logging
import tarfile
import threading

import pytest
import torch

from mlprun.data.text import imdb as imdb_module
from mlprun.data.text.imdb import imdb, imdb_masked
from mlprun.errors import DataError
from tests.helpers.files import write
from tests.helpers.texts import TEXT


def imdb_archive():
    files = {
        f"aclImdb/{part}/{name}/{i}_{stars}.txt": f"{word} film number {i}"
        for part in ("train", "test")
        for name, stars, word in (("neg", 1, "A dull"), ("pos", 10, "A lovely"))
        for i in range(4)
    }
    files |= {f"aclImdb/train/unsup/{i}_0.txt": f"Some odd film {i}" for i in range(3)}
    files |= {"aclImdb/train/urls_neg.txt": "http", "aclImdb/README": "x"}
    files |= {"../escaped.txt": "no", "aclImdb/train/neg/../../../escaped.txt": "no", "/tmp/escaped_imdb.txt": "no"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content.encode()))
        link = tarfile.TarInfo("aclImdb/train/pos/9_9.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return buffer.getvalue()


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """The URL of a small archive of the same layout, whose checksum counts as the published one."""
    archive = imdb_archive()
    served = write(tmp_path / "served", {"aclImdb_v1.tar.gz": archive})
    monkeypatch.setattr(imdb_module, "IMDB_MD5", hashlib.md5(archive).hexdigest())

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): ...

    handler = functools.partial(Handler, directory=str(served))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_imdb_is_downloaded_unpacked_and_read_once_more_without_a_network(tmp_path, mirror, caplog):
    root = tmp_path / "root"
    with caplog.at_level(logging.WARNING):
        source = imdb(root, TEXT, mirrors=[mirror])
    assert "holds 4 reviews, the published one 12,500" in caplog.text
    assert source.class_names == ("neg", "pos")
    assert source.train.targets.tolist() == source.test.targets.tolist() == [0] * 4 + [1] * 4
    assert source.inputs.tokenizer.decode(source.train.inputs[4].tolist()) == "a lovely film number 0"
    assert "odd" not in source.inputs.tokenizer.tokens  # reviews without a class are not read
    assert sorted(p.name for p in root.iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz"]
    assert not list(tmp_path.rglob("escaped*"))
    assert not list(root.rglob("9_9.txt"))
    (root / "aclImdb_v1.tar.gz").unlink()
    again = imdb(root, TEXT, mirrors=["http://127.0.0.1:9/"])
    assert torch.equal(again.train.inputs, source.train.inputs)
    assert again.fingerprints == source.fingerprints


def test_imdbs_reviews_without_a_class_serve_for_masked_words(tmp_path, mirror):
    source = imdb_masked(tmp_path / "root", TEXT, mirrors=[mirror])
    assert (len(source.train), len(source.test)) == (11, 8)
    assert "odd" in source.inputs.tokenizer.tokens
    assert source.perturb is not None


@pytest.mark.parametrize("content", [b"no archive", imdb_archive()[:-200], b""])
def test_a_damaged_archive_leaves_nothing_behind(tmp_path, content):
    write(tmp_path, {"aclImdb_v1.tar.gz": content})
    with pytest.raises(DataError, match=r"aclImdb_v1.tar.gz: (damaged|cannot be unpacked)"):
        imdb(tmp_path, TEXT)
    assert [p.name for p in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]


def test_without_a_network_it_says_what_to_put_where(tmp_path):
    with pytest.raises(DataError, match=r"Put aclImdb_v1.tar.gz, or the folder aclImdb(.|\n)*data=reviews"):
        imdb(tmp_path, TEXT, mirrors=["http://127.0.0.1:9/"])
