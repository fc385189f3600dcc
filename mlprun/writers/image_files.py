"""Pictures as files."""

from __future__ import annotations

from mlprun.files import atomic_write, encode_png, make_folder, naming_path
from mlprun.runs.directory import RunDirectory
from mlprun.writers.base import Pixels, RunInfo, Writer


class ImageFiles(Writer):
    """`pictures/NAME_STEP.png` in the run's directory, to put into a text or a film: what is drawn while it learns.

    Raises:
        RunError: a file cannot be written.
    """

    def start(self, run: RunInfo) -> None:
        self._folder = RunDirectory(run.directory).pictures

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        """Write each whole or not at all."""
        for tag, pixels in images.items():
            kind, _, name = tag.rpartition("/")
            if kind != "pictures":
                continue
            path = self._folder / f"{name}_{step:07d}.png"
            with naming_path(path):
                make_folder(self._folder)
                with atomic_write(path) as file:
                    file.write(encode_png(pixels))
