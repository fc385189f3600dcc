"""metrics.jsonl: a row for every step whose values were logged."""

from __future__ import annotations

from mlprun.files import fsync, naming_path, open_to_write, sync_folder
from mlprun.runs.directory import RunDirectory
from mlprun.runs.metrics import cut_rows, format_row
from mlprun.writers.base import RunInfo, Values, Writer


class JsonLines(Writer):
    """metrics.jsonl: one flat object per logged step, the values that TensorBoard shows. Test metrics are in run.json.

    Raises:
        RunError: a row to be kept is damaged, or the file cannot be written; every method may raise the latter.
    """

    def start(self, run: RunInfo) -> None:
        """Open the file; the rows after `keep_until` are cut off, and a torn last one."""
        self._path = path = RunDirectory(run.directory).metrics_file
        with naming_path(path):
            if run.keep_until is not None and path.exists():
                cut_rows(path, run.keep_until)
            self._file = open_to_write(path, "w" if run.keep_until is None else "a", "utf-8")
            sync_folder(path.parent)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        logged = {tag: value for tag, value in values.items() if not tag.startswith("test/")}
        if not logged and values:
            return
        with naming_path(self._path):
            self._file.write(format_row(step, epoch, logged))
            self._file.flush()

    def flush(self) -> None:
        with naming_path(self._path):
            self._file.flush()
            fsync(self._file.fileno())

    def finish(self, status: str) -> None:
        try:
            self.flush()
        finally:
            with naming_path(self._path):
                self._file.close()
