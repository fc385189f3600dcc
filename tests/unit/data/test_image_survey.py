"""What is said of the files of a data set before a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlprun.data import image_survey
from mlprun.data.image_survey import describe, has_deep_images


@pytest.fixture
def paths(tmp_path: Path) -> list[str]:
    """One file of each kind."""
    grey = Image.new("L", (8, 8), 100)
    shape = Image.fromarray(np.eye(8, dtype=np.uint8) * 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey.save(tmp_path / "0.jpg", exif=exif)
    grey.convert("RGB").save(tmp_path / "1.png")
    Image.merge("LA", [Image.new("L", (8, 8), 255), shape]).save(tmp_path / "2.png")
    grey.save(tmp_path / "3.gif", save_all=True, append_images=[shape])
    (tmp_path / "4.png").write_bytes(b"damaged")
    return sorted(map(str, tmp_path.iterdir()))


def test_modes_and_what_becomes_of_them_are_counted(paths: list[str]) -> None:
    [line] = describe(paths)
    for part in ("1 RGB", "1 LA (composited on white)", "1 turned upright (EXIF)", "1 of several frames (the first is"):
        assert part in line
    assert f"1 that cannot be read: {paths[4]}" in line
    assert line.endswith("(of 5 images)")


def test_what_is_lost_is_reported_once(paths: list[str], caplog: pytest.LogCaptureFixture) -> None:
    folder = Path(paths[0]).parent
    assert not has_deep_images(folder, paths)
    assert caplog.messages == [
        f"{folder}: only the first frame or page is used of 3.gif",
        f"{folder}: images are composited on white, which leaves nothing of white ones on transparent: 2.png",
    ]


def test_a_sample_of_many_files_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    monkeypatch.setattr(image_survey, "read_facts", opened.append)
    has_deep_images(tmp_path, [f"{i}.png" for i in range(5000)])
    has_deep_images(tmp_path, [f"{i}.JPG" for i in range(5000)])  # 8 bits and opaque, whatever they are
    assert opened == [f"{i}.png" for i in range(0, 5000, 5)]
