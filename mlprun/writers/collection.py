"""Several writers as one."""

from __future__ import annotations

from contextlib import ExitStack

from mlprun.writers.base import Bins, Pixels, Values
from mlprun.writers.console import Console
from mlprun.writers.image_files import PictureFiles
from mlprun.writers.jsonl import JsonLines
from mlprun.writers.tensorboard import TensorBoard


class Writers:
    """Several writers as one."""

    def __init__(self, *writers: TensorBoard | JsonLines | PictureFiles | Console) -> None:
        self._writers = writers

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Give the values to each."""
        for writer in self._writers:
            writer.write(step, epoch, values)

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Give what was drawn to each."""
        for writer in self._writers:
            writer.draw(step, images, histograms)

    def tick(self, step: int) -> None:
        """Tell each that a step is done."""
        for writer in self._writers:
            writer.tick(step)

    def flush(self) -> None:
        """Return when all that was written is on the disk."""
        for writer in self._writers:
            writer.flush()

    def close(self, status: str) -> None:
        """Close each, also where one of them fails."""
        with ExitStack() as stack:
            for writer in self._writers:
                stack.callback(writer.close, status)
