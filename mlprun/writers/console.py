"""The terminal."""

from __future__ import annotations

import logging
import sys

from tqdm import tqdm

from mlprun.formatting import format_metric
from mlprun.writers.base import RunInfo, Values, Writer

log = logging.getLogger("mlprun")


class Console(Writer):
    """The terminal: a progress bar with ETA where there is one, and a line for each evaluation everywhere."""

    def start(self, run: RunInfo) -> None:
        self._num_steps, self._monitor = run.num_steps, run.config.get("monitor")
        self._bar = (
            tqdm(total=run.num_steps, initial=run.step, unit="step", leave=False, mininterval=0.2, smoothing=0.05)
            if sys.stderr.isatty()
            else None
        )

    def tick(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Show an evaluation on a line of its own; steps that only log training values move the bar alone."""
        if not any(tag.startswith("val/") for tag in values):
            return
        # the values of a metric that has several, such as one for each class, would fill the screen
        names = [tag for tag in values if tag.count("/") == 1 or tag == self._monitor]
        chosen = [tag for tag in names if tag == "train/loss" or tag.startswith("val/")]
        width = len(str(self._num_steps))
        where = f"step {step:{width}d}/{self._num_steps}"
        if epoch is not None:
            where += f"  epoch {epoch:6.2f}"
        log.info("%s", where + "  " + "  ".join(f"{tag} {format_metric(values[tag])}" for tag in chosen))

    def finish(self, status: str) -> None:
        if self._bar is not None:
            self._bar.close()
