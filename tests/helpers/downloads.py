"""Files as MNIST has them, and what a download leaves or lacks."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np

from mlprun.data.mnist import IDX_FILES
from tests.helpers.files import idx_bytes

TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS = IDX_FILES


def idx_contents() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        TRAIN_IMAGES: idx_bytes(rng.integers(0, 256, (20, 28, 28))),
        TRAIN_LABELS: idx_bytes(np.arange(20) % 10),
        TEST_IMAGES: idx_bytes(rng.integers(0, 256, (7, 28, 28))),
        TEST_LABELS: idx_bytes(np.arange(7)),
    }


def closed_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"


def leftovers(root: Path) -> list[Path]:
    return list(root.rglob("*.tmp"))
