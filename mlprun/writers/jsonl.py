"""metrics.jsonl: a row for every step whose values were logged."""

from __future__ import annotations

from pathlib import Path

from mlprun.files import fsync, naming_path, sync_folder
from mlprun.runs.metrics import cut_rows, format_row
from mlprun.writers.base import Bins, Pixels, Values


class JsonLines:
    """metrics.jsonl: one flat object a logged step, the values that TensorBoard shows.

    Args:
        path: of the file.
        keep_until: step of the checkpoint from which the run goes on; later rows are cut off, and a torn last one.
            None for a run that begins: the file starts empty.

    Raises:
        RunError: a row to be kept is damaged, or the file cannot be written; every method may raise the latter.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self._path = path
        with naming_path(path):
            if keep_until is not None and path.exists():
                cut_rows(path, keep_until)
            self._file = path.open("w" if keep_until is None else "a", encoding="utf-8")
            sync_folder(path.parent)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Append a row."""
        with naming_path(self._path):
            self._file.write(format_row(step, epoch, values))
            self._file.flush()

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Nothing: rows hold numbers."""

    def tick(self, step: int) -> None:
        """Nothing to do at a step without values."""

    def flush(self) -> None:
        """Return when every row is on the disk."""
        with naming_path(self._path):
            self._file.flush()
            fsync(self._file.fileno())

    def close(self, status: str) -> None:
        """Close the file."""
        with naming_path(self._path):
            self._file.close()
