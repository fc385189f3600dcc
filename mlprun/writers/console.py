"""The terminal."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

from mlprun.formatting import format_metric
from mlprun.writers.base import Bins, Pixels, Values

log = logging.getLogger("mlprun")


class Console:
    """The terminal: a progress bar with ETA where there is one, and a line for each evaluation everywhere."""

    def __init__(self, num_steps: int, start: int = 0) -> None:
        self._num_steps = num_steps
        self._bar = (
            tqdm(total=num_steps, initial=start, unit="step", leave=False, mininterval=0.2, smoothing=0.05)
            if sys.stderr.isatty()
            else None
        )

    def tick(self, step: int) -> None:
        """Advance the bar."""
        if self._bar is not None:
            self._bar.update(1)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Show an evaluation on a line of its own; steps that only log training values move the bar alone."""
        if not any(tag.startswith("val/") for tag in values):
            return
        chosen = [tag for tag in values if tag == "train/loss" or tag.startswith("val/")]
        width = len(str(self._num_steps))
        where = f"step {step:{width}d}/{self._num_steps}"
        if epoch is not None:
            where += f"  epoch {epoch:6.2f}"
        log.info("%s", where + "  " + "  ".join(f"{tag} {format_metric(values[tag])}" for tag in chosen))

    def draw(self, step: int, images: dict[str, Pixels], histograms: dict[str, Bins]) -> None:
        """Nothing: a terminal shows text."""

    def flush(self) -> None:
        """Nothing to do: the terminal keeps nothing."""

    def close(self, status: str) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
