"""Signs records, so that a user's own can be told from a stranger's, whose targets are checked before they are called.

The key belongs to the user and is kept outside of all projects, so nobody else can sign a run directory for them. A run
that is copied or moved keeps its signature.
"""

from __future__ import annotations

import errno
import hmac
import json
import logging
import os
import stat
import uuid
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

KEY_BYTES = 32

log = logging.getLogger("mlprun")


def sign(kind: str, values: dict[str, Any]) -> str | None:
    """The signature of a part of a record of this `kind`; None, with a warning, if the key cannot be kept."""
    try:
        key = _key()
    except (OSError, RuntimeError) as error:  # RuntimeError: no home folder
        _warn(str(error))
        return None
    return f"hmac-sha256:{hmac.digest(key, _content(kind, values), 'sha256').hex()}"


def is_signed(kind: str, values: dict[str, Any], signature: object) -> bool:
    """Whether the signature is this user's."""
    if not isinstance(signature, str) or not signature.isascii():
        return False
    try:
        expected = hmac.digest(_read_key(key_file()), _content(kind, values), "sha256").hex()
    except (OSError, RuntimeError):
        return False  # without a key, nothing has been signed here
    return hmac.compare_digest(signature, f"hmac-sha256:{expected}")


def _content(kind: str, values: dict[str, Any]) -> bytes:
    return json.dumps([kind, values]).encode()


def key_file() -> Path:
    """Where the user's key is; RuntimeError without a home folder."""
    return _key_file(os.environ.get("XDG_DATA_HOME", ""), os.environ.get("HOME"))


@cache
def _key_file(base: str, home: str | None) -> Path:
    # As platformdirs would say, whose import takes longer than all the rest. A relative folder would be in a project.
    return (Path(base) if os.path.isabs(base) else Path.home() / ".local" / "share") / "mlprun" / "signing.key"


def _key() -> bytes:
    """The user's key, made at its first use; OSError if that fails."""
    file = key_file()
    try:
        return _read_key(file)
    except FileNotFoundError:
        pass
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = file.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{os.urandom(KEY_BYTES).hex()}\n")
            stream.flush()
            os.fsync(stream.fileno())
        with suppress(FileExistsError):  # another process was faster: its key is used
            os.link(temporary, file)
    finally:
        with suppress(OSError):
            temporary.unlink()
    return _read_key(file)


@cache
def _read_key(file: Path) -> bytes:
    """OSError if there is no key, or others could know it."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(descriptor, "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "must be readable by you alone: chmod 600, or remove it", str(file))
        text = stream.read(2 * KEY_BYTES)
    try:
        key = bytes.fromhex(text.decode("ascii"))
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise OSError(errno.EINVAL, "is damaged: remove it; mlprun will make a new one", str(file))
    return key


@cache
def _warn(problem: str) -> None:
    log.warning(
        "the record is not signed: %s\n  to open it, eval, predict, resume and reproduce need --trust if it uses"
        " installed packages of yours", problem,
    )  # fmt: skip
