"""The terminal."""

from __future__ import annotations

import logging
import math
import sys

from tqdm import tqdm

from mlprun.formatting import format_metric
from mlprun.writers.base import RunInfo, Values, Writer

log = logging.getLogger("mlprun")


class Console(Writer):
    """The terminal: a progress bar with ETA where there is one, and a line for each evaluation everywhere."""

    def start(self, run: RunInfo) -> None:
        self._num_steps, self._monitor = run.num_steps, run.config.get("monitor")
        self._train = _MeanSinceLine(run.step)
        self._bar = (
            tqdm(total=run.num_steps, initial=run.step, unit="step", leave=False, mininterval=0.2, smoothing=0.05)
            if sys.stderr.isatty()
            else None
        )

    def tick(self, step: int) -> None:
        if self._bar is not None:
            self._bar.update(1)

    def running_means(self, step: int, values: Values) -> None:
        self._train.see(step, values["train/loss"], ends=False)

    def write(self, step: int, epoch: float | None, values: Values) -> None:
        """Show an evaluation on a line of its own; steps that only log training values move the bar alone.

        The training loss of a line is the mean since the line before, whatever `logging.every` is.
        """
        if "train/loss" in values:
            self._train.see(step, values["train/loss"], ends=True)
        if not any(tag.startswith("val/") for tag in values):
            return
        train = {} if (loss := self._train.take()) is None else {"train/loss": loss}
        # the values of a metric that has several, such as one for each class, would fill the screen
        val = [tag for tag in values if tag.startswith("val/") and (tag.count("/") == 1 or tag == self._monitor)]
        shown = train | {tag: values[tag] for tag in val}
        width = len(str(self._num_steps))
        where = f"step {step:{width}d}/{self._num_steps}"
        if epoch is not None:
            where += f"  epoch {epoch:6.2f}"
        log.info("%s", where + "  " + "  ".join(f"{tag} {format_metric(value)}" for tag, value in shown.items()))

    def finish(self, status: str) -> None:
        if self._bar is not None:
            self._bar.close()


class _MeanSinceLine:
    """The mean training loss since the last line, from the means of windows that a line may cut.

    Every step counts the same, so it may differ in the last digit shown if batches differ in size.
    """

    def __init__(self, step: int) -> None:
        self._line, self._start, self._step = step, step, step  # of the last line, of the window, of what was seen
        self._before = self._total = 0.0  # summed over the steps from the last line to the window, and to `_step`

    def see(self, step: int, mean: float, *, ends: bool) -> None:
        """A mean from the beginning of the window to `step`, which `ends` it or not."""
        self._step, self._total = step, self._before + mean * (step - self._start)
        if ends:
            self._start, self._before = step, self._total

    def take(self) -> float | None:
        """The mean up to what was seen last; a line is made of it."""
        if self._step == self._line:
            return None
        mean = self._total / (self._step - self._line)
        self._line = self._step
        self._before = self._before - self._total if math.isfinite(self._total) else 0.0
        self._total = 0.0
        return mean
