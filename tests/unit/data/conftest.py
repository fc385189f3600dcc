"""A server on loopback, and one with MNIST's files."""

from __future__ import annotations

import dataclasses
import functools
import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlprun.data.mnist import IDX_SETS
from tests.helpers.downloads import idx_contents
from tests.helpers.files import write


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
