"""Pictures as files."""

from __future__ import annotations

from pathlib import Path

from mlprun.files import atomic_write, encode_png, naming_path
from mlprun.writers.base import Bins, Pixels, Values


class PictureFiles:
    """`pictures/NAME_STEP.png` in the run's directory, to put into a text or a film.

    Args:
        folder: made when there is a picture.

    Raises:
        RunError: a file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Write each whole or not at all."""
        for tag, pixels in images.items():
            path = self._folder / f"{tag.rpartition('/')[2]}_{step:07d}.png"
            with naming_path(path):
                self._folder.mkdir(exist_ok=True)
                with atomic_write(path) as file:
                    file.write(encode_png(pixels))

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Nothing: numbers are written elsewhere."""

    def tick(self, step: int) -> None:
        """Nothing to do at a step without pictures."""

    def flush(self) -> None:
        """Nothing to do: a picture is drawn again by a resume that needs it."""

    def close(self, status: str) -> None:
        """Nothing is open."""
