"""What is shown on a terminal that lacks a character, and where there is no terminal at all."""

from __future__ import annotations

import io
import subprocess
import sys

import pytest

from mlprun import streams


@pytest.mark.parametrize(
    ("encoding", "text", "shown"),
    [
        ("ascii", "loss 0.5 ± 0.1 (8×8) …", b"loss 0.5 +- 0.1 (8x8) ..."),
        ("latin-1", "0.5 ± 0.1 … café", b"0.5 \xb1 0.1 ... caf\xe9"),
        ("ascii", "café 猫 \U0001f408", rb"caf\xe9 \u732b \U0001f408"),
        ("cp1252", "→ 猫 …", b"-> \\u732b \x85"),
        ("utf-8", "猫 \udcff ±", "猫 \\udcff ±".encode()),
    ],
)
def test_what_the_encoding_lacks_is_shown_in_ascii(monkeypatch, encoding, text, shown):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding))
    streams.accept_any_text()
    for stream in (sys.stdout, sys.stderr):
        stream.write(text)
        stream.flush()
        assert stream.buffer.getvalue() == shown


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_no_file_gets_the_number_of_a_closed_stream(tmp_path, closed):
    code = (
        "from mlprun import streams; streams.accept_any_text(); import os, sys\n"
        "print('out'); print('err', file=sys.stderr); sys.stdin.read(); os.write(1, b''), os.write(2, b'')\n"
        "file = open('file', 'w'); file.write(str(file.fileno()))"
    )
    subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        stdin=subprocess.DEVNULL, capture_output=True, check=True, cwd=tmp_path,
    )  # fmt: skip
    assert int((tmp_path / "file").read_text()) > 2
