"""A headless Chromium, driven through its DevTools pipe: JSON messages that end with a zero byte."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
# the text on the page, also that in shadow roots, where `innerText` ends
TEXT = """(function text(node) {
    if (node.nodeType === Node.TEXT_NODE) return node.data;
    if (["SCRIPT", "NOSCRIPT", "STYLE", "TEMPLATE"].includes(node.nodeName) || node.hidden) return "";
    return [node.shadowRoot, node].filter(Boolean).flatMap(of => [...of.childNodes]).map(text).join(" ");
})(document.body)"""

IMAGES = """(function images(node) {
    const own = node.nodeName === "IMG" ? [[node.naturalWidth, node.getBoundingClientRect().width]] : [];
    return own.concat(...[node.shadowRoot, node].filter(Boolean).flatMap(of => [...of.childNodes]).map(images));
})(document.body)"""


class Page:
    """A page of a browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = to_browser
        self._replies = os.fdopen(from_browser, "rb")
        self._number = 0
        self._session: dict[str, str] = {}
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            received = bytearray()
            while (byte := self._replies.read(1)) != b"\0":
                assert byte, "the browser has ended"
                received += byte
            reply = json.loads(received)
            if reply.get("id") == self._number:
                return reply["result"]

    def open(self, address: str, *wanted: str, seconds: float = 60) -> str:
        """The text of a page, as words, once it has all that is wanted; without it, at the end of the time."""
        self._call("Page.navigate", url="about:blank")  # a new fragment alone would not load it again
        self._call("Page.navigate", url=address)
        end = time.monotonic() + seconds
        while True:
            shown = self._call("Runtime.evaluate", expression=TEXT)["result"].get("value") or ""
            text = " ".join(shown.split())
            if all(words in text for words in wanted) or time.monotonic() > end:
                return text
            time.sleep(0.25)

    def image_widths(self) -> list[list[float]]:
        """Of each picture on the page, the pixels that it has and the pixels that it is shown with."""
        return self._call("Runtime.evaluate", expression=IMAGES, returnByValue=True)["result"]["value"]

    def picture(self, file: Path, seconds: float = 30) -> None:
        """Save a picture of the page once it no longer changes: curves are drawn by threads, and moved into place."""
        end, same, shown = time.monotonic() + seconds, 0, ""
        while same < 4 and time.monotonic() < end:
            time.sleep(0.5)
            now = self._call("Page.captureScreenshot")["data"]
            same, shown = (same + 1 if now == shown else 0), now
        file.write_bytes(base64.b64decode(shown))


@contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of 1400x1000 pixels; the browser ends with the block."""
    commands, replies = os.pipe(), os.pipe()
    command = f'exec "$0" "$@" 3<&{commands[0]} 4>&{replies[1]}'  # where it reads and writes
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1400,1000", "--remote-debugging-pipe"]
    words = ["bash", "-c", command, str(CHROMIUM), *options, f"--user-data-dir={profile}"]
    with subprocess.Popen(words, pass_fds=(commands[0], replies[1]), stderr=subprocess.DEVNULL) as process:
        os.close(commands[0])
        os.close(replies[1])
        try:
            yield Page(commands[1], replies[0])
        finally:
            process.terminate()
            os.close(commands[1])
