"""A writer: where values, pictures and histograms go. TensorBoard is one, and a user's class is one in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

Values = dict[str, float]  # tag -> number, which may be NaN or infinite
Pixels: TypeAlias = "np.ndarray[Any, Any]"  # uint8 (H, W, 3)
Bins: TypeAlias = "np.ndarray[Any, Any]"  # float64 (bins, 3): lower edge, upper edge, count


@dataclass(frozen=True)
class RunInfo:
    """What a writer is told of its run.

    Attributes:
        directory: the run's own, which exists.
        config: the whole config, as plain nested dicts and lists.
        hparams: what tells runs apart, flat: `optim` -> `Adam`, `optim.lr` -> 0.001.
        num_steps: optimizer steps of the whole run.
        step: those that are done; 0 in a new run.
        keep_until: what an earlier attempt at this run wrote up to this step stays valid; what came after it, and all
            `test/…` values, will be written again. None: the run begins, and nothing stays valid.
        command: the command line that began the run.
        best: the best value of the monitor so far; None before the first evaluation.
        higher_is_better: whether that is the highest.
        id: 16 hexadecimal digits, the run's own; the same after a resume, and wherever the directory is moved.
        group: the name of the sweep that the run belongs to, or empty.
    """

    directory: Path
    config: dict[str, Any]
    hparams: dict[str, bool | float | str]
    num_steps: int
    step: int = 0
    keep_until: int | None = None
    command: str = ""
    best: float | None = None
    higher_is_better: bool = False
    id: str = ""
    group: str = ""


class Writer:
    """Where values go. Does nothing: a subclass overrides what it needs.

    The constructor keeps its arguments; a sweep also calls it to check them. `start` opens files and connections.
    All methods are called by the process that trains, which waits for them. After an exception the run ends with an
    error that names the writer, which is not called again; a resume writes the same values once more.
    """

    def start(self, run: RunInfo) -> None:
        """Open what the run will be written to; called once, before everything else."""

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Record `values` at `step`.

        Args:
            step: optimizer steps done; ascending.
            epoch: None where the data have no length, and for `test/…` values, which come last.
            values: tag (`train/loss`, `val/accuracy`, `optim/lr`) -> number.
        """

    def running_means(self, step: int, values: Values) -> None:
        """Show the training means since the last row, at an evaluation between two; `write` of this step follows.

        They are of fewer steps than those that `write` records, and not part of the record.
        """

    def images(self, step: int, images: dict[str, Pixels]) -> None:
        """Record pictures: tag (`pictures/filters`, `test/confusion_matrix`) -> uint8 of shape (H, W, 3)."""

    def histograms(self, step: int, histograms: dict[str, Bins]) -> None:
        """Record histograms: tag -> float64 of shape (bins, 3): lower edge, upper edge, count."""

    def tick(self, step: int) -> None:
        """A step is done; for progress bars. Called at every step, so it must be fast."""

    def flush(self) -> None:
        """Return when all that was written is safe: a checkpoint follows, from which a resume may go on."""

    def finish(self, status: str) -> None:
        """Close everything; the run is `completed`, `failed` or `interrupted`."""


class WriterError(Exception):
    """A writer raised something of its own, the `__cause__`; the run's state is whole."""
