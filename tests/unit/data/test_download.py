"""Downloads: once, checked, whole or not at all, and clear about what is missing."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from mlprun.data import download
from mlprun.data.cifar import cifar
from mlprun.data.mnist import IDX_FILES, idx
from mlprun.data.source import Source
from mlprun.errors import DataError
from tests.helpers.downloads import closed_port
from tests.helpers.files import write


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
