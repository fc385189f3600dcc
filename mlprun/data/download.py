"""Data files: downloaded completely or not at all, and compared with their first use."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import logging
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from mlprun.errors import DataError
from mlprun.files import atomic_write

log = logging.getLogger("mlprun")

FINGERPRINTS = ".mlprun-fingerprints.json"
ANSWER_SEC = 4.0  # for the address, the connection and the reply's header together
STALL_SEC = 20.0  # for one piece of the body
CHUNK = 1 << 18


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """`atomic_write`, creating the folder if needed.

    Raises:
        OSError: the folder cannot be created or written, or is read-only.
    """
    existing = next(p for p in (path.parent, *path.parent.parents) if p.exists())
    if not existing.stat().st_mode & 0o222:
        # Also for the superuser, who could write here: whoever cleared the write bits meant it.
        raise PermissionError(errno.EACCES, "read-only folder", str(existing))
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        yield file


_is_offline: ContextVar[bool] = ContextVar("is_offline", default=False)


@contextlib.contextmanager
def no_downloads() -> Iterator[None]:
    """Let `download` raise a DataError for missing files."""
    token = _is_offline.set(True)
    try:
        yield
    finally:
        _is_offline.reset(token)


def download(urls: Sequence[str], path: Path, md5: str) -> None:
    """Download `path` from the first of `urls` that has it with the right checksum, with a progress bar on a terminal.

    Raises:
        DataError: nothing was kept; one indented line per URL with its error, or one for the folder that cannot be
            written.
    """
    if _is_offline.get():
        raise DataError("  nothing is downloaded here")
    failures = []
    try:
        with replacing(path) as file:
            for url in urls:
                try:
                    _receive(url, file, md5)
                    return
                except (DataError, OSError, http.client.HTTPException, ValueError) as error:
                    failures.append(f"  {url}: {error}")
            raise DataError("\n".join(failures))
    except OSError as error:
        raise DataError(f"  cannot write {path}: {error.strerror or error}") from error


def _receive(url: str, file: BinaryIO, md5: str) -> None:
    from tqdm import tqdm

    file.seek(0)
    file.truncate()
    digest = hashlib.md5(usedforsecurity=False)
    with _open(url) as response:
        length = response.headers.get("Content-Length")
        size = int(length) if length else None
        log.info("downloading %s", url)
        name = url.rsplit("/", 1)[-1]
        # disable=None: no bar unless stderr is a terminal.
        with tqdm(total=size, unit="B", unit_scale=True, desc=name, leave=False, disable=None) as bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                digest.update(chunk)
                bar.update(len(chunk))
    if size is not None and file.tell() != size:
        raise DataError(f"cut off after {file.tell():,} of {size:,} bytes, nothing kept")
    if digest.hexdigest() != md5:
        raise DataError(f"checksum mismatch: expected md5 {md5}, found {digest.hexdigest()}, nothing kept")


def _open(url: str) -> http.client.HTTPResponse:
    """`urlopen` that answers within `ANSWER_SEC`.

    Its own timeout does not cover name resolution and restarts for each of a host's addresses, so a network that
    drops packets would block it for minutes; hence a thread that can be abandoned.
    """
    reply: Future[http.client.HTTPResponse] = Future()

    def request() -> None:
        try:
            asked = urllib.request.Request(url, headers={"User-Agent": "mlprun"})
            reply.set_result(urllib.request.urlopen(asked, timeout=STALL_SEC))
        except Exception as error:
            reply.set_exception(error)

    threading.Thread(target=request, daemon=True).start()
    try:
        return reply.result(ANSWER_SEC)
    except TimeoutError:
        raise TimeoutError(f"no answer within {ANSWER_SEC:g} s") from None


def check_fingerprints(folder: Path, found: dict[str, str]) -> None:
    """Compare the files of `folder` with their first use, and warn of each change.

    The first fingerprints are kept in `folder/.mlprun-fingerprints.json`, if it can be written. A changed file keeps
    its first fingerprint, so every later run warns too. `found`: file name -> `sha256:…` as just read.
    """
    record = folder / FINGERPRINTS
    known: dict[str, str] = {}
    try:
        known = dict(json.loads(record.read_text(encoding="utf-8")))
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError) as error:
        log.warning("%s cannot be read (%s): the data files count as seen for the first time", record, error)
    for name, fingerprint in found.items():
        if known.get(name, fingerprint) != fingerprint:
            log.warning(
                "%s has changed since its first use: it was %s and is %s. "
                "Results are not comparable with earlier ones; delete %s to accept the new file.",
                *(folder / name, known[name], fingerprint, record),
            )
    if found.keys() <= known.keys():
        return
    try:
        with replacing(record) as file:
            file.write(json.dumps(found | known, indent=2, sort_keys=True).encode())
    except OSError as error:
        log.debug("no fingerprints are kept in %s: %s", folder, error)
